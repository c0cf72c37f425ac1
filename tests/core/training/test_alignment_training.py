"""Pre-training with a repair of the alignment loss: resume, and draws of its steps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE, jpeg, write_lmdb
from torch import Tensor

from core.config import Alignment, Encoder, Guidance, Optimizer, Pretrain, ReconstructionDecoder
from core.data.word_images import WordImages
from core.runtime import safetensors_io
from core.runtime.artifacts import CHECKPOINT, METRICS, MODEL
from core.training.pretrain import PretrainTask, pretrain
from core.training.run_context import Interrupted, RunContext

ENCODER = Encoder(patch=(16, 8), width=32, depth=1, heads=2, positions="grid")
STEPS = 10
STOP = 4  # steps before the interruption


def config_of(repair: dict[str, Any]) -> Pretrain:
    settings: dict[str, Any] = {
        "encoder": ENCODER,
        "decoder": ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0.1),
        "mask": {"ratio": 0.75},
        "guidance": Guidance(),
        "alignment": Alignment.model_validate({"repair": repair}),
        "target": {"kind": "pixel"},
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
    "repair",
    [{"kind": "ema", "momentum": 0.5, "final_momentum": 0.9}, {"kind": "vicreg"}],
    ids=lambda repair: str(repair["kind"]),
)
def test_a_resumed_pretraining_ends_with_the_same_bits(
    repair: dict[str, Any],
    tmp_path: Path,
    images: WordImages,
    context: RunContext,
    models: list[torch.nn.Module],
) -> None:
    config = config_of(repair)
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
    assert_equal(models[2].state_dict(), models[0].state_dict())  # the teacher too
    logs = [(tmp_path / name / METRICS).read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_teacher_lags_behind_the_encoder(
    tmp_path: Path, images: WordImages, context: RunContext, models: list[torch.nn.Module]
) -> None:
    config = config_of({"kind": "ema", "momentum": 0.5, "final_momentum": 0.9})
    pretrain(config, images, None, tmp_path / "run", context)
    encoder = dict(models[0].get_submodule("encoder").named_parameters())
    teacher = dict(models[0].get_submodule("repair.teacher").named_parameters())
    with torch.no_grad():
        distance = sum(float((teacher[name] - encoder[name]).abs().sum()) for name in encoder)
    assert distance > 0


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
