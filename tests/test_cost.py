"""What a run costs: the closed forms of `core/model/cost.py` against what the models themselves have and do."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run_command
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from core.config import (
    ContrastivePretrain,
    Encoder,
    Finetune,
    Pretrain,
    RandomFeatureTarget,
    RecognizerModel,
    visible_count,
)
from core.model import cost
from core.model.recognizer import Recognizer
from core.model.seqclr import SeqCLR
from core.model.vit import VisionTransformer
from core.training.parameters import count_trainable
from core.training.pretrain import make_model
from experiments.planning.planner import make_plan
from results.provenance import REPOSITORY
from results.store import Store

TABLES = (
    "ablation_decoder",
    "ablation_target",
    "ablation_mask",
    "chinese_benchmark",
    "union14m_benchmark",
)


def counted(module: nn.Module, *inputs: torch.Tensor | None) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


def encoder_flops(config: Encoder, visible: int | None = None) -> int:
    patches = None if visible is None else torch.empty(1, visible, dtype=torch.long)
    return counted(VisionTransformer(config), torch.empty(1, 3, *config.image), patches)


def by_model(config: Any) -> tuple[int, float]:
    """Parameters, and operations of a training image, of the very modules that a run trains."""
    if isinstance(config, ContrastivePretrain):
        contrasting = SeqCLR(config.encoder, config.contrast)
        head = counted(contrasting.head, torch.empty(config.contrast.windows, config.encoder.width))
        return count_trainable(contrasting), 3 * 2 * (encoder_flops(config.encoder) + head)
    if isinstance(config, Pretrain):
        model = make_model(config, None)
        visible = visible_count(config.encoder.patches, config.mask.ratio)
        features, whole = (
            torch.empty(1, 1 + count, config.encoder.width)
            for count in (visible, config.encoder.patches)
        )
        guided = config.guidance is not None
        decoding = counted(
            model.decoder,
            features,
            torch.empty(1, visible, dtype=torch.long),
            whole if guided else None,
        )
        trained = (
            encoder_flops(config.encoder, visible)
            + decoding
            + (encoder_flops(config.encoder) if guided else 0)
        )
        teacher = 0 if config.target.kind == "pixel" else encoder_flops(config.encoder)
        return count_trainable(model), 3 * trained + teacher
    recognizer = Recognizer(
        RecognizerModel(**{name: getattr(config, name) for name in RecognizerModel.model_fields})
    )
    tokens = torch.zeros(1, config.max_length, dtype=torch.long)
    image = torch.empty(1, 3, *config.encoder.image)
    return count_trainable(recognizer), 3 * counted(
        recognizer, image, tokens, torch.ones(1, dtype=torch.long)
    )


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_costs_are_those_that_are_counted_on_the_models(scale: str, tmp_path: Path) -> None:
    files = [REPOSITORY / f"experiments/{name}.yaml" for name in TABLES]
    plan = make_plan(
        files, scale, Store(tmp_path), precision=lambda: "fp32", overrides={}, seeds=[0]
    )
    kinds = set()
    for run in plan.runs.values():
        config = run.config
        if isinstance(config, Finetune) and run.unmet:
            continue
        if not isinstance(config, Pretrain | ContrastivePretrain | Finetune):
            continue
        if isinstance(config, Pretrain) and config.needs_teacher:  # the same sizes without its file
            config = config.model_copy(
                update={"start": "random", "target": RandomFeatureTarget(kind="random_feature")}
            )
        if (
            told := config.model_dump_json(
                include={"encoder", "decoder", "guidance", "target", "mask", "contrast"}
            )
        ) in kinds:
            continue
        kinds.add(told)
        with torch.device("meta"):
            assert cost.cost(config) == by_model(config), run.rows[0]
    assert len(kinds) > 8


def test_an_evaluation_costs_a_reading_and_without_its_recogniser_is_not_known(
    tmp_path: Path,
) -> None:
    plan = make_plan(
        [REPOSITORY / "experiments/ablation_alignment.yaml"],
        "mini",
        Store(tmp_path),
        precision=lambda: "fp32",
        overrides={},
        seeds=[0],
    )
    evaluation = next(run for run in plan.runs.values() if run.stage == "evaluate")
    recognizer = plan.runs[evaluation.inputs["recognizer"]].config
    assert isinstance(recognizer, Finetune)
    parameters, training = cost.cost(recognizer)
    assert cost.cost(evaluation.config, recognizer) == (parameters, training / 3)
    assert cost.cost(evaluation.config) == (0, 0.0)


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("plan", "experiments/ablation_alignment.yaml"),
        ("status", "experiments/ablation_alignment.yaml"),
    ],
)
def test_what_computes_nothing_imports_no_torch(command: tuple[str, ...], tmp_path: Path) -> None:
    """Its import takes seconds, which a plan must not."""
    results = [] if "--help" in command else ["--results", str(tmp_path)]
    code = "import sys, run\ntry:\n    run.main(sys.argv[1:])\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    run_command([sys.executable, "-c", code, *command, *results], check=True)
