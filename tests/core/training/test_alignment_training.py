"""Pre-training with a repair of the alignment loss or an EMA target: resume, steps, draws."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE, jpeg, write_lmdb
from torch import Tensor

from core.config import (
    Alignment,
    EmaFeatureTarget,
    Encoder,
    Guidance,
    Optimizer,
    Pretrain,
    ReconstructionDecoder,
)
from core.data.word_images import WordImages
from core.runtime import safetensors_io
from core.runtime.artifacts import CHECKPOINT, METRICS, MODEL
from core.training.pretrain import PretrainTask, make_model, pretrain
from core.training.run_context import Interrupted, RunContext

ENCODER = Encoder(patch=(16, 8), width=32, depth=1, heads=2, positions="grid")
STEPS = 10
STOP = 4  # steps before the interruption


def config_of(repair: dict[str, Any] | None, target: str = "pixel") -> Pretrain:
    settings: dict[str, Any] = {
        "encoder": ENCODER,
        "decoder": ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0.1),
        "mask": {"ratio": 0.75},
        "guidance": Guidance(),
        "alignment": Alignment.model_validate({"repair": repair}),
        "target": {"kind": target},
        "optimizer": Optimizer(base_lr=4e-2, batch=8, epochs=2, warmup_epochs=0.5),
    }
    return Pretrain(**(STAGE | settings))


@pytest.fixture
def images(tmp_path: Path) -> WordImages:
    samples: list[Any] = [(jpeg(3 * number), "word") for number in range(40)]
    samples[7] = (b"broken", "lost")
    return WordImages([write_lmdb(tmp_path / "words", samples)])


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[torch.nn.Module]:
    """The model of each pre-training, in the order in which they start."""
    started: list[torch.nn.Module] = []
    initialize = PretrainTask.__init__

    def record(task: PretrainTask, *arguments: Any) -> None:
        initialize(task, *arguments)
        started.append(task.model)

    monkeypatch.setattr(PretrainTask, "__init__", record)
    return started


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


@pytest.mark.parametrize(
    ("repair", "target"),
    [
        ({"kind": "ema", "momentum": 0.5, "final_momentum": 0.9}, "pixel"),
        (None, "ema_feature"),
        ({"kind": "ema", "momentum": 0.5, "final_momentum": 0.9}, "ema_feature"),
        ({"kind": "vicreg"}, "pixel"),
    ],
    ids=["ema", "ema target", "ema and ema target", "vicreg"],
)
def test_a_resumed_pretraining_ends_with_the_same_bits(
    repair: dict[str, Any] | None,
    target: str,
    tmp_path: Path,
    images: WordImages,
    context: RunContext,
    models: list[torch.nn.Module],
) -> None:
    config = config_of(repair, target)
    pretrain(config, images, None, tmp_path / "whole", context)
    answers = iter([False] * (STOP - 1) + [True])
    stopping = replace(context, should_stop=lambda: next(answers))
    with pytest.raises(Interrupted, match=f"step {STOP} of {STEPS}"):
        pretrain(config, images, None, tmp_path / "cut", stopping)
    stored = safetensors_io.load(tmp_path / "cut" / CHECKPOINT)[0]
    stopped = {name: value.detach().clone() for name, value in models[1].named_parameters()}
    assert_equal({name: stored[f"model.{name}"] for name in stopped}, stopped)
    pretrain(config, images, None, tmp_path / "cut", context)

    whole, cut = (safetensors_io.load(tmp_path / name / MODEL)[0] for name in ("whole", "cut"))
    assert_equal(cut, whole)
    assert_equal(models[2].state_dict(), models[0].state_dict())  # teachers too
    logs = [(tmp_path / name / METRICS).read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_teacher_moves_after_each_step(
    tmp_path: Path,
    images: WordImages,
    context: RunContext,
    models: list[torch.nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states: list[dict[str, Tensor]] = []
    update = PretrainTask.update_teachers

    def record(task: PretrainTask, share: float) -> None:
        weights = task.model.encoder.named_parameters()
        states.append({name: value.detach().double() for name, value in weights})
        assert share == len(states) / STEPS
        update(task, share)

    monkeypatch.setattr(PretrainTask, "update_teachers", record)
    repair = {"kind": "ema", "momentum": 0.5, "final_momentum": 0.5}
    config = config_of(repair).model_copy(
        update={
            "target": EmaFeatureTarget(kind="ema_feature", momentum=0.75, final_momentum=0.75),
        }
    )
    initial = make_model(config, None).encoder.named_parameters()
    start = {name: value.detach().double() for name, value in initial}
    pretrain(config, images, None, tmp_path / "run", context)
    assert len(states) == STEPS
    for part, momentum in {"repair": 0.5, "target": 0.75}.items():
        teacher = models[-1].get_submodule(f"{part}.teacher")
        for name, actual in teacher.named_parameters():
            expected = start[name]
            for state in states:
                expected = momentum * expected + (1 - momentum) * state[name]
            torch.testing.assert_close(actual.double(), expected, atol=1e-6, rtol=1e-5)
            assert not torch.equal(actual, models[-1].get_parameter(f"encoder.{name}"))


def losses_of(folder: Path) -> list[float]:
    lines = (folder / METRICS).read_text().splitlines()
    return [entry["alignment"] for entry in map(json.loads, lines) if "alignment" in entry]


def test_directions_follow_from_the_seed_of_the_run(
    tmp_path: Path, images: WordImages, context: RunContext
) -> None:
    config = config_of({"kind": "sigreg", "directions": 2})
    for name in ("first", "again"):
        pretrain(config, images, None, tmp_path / name, context)
    assert losses_of(tmp_path / "first") == losses_of(tmp_path / "again")
