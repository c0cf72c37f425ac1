"""Stored targets of a frozen teacher: equal to computed ones, and computed once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import STAGE, jpeg, write_lmdb
from torch import Tensor

from core.config import Alignment, Encoder, Guidance, Optimizer, Pretrain, ReconstructionDecoder
from core.data.record_cache import RecordCache
from core.data.word_images import WordImages
from core.model.targets import FrozenFeatures
from core.runtime import safetensors_io
from core.runtime.artifacts import MODEL
from core.training.pretrain import make_model, pretrain
from core.training.run_context import RunContext
from core.training.target_cache import open_targets

ENCODER = Encoder(patch=(16, 8), width=32, depth=1, heads=2, positions="grid")


def config_of(**changes: Any) -> Pretrain:
    settings: dict[str, Any] = {
        "encoder": ENCODER,
        "decoder": ReconstructionDecoder(width=32, heads=2, feedforward=32, dropout=0),
        "mask": {"ratio": 0.75},
        "guidance": Guidance(),
        "alignment": Alignment(),
        "target": {"kind": "random_feature"},
        "optimizer": Optimizer(base_lr=4e-3, batch=16, epochs=2, warmup_epochs=0.5),
    }
    return Pretrain(**(STAGE | settings | changes))


@pytest.fixture
def images(tmp_path: Path) -> WordImages:
    samples: list[Any] = [(jpeg(3 * number), "word") for number in range(40)]
    samples[7] = (b"broken", "lost")
    return WordImages([write_lmdb(tmp_path / "words", samples)])


@pytest.fixture
def cache(tmp_path: Path) -> RecordCache:
    return RecordCache(tmp_path / "targets")


def weights_after(folder: Path) -> dict[str, Tensor]:
    return safetensors_io.load(folder / MODEL)[0]


def test_a_dummy_image_does_not_stop_the_writing(images: WordImages, cache: RecordCache) -> None:
    config = config_of()
    target = make_model(config, None).target
    stored = open_targets(cache, target, config, images, torch.device("cpu"))
    assert stored is not None
    targets = torch.rand(2, ENCODER.patches, ENCODER.width)
    stored.write([-1, 3], targets)
    assert stored.read([-1]) is None
    stored.write([4], targets[:1])
    read = stored.read([3, 4])
    assert read is not None
    assert torch.equal(read, targets.flip(0))


def assert_equal_weights(first: Path, second: Path) -> None:
    expected = weights_after(first)
    actual = weights_after(second)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_training_with_stored_targets_ends_with_the_same_bits(
    tmp_path: Path, images: WordImages, cache: RecordCache, context: RunContext
) -> None:
    pretrain(config_of(), images, None, tmp_path / "plain", context)
    pretrain(config_of(), images, None, tmp_path / "filling", context, cache)
    pretrain(config_of(), images, None, tmp_path / "reading", context, cache)
    assert_equal_weights(tmp_path / "plain", tmp_path / "filling")
    assert_equal_weights(tmp_path / "plain", tmp_path / "reading")


def test_another_row_with_the_same_teacher_computes_no_target(
    tmp_path: Path,
    images: WordImages,
    cache: RecordCache,
    context: RunContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    compute = FrozenFeatures.forward

    def count(target: FrozenFeatures, inputs: Tensor) -> Tensor:
        calls.append(len(inputs))
        return compute(target, inputs)

    monkeypatch.setattr(FrozenFeatures, "forward", count)
    pretrain(config_of(), images, None, tmp_path / "first", context, cache)
    assert 39 <= sum(calls) < 2 * 39  # at most the batches that reach into the second epoch twice
    calls.clear()
    row = config_of(alignment=None)
    pretrain(row, images, None, tmp_path / "second", context, cache)
    assert not calls
    pretrain(config_of(seed=5), images, None, tmp_path / "third", context, cache)
    assert calls  # the random features of another seed


@pytest.mark.parametrize("change", ["weights", "images", "batch"])
def test_other_targets_have_other_files(
    tmp_path: Path, images: WordImages, cache: RecordCache, context: RunContext, change: str
) -> None:
    config = config_of()
    target = make_model(config, None).target
    assert open_targets(cache, target, config, images, context.device) is not None
    if change == "weights":
        with torch.no_grad():
            next(target.parameters()).view(-1)[0] += 1e-6
    elif change == "images":
        other = write_lmdb(tmp_path / "others", [(jpeg(1), "word")] * 40)
        images = WordImages([other])
    else:
        config = config_of(optimizer=Optimizer(base_lr=4e-3, batch=8))
    assert open_targets(cache, target, config, images, context.device) is not None
    assert len(list(cache.folder.iterdir())) == 2


def test_nothing_is_stored_where_nothing_is_computed_twice(
    images: WordImages, cache: RecordCache, context: RunContext, tmp_path: Path
) -> None:
    """Pixels are cheaper to compute than to read, and a GPU is faster than a disk.

    Targets of a moving average change at each step."""
    for kind in ("pixel", "ema_feature"):
        config = config_of(target={"kind": kind})
        target = make_model(config, None).target
        assert open_targets(cache, target, config, images, context.device) is None
    config = config_of()
    features = make_model(config, None).target
    assert open_targets(cache, features, config, images, torch.device("cuda")) is None
    assert open_targets(None, features, config, images, context.device) is None
    small = RecordCache(tmp_path / "small", budget=1000)
    assert open_targets(small, features, config, images, context.device) is None


def test_training_with_an_ema_target_ignores_the_folder_of_targets(
    tmp_path: Path, images: WordImages, cache: RecordCache, context: RunContext
) -> None:
    config = config_of(target={"kind": "ema_feature", "momentum": 0.5})
    pretrain(config, images, None, tmp_path / "plain", context)
    pretrain(config, images, None, tmp_path / "cached", context, cache)
    assert_equal_weights(tmp_path / "plain", tmp_path / "cached")
    assert not list(cache.folder.glob("*"))


def test_a_torn_target_is_computed_again(
    tmp_path: Path, images: WordImages, cache: RecordCache, context: RunContext
) -> None:
    pretrain(config_of(), images, None, tmp_path / "first", context, cache)
    (path,) = cache.folder.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    pretrain(config_of(), images, None, tmp_path / "second", context, RecordCache(cache.folder))
    assert_equal_weights(tmp_path / "first", tmp_path / "second")
