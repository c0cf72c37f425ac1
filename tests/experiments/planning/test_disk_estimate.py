"""Estimates of what runs write, against the files that they write."""

from pathlib import Path

import pytest
import torch
from planned_training import planned_finetuning
from plans import plan_of

from core.config import (
    Alignment,
    ContrastivePretrain,
    EmaFeatureTarget,
    EmaRepair,
    Evaluate,
    Finetune,
    Pretrain,
)
from core.lmim import LMIM
from core.model.cost import cost
from core.model.seqclr import SeqCLR
from core.runtime import safetensors_io
from core.training.checkpoint import Counters, save_checkpoint
from core.training.finetune import make_model
from core.training.optim import make_optimizer
from core.training.parameters import count_trainable, exported_tensors, recognizer_tensors
from core.training.run_context import RunContext
from experiments.planning.disk_estimate import (
    PREDICTION_BYTES,
    RUN_FILES_BYTES,
    DiskUse,
    checkpoint_bytes,
    disk_use,
    rendered_bytes,
    tensor_count,
    trained_parameters,
    weights_bytes,
)
from experiments.running.execute import execute
from results.store import Store

Training = Pretrain | ContrastivePretrain | Finetune


def training_configs(scale: str) -> list[Training]:
    """One config of each kind: MIM, LMIM, SeqCLR, and recognizers."""
    plan = plan_of(Path("unused"), scale=scale)
    runs = {run.rows[-1]: run.config for run in plan.runs.values() if run.stage == "pretrain"}
    configs: list[Training] = []
    for config in runs.values():
        assert isinstance(config, Pretrain)
        configs.append(config)
    guided = next(
        config
        for config in configs
        if isinstance(config, Pretrain) and config.alignment is not None
    )
    for kind in ("predictor", "ema", "vicreg"):
        alignment = Alignment.model_validate({"repair": {"kind": kind}})
        configs.append(guided.model_copy(update={"alignment": alignment}))
    averaged = EmaFeatureTarget(kind="ema_feature")
    for repair in (None, EmaRepair(kind="ema")):
        changes = {"target": averaged, "alignment": Alignment(repair=repair)}
        configs.append(guided.model_copy(update=changes))
    shared = configs[0].model_dump(include={"encoder", "optimizer", "data", "precision", "seed"})
    configs.append(ContrastivePretrain.model_validate(shared | {"contrast": {}}))
    finetune = next(run.config for run in plan.runs.values() if run.stage == "finetune")
    assert isinstance(finetune, Finetune)
    for options in ({}, {"ctc_weight": 0.5}, {"frozen_blocks": 1}, {"frozen_blocks": 2}):
        configs.append(finetune.model_copy(update=options))
    configs.append(finetune.model_copy(update={"decoder": None}))
    return configs


def model_of(config: Training) -> torch.nn.Module:
    if isinstance(config, Finetune):
        return make_model(config, None)
    if isinstance(config, ContrastivePretrain):
        return SeqCLR(config.encoder, config.contrast)
    return LMIM(config)


@pytest.mark.parametrize("scale", ["smoke", "former_mini"])
def test_weights_and_checkpoints_have_the_estimated_size(tmp_path: Path, scale: str) -> None:
    for config in training_configs(scale):
        model = model_of(config)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        optimizer = make_optimizer(model, config.optimizer, config.encoder.depth)
        optimizer.step()
        checkpoint = tmp_path / "checkpoint.safetensors"
        save_checkpoint(checkpoint, model, optimizer, Counters())
        assert checkpoint_bytes(config) == pytest.approx(checkpoint.stat().st_size, rel=0.1)
        weights = tmp_path / "model.safetensors"
        is_recognizer = isinstance(config, Finetune)
        tensors = recognizer_tensors(model) if is_recognizer else exported_tensors(model)
        safetensors_io.save(weights, tensors, {"config": config.model_dump(mode="json")})
        assert weights_bytes(config) == pytest.approx(weights.stat().st_size, rel=0.1)


@pytest.mark.parametrize("scale", ["smoke", "former_mini"])
def test_parameters_and_tensors_are_counted_exactly(scale: str) -> None:
    for config in training_configs(scale):
        model = model_of(config)
        assert trained_parameters(config) == count_trainable(model)
        if isinstance(config, Finetune):
            continue
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert tensor_count(config) == len(trained)


def test_a_training_writes_what_is_estimated(tmp_path: Path, context: RunContext) -> None:
    run = planned_finetuning(tmp_path / "words", last_checkpoints=2)
    store = Store(tmp_path / "results")
    folder = store.run(run.id).folder
    with store.run(run.id).lock():
        assert execute(run, store, context).state == "complete"
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert disk_use(run).kept == pytest.approx(written, rel=0.1)


@pytest.mark.slow
def test_whole_runs_and_words_at_scale_smoke_have_the_estimated_size(
    tmp_path: Path, context: RunContext
) -> None:
    plan = plan_of(tmp_path)
    store = Store(tmp_path)
    rendered = {}
    for run in list(plan.runs.values())[:4]:
        with store.run(run.id).lock():
            assert execute(run, store, context).state == "complete"
        folder = store.run(run.id).folder
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert disk_use(run).kept == pytest.approx(written, rel=0.1)
        for root in run.data.get("train", ()):
            assert root.synthetic is not None
            rendered[root.synthetic] = Path(root.path).parent
    for synthetic, folder in rendered.items():
        written = sum(path.stat().st_size for path in folder.rglob("*.mdb"))
        assert rendered_bytes(synthetic) == pytest.approx(written, rel=0.1)


def test_a_training_needs_room_for_two_checkpoints(tmp_path: Path) -> None:
    run = planned_finetuning(tmp_path / "words")
    assert isinstance(run.config, Finetune)
    assert checkpoint_bytes(run.config) > 3 * 4 * cost(run.config).parameters
    assert disk_use(run).peak > 2 * checkpoint_bytes(run.config)
    assert disk_use(run).peak > checkpoint_bytes(run.config) + weights_bytes(run.config)


@pytest.mark.parametrize("last", [1, 5])
def test_an_evaluation_writes_a_row_for_each_image_and_checkpoint(last: int) -> None:
    plan = plan_of(Path("unused"), overrides={"evaluate.last": last})
    run = next(run for run in plan.runs.values() if isinstance(run.config, Evaluate))
    use = disk_use(run)
    assert use.temporary == 0
    rows = last * run.images() * PREDICTION_BYTES
    assert use.kept - RUN_FILES_BYTES == pytest.approx(rows, rel=0.05)


def test_the_peak_is_the_sum_of_kept_and_temporary_bytes() -> None:
    assert DiskUse(5, 7).peak == 12
