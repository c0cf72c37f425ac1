"""Costs of runs: the closed forms of core/model/cost.py against counts on the models."""

from pathlib import Path

import pytest
import torch
from commands import REPOSITORY
from conftest import STAGE
from plans import plan_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.config import (
    Contrast,
    ContrastivePretrain,
    Encoder,
    Finetune,
    Pretrain,
    RandomFeatureTarget,
    RecognizerModel,
    StageConfig,
    visible_count,
)
from core.model.cost import Cost, cost
from core.model.recognizer import Recognizer
from core.model.seqclr import SeqCLR
from core.model.vit import VisionTransformer
from core.training.parameters import count_trainable
from core.training.pretrain import make_model

EXPERIMENTS = REPOSITORY / "experiments"
TABLES = (
    "ablation_decoder",
    "ablation_target",
    "ablation_mask",
    "chinese_benchmark",
    "union14m_benchmark",
)
MODEL_KEYS = {"encoder", "decoder", "guidance", "target", "mask", "contrast"}


def count_operations(module: nn.Module, *inputs: Tensor | None) -> int:
    """Operations of a forward pass, counted by PyTorch."""
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops())


def encoder_operations(config: Encoder, visible: int | None = None) -> int:
    patches = None if visible is None else torch.empty(1, visible, dtype=torch.long)
    return count_operations(VisionTransformer(config), torch.empty(1, 3, *config.image), patches)


def seqclr_cost_by_model(config: ContrastivePretrain) -> Cost:
    model = SeqCLR(config.encoder, config.contrast)
    windows = torch.empty(config.contrast.windows, config.encoder.width)
    forward = encoder_operations(config.encoder) + count_operations(model.head, windows)
    return Cost(count_trainable(model), 3 * 2 * forward)


def repair_operations(config: Pretrain) -> int:
    """Operations of the head of an alignment repair, on the [cls] of both branches of an image."""
    repair = make_model(config, None).repair
    if repair is None:
        return 0
    images = 8  # batch norm needs more than one
    counted = count_operations(repair.head, torch.empty(images, config.encoder.width))
    return 2 * counted // images


def pretrain_cost_by_model(config: Pretrain) -> Cost:
    encoder = config.encoder
    model = make_model(config, None)
    visible = visible_count(encoder.patches, config.mask.ratio)
    features = torch.empty(1, 1 + visible, encoder.width)
    numbers = torch.empty(1, visible, dtype=torch.long)
    guidance = None
    trained = encoder_operations(encoder, visible)
    if config.guidance is not None:
        guidance = torch.empty(1, 1 + encoder.patches, encoder.width)
        trained += encoder_operations(encoder)
    trained += count_operations(model.decoder, features, numbers, guidance)
    trained += repair_operations(config)
    modules = [*model.target.modules(), *(model.repair.modules() if model.repair else ())]
    untrained = sum(isinstance(module, VisionTransformer) for module in modules)
    operations = 3 * trained + untrained * encoder_operations(encoder)
    return Cost(count_trainable(model), operations)


def finetune_cost_by_model(config: Finetune) -> Cost:
    fields = {name: getattr(config, name) for name in RecognizerModel.model_fields}
    model = Recognizer(RecognizerModel(**fields))
    image = torch.empty(1, 3, *config.encoder.image)
    tokens = torch.zeros(1, config.max_length, dtype=torch.long)
    lengths = torch.ones(1, dtype=torch.long)
    return Cost(count_trainable(model), 3 * count_operations(model, image, tokens, lengths))


def cost_by_model(config: StageConfig) -> Cost:
    """Cost of training on an image, counted on the modules that a run trains."""
    with torch.device("meta"):
        if isinstance(config, ContrastivePretrain):
            return seqclr_cost_by_model(config)
        if isinstance(config, Pretrain):
            return pretrain_cost_by_model(config)
        assert isinstance(config, Finetune)
        return finetune_cost_by_model(config)


def without_teacher(config: StageConfig) -> StageConfig:
    """The same sizes, but no file of a teacher is needed."""
    if not isinstance(config, Pretrain) or not config.needs_teacher:
        return config
    target = RandomFeatureTarget(kind="random_feature")
    return config.model_copy(update={"start": "random", "target": target})


@pytest.mark.parametrize("scale", ["former_mini", "paper"])
def test_costs_equal_those_counted_on_the_models(scale: str, tmp_path: Path) -> None:
    files = [EXPERIMENTS / f"{name}.yaml" for name in TABLES]
    plan = plan_of(tmp_path, *files, scale=scale, seeds=[0])
    counted = set()
    for run in plan.runs.values():
        if run.stage in ("evaluate", "probe") or (isinstance(run.config, Finetune) and run.unmet):
            continue
        config = without_teacher(run.config)
        sizes = config.model_dump_json(include=MODEL_KEYS)
        if sizes not in counted:
            counted.add(sizes)
            assert cost(config) == cost_by_model(config), run.rows[0]
    assert len(counted) > 8


@pytest.mark.parametrize("kind", ["normalized", "predictor", "ema", "vicreg", "infonce"])
def test_costs_of_alignment_repairs_equal_those_counted_on_the_models(kind: str) -> None:
    settings = {
        "encoder": Encoder(width=32, depth=2, heads=2, patch=(8, 8)),
        "decoder": {},
        "mask": {},
        "guidance": {},
        "target": {"kind": "pixel"},
    }
    config = Pretrain.model_validate(STAGE | settings | {"alignment": {"repair": {"kind": kind}}})
    plain = Pretrain.model_validate(STAGE | settings | {"alignment": {}})
    assert cost(config) == cost_by_model(config)
    assert (cost(config) == cost(plain)) == (kind in ("normalized", "infonce"))


@pytest.mark.parametrize("repair", [None, {"kind": "ema"}], ids=["no repair", "EMA repair"])
def test_an_ema_target_costs_as_much_as_that_of_a_frozen_encoder(
    repair: dict[str, str] | None,
) -> None:
    costs = []
    for kind in ("ema_feature", "random_feature"):
        settings = {
            "encoder": Encoder(width=32, depth=2, heads=2, patch=(8, 8)),
            "decoder": {},
            "mask": {},
            "guidance": {},
            "alignment": {"repair": repair},
            "target": {"kind": kind},
        }
        config = Pretrain.model_validate(STAGE | settings)
        assert cost(config) == cost_by_model(config)
        costs.append(cost(config))
    assert costs[0] == costs[1]


def test_an_evaluation_costs_a_third_of_training_its_recognizer(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, scale="mini", seeds=[0])
    evaluation = next(run for run in plan.runs.values() if run.stage == "evaluate")
    recognizer = plan.runs[evaluation.inputs["recognizer"]].config
    assert isinstance(recognizer, Finetune)
    parameters, training = cost(recognizer)
    assert cost(evaluation.config, recognizer) == (parameters, training / 3)


def test_an_evaluation_without_its_recognizer_has_cost_0(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, scale="mini", seeds=[0])
    evaluation = next(run for run in plan.runs.values() if run.stage == "evaluate")
    assert cost(evaluation.config) == (0, 0.0)


def test_the_cost_of_seqclr_equals_that_counted_on_the_model() -> None:
    encoder = Encoder(width=32, depth=2, heads=2, patch=(8, 8))
    contrast = Contrast(projection=16)
    config = ContrastivePretrain(encoder=encoder, contrast=contrast, **STAGE)
    assert cost(config) == cost_by_model(config)
