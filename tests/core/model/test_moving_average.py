"""Moving averages of the encoder: of the EMA repair, of the EMA target, and of both."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import STAGE
from pydantic import ValidationError
from torch import Tensor

from core.checkpoints.export import export_released
from core.config import EmaFeatureTarget, EmaRepair, Encoder, MovingAverage, Pretrain
from core.lmim import LMIM, LMIMOutput
from core.model.masking import random_mask
from core.model.moving_average import averaged_teachers, ema_momentum
from core.model.targets import EmaFeatures
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.seeds import generator
from core.training.parameters import changing, exported_tensors
from core.training.pretrain import make_model

ENCODER = Encoder(width=32, depth=1, heads=2, patch=(16, 8), positions="grid")
REPAIR = {"kind": "ema", "momentum": 0.6, "final_momentum": 0.9}
TARGET = {"kind": "ema_feature", "momentum": 0.5, "final_momentum": 1.0}
PARTS = {"repair": (REPAIR, {"kind": "pixel"}), "target": (None, TARGET), "both": (REPAIR, TARGET)}
COUNT = 4
TEACHER_PREFIXES = ("repair.teacher.", "target.teacher.")  # of their parameters in LMIM
STEPS = 5


def config_of(part: str, **changes: Any) -> Pretrain:
    """A small LMIM with a moving average in these parts."""
    repair, target = PARTS[part]
    settings: dict[str, Any] = {
        "encoder": ENCODER,
        "decoder": {"width": 32, "heads": 2, "feedforward": 32, "dropout": 0},
        "mask": {"ratio": 0.75},
        "guidance": {},
        "alignment": {"repair": repair},
        "target": target,
    }
    return Pretrain.model_validate(STAGE | settings | changes)


def teachers_of(model: LMIM) -> list[VisionTransformer]:
    """The moving averages of a model: of the target, then of the repair."""
    return [part.teacher for part in averaged_teachers(model) if part.teacher is not None]


def forward(model: LMIM) -> LMIMOutput:
    """The model on random images with random guidance views."""
    images = random_images(1)
    views = random_images(2)
    output = model(images, views, random_mask(COUNT, ENCODER.patches, 0.75, generator=generator(0)))
    assert isinstance(output, LMIMOutput)
    return output


def random_images(seed: int) -> Tensor:
    return torch.rand(COUNT, 3, 32, 128, generator=generator(seed))


def move(encoder: VisionTransformer, seed: int) -> None:
    """Add noise to each weight, as a training step would."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(seed)))


def weights_of(encoder: VisionTransformer) -> dict[str, np.ndarray]:
    return {
        name: value.detach().double().numpy().copy() for name, value in encoder.named_parameters()
    }


def averaged_by_hand(
    states: list[dict[str, np.ndarray]], first: float, final: float
) -> dict[str, np.ndarray]:
    """The moving average after the last state. states: the initial one, then one for each step."""
    average, *later = states
    for step, state in enumerate(later, 1):
        momentum = final - (final - first) * (1 + math.cos(math.pi * step / len(later))) / 2
        average = {
            name: momentum * average[name] + (1 - momentum) * state[name] for name in average
        }
    return average


def moved(model: LMIM) -> list[dict[str, np.ndarray]]:
    """Move the encoder and its averages for all steps; the encoder's weights before and after."""
    states = [weights_of(model.encoder)]
    for step in range(1, STEPS + 1):
        move(model.encoder, step)
        states.append(weights_of(model.encoder))
        for part in averaged_teachers(model):
            part.update_teacher(model.encoder, step / STEPS)
    return states


@pytest.mark.parametrize(
    "average",
    [EmaRepair(kind="ema", momentum=0.5, final_momentum=0.9), EmaFeatureTarget(kind="ema_feature")],
    ids=lambda average: str(average.kind),
)
def test_momentum_rises_by_a_half_cosine(average: MovingAverage) -> None:
    first = average.momentum
    final = average.final_momentum
    assert ema_momentum(average, 0) == pytest.approx(first)
    quarter = final - (final - first) * (1 + math.sqrt(0.5)) / 2
    assert ema_momentum(average, 0.25) == pytest.approx(quarter)
    assert ema_momentum(average, 0.5) == pytest.approx((first + final) / 2)
    assert ema_momentum(average, 1) == final


def test_defaults_of_the_momentum_are_those_of_the_sources() -> None:
    target = EmaFeatureTarget(kind="ema_feature")
    repair = EmaRepair(kind="ema")
    assert (target.momentum, target.final_momentum) == (0.996, 1.0)
    assert (repair.momentum, repair.final_momentum) == (0.996, 0.9999)


@pytest.mark.parametrize("part", ["repair", "target"])
@pytest.mark.parametrize(
    "momenta",
    [
        {"momentum": 0.9, "final_momentum": 0.5},
        {"momentum": -0.1},
        {"final_momentum": 1.1},
        {"momentum": True},
        {"momentum": "0.9"},
        {"speed": 1},
    ],
    ids=str,
)
def test_wrong_momenta_are_refused(part: str, momenta: dict[str, Any]) -> None:
    kind = {"repair": EmaRepair, "target": EmaFeatureTarget}[part]
    settings = {"kind": {"repair": "ema", "target": "ema_feature"}[part]}
    kind.model_validate(settings)
    with pytest.raises(ValidationError, match=next(iter(momenta))):
        kind.model_validate(settings | momenta)


@pytest.mark.parametrize("kind", ["pixel", "random_feature", "mae_feature"])
@pytest.mark.parametrize("key", ["momentum", "final_momentum"])
def test_other_targets_refuse_a_momentum(kind: str, key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        config_of("target", target={"kind": kind, key: 0.9})


def test_an_ema_target_refuses_an_option_of_pixels() -> None:
    with pytest.raises(ValidationError, match="normalized"):
        config_of("target", target=TARGET | {"normalized": True})


@pytest.mark.parametrize("part", ["repair", "target"])
def test_the_teacher_is_the_moving_average_of_the_encoder(part: str) -> None:
    model = make_model(config_of(part), None)
    states = moved(model)
    (teacher,) = teachers_of(model)
    first, final = {"repair": (0.6, 0.9), "target": (0.5, 1.0)}[part]
    expected = averaged_by_hand(states, first, final)
    actual = weights_of(teacher)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, atol=1e-6, rtol=1e-5)
        assert np.abs(value - states[0][name]).max() > 1e-3
        assert np.abs(value - states[-1][name]).max() > 1e-3


def test_a_final_momentum_of_one_leaves_the_teacher_as_it_is() -> None:
    model = make_model(config_of("target"), None)
    (teacher,) = teachers_of(model)
    before = weights_of(teacher)
    move(model.encoder, 1)
    model.target.update_teacher(model.encoder, 1.0)  # type: ignore[operator]
    assert all(np.array_equal(value, before[name]) for name, value in weights_of(teacher).items())


def test_teachers_with_equal_momenta_stay_equal() -> None:
    repair = {"kind": "ema", "momentum": 0.5, "final_momentum": 1.0}
    model = make_model(config_of("both", alignment={"repair": repair}), None)
    moved(model)
    of_target, of_repair = (weights_of(teacher) for teacher in teachers_of(model))
    assert all(np.array_equal(of_target[name], of_repair[name]) for name in of_target)


def test_the_target_is_normalized_features_of_the_average_on_the_whole_image() -> None:
    model = make_model(config_of("target"), None)
    states = moved(model)
    average = VisionTransformer(ENCODER)
    expected = averaged_by_hand(states, 0.5, 1.0)
    average.load_state_dict({name: torch.tensor(value) for name, value in expected.items()})
    with torch.no_grad():
        features = average(random_images(1))[:, 1:].double().numpy()  # without [cls]
    centered = features - features.mean(-1, keepdims=True)
    normalized = centered / np.sqrt(features.var(-1, keepdims=True) + 1e-5)
    target = forward(model).target
    assert target.shape == (COUNT, ENCODER.patches, ENCODER.width)
    np.testing.assert_allclose(target.double().numpy(), normalized, atol=1e-4)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_no_gradient_reaches_a_teacher(part: str) -> None:
    model = make_model(config_of(part), None)
    moved(model)  # so that teachers differ from the encoder
    output = forward(model)
    assert not output.target.requires_grad
    output.loss.backward()  # type: ignore[no-untyped-call]
    assert teachers_of(model)
    for teacher in teachers_of(model):
        assert all(value.grad is None for value in teacher.parameters())
        assert not any(value.requires_grad for value in teacher.parameters())
    assert all(value.grad is not None for value in model.encoder.parameters())


@pytest.mark.parametrize("part", sorted(PARTS))
def test_checkpoints_hold_each_teacher_and_exports_none(part: str, tmp_path: Path) -> None:
    config = config_of(part)
    model = make_model(config, None)
    prefixes = {"repair": TEACHER_PREFIXES[:1], "target": TEACHER_PREFIXES[1:]}
    names = {
        f"{prefix}{name}"
        for prefix in prefixes.get(part, TEACHER_PREFIXES)
        for name, _ in model.encoder.named_parameters()
    }
    held = {name for name in changing(model) if name.startswith(TEACHER_PREFIXES)}
    assert held == names
    exported = exported_tensors(model)
    assert all(name.startswith(("encoder.", "decoder.")) for name in exported)
    path = tmp_path / "model.safetensors"
    metadata = {"stage": "pretrain", "config": config.model_dump(mode="json")}
    safetensors_io.save(path, exported, metadata)
    assert export_released(path, tmp_path / "released.pth").weights == len(exported) + 1


def test_rows_with_and_without_an_ema_target_start_at_the_same_encoder() -> None:
    plain = make_model(config_of("target", target={"kind": "pixel"}), None).encoder
    model = make_model(config_of("target"), None)
    for encoder in (model.encoder, *teachers_of(model)):
        for name, value in encoder.named_parameters():
            assert torch.equal(value, plain.get_parameter(name))


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_moving_average_starts_at_the_weights_of_a_teachers_file(
    part: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    other = config_of(part, seed=5)
    weights = exported_tensors(make_model(other, None))
    safetensors_io.save(path, weights, {"config": other.model_dump(mode="json")})
    model = make_model(config_of(part, start="teacher"), path)
    assert len(teachers_of(model)) == (2 if part == "both" else 1)
    for teacher in teachers_of(model):
        for name, parameter in teacher.named_parameters():
            assert torch.equal(parameter, weights[f"encoder.{name}"])
            assert torch.equal(parameter, model.encoder.get_parameter(name))


def test_an_ema_target_needs_no_teachers_file() -> None:
    config = config_of("target")
    assert not config.needs_teacher
    assert isinstance(make_model(config, None).target, EmaFeatures)
