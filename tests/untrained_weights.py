"""Weights for published records, which come without any: models at their initial weights."""

from collections.abc import Sequence
from pathlib import Path

from core.config import ContrastivePretrain, Finetune, Pretrain
from core.model.seqclr import SeqCLR
from core.runtime import safetensors_io
from core.training import finetune, pretrain
from core.training.parameters import exported_tensors, recognizer_tensors
from experiments.planning.plan import PlannedRun
from experiments.planning.planner import make_plan
from results.provenance import REPOSITORY
from results.store import Store


def write_untrained_weights(results: Path, files: Sequence[str], scale: str) -> None:
    """Write `model.safetensors` of all recorded trainings of some experiments at seed 0.

    results: a results folder with the records. files: experiment files, from the repository's
    folder."""
    store = Store(results)
    experiments = [REPOSITORY / file for file in files]
    plan = make_plan(experiments, scale, store, precision=lambda: "bf16", overrides={}, seeds=[0])
    for run in plan.runs.values():  # a teacher comes before the runs that need it
        if (store.run(run.id).folder / "record.json").is_file():
            _write(run, store)


def _write(run: PlannedRun, store: Store) -> None:
    inputs = {role: store.weights(name) for role, name in run.inputs.items()}
    config = run.config
    if isinstance(config, Finetune):
        recognizer = finetune.make_model(config, inputs.get("encoder"))
        tensors = recognizer_tensors(recognizer)
    elif isinstance(config, Pretrain):
        tensors = exported_tensors(pretrain.make_model(config, inputs.get("teacher")))
    elif isinstance(config, ContrastivePretrain):
        tensors = exported_tensors(SeqCLR(config.encoder, config.contrast))
    else:
        return
    metadata = {"stage": run.stage, "config": config.model_dump(mode="json")}
    safetensors_io.save(store.weights(run.id), tensors, metadata)
