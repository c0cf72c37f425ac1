"""Batches: order of images, mixed groups, label policy `released`, memory."""

import os
import shutil
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from conftest import jpeg, write_lmdb

from core.config import Data, Mix
from core.data import batches
from core.data.batches import Batch, ShuffledBatches, load_batches
from core.data.key_layout import COUNT_KEY
from core.data.lmdb_folder import fingerprint, root_irregularity
from core.data.word_images import Selection, WordImages

SIZE = (32, 128)


@pytest.mark.parametrize("part", [1 << 20, 4])
def test_every_epoch_has_every_image_once_also_after_resuming(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SHUFFLE_PART", part)
    usable = Selection(3, 17, np.array([4, 6, 7, 10]))
    whole = list(ShuffledBatches([usable], [2], 0, 15, seed=4))
    assert list(ShuffledBatches([usable], [2], 4, 15, seed=4)) == whole[4:]
    epochs = [
        [index for batch in whole[start : start + 5] for index in batch] for start in (0, 5, 10)
    ]
    assert all(sorted(epoch) == usable[np.arange(10)].tolist() for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_mix_keeps_its_share_of_every_batch_and_shows_all_images() -> None:
    data = Data(roots=("few",), mix=Mix(roots=("many",), share=0.75))
    sizes = data.group_sizes(8)
    few = Selection(0, 5, np.array([]))
    many = Selection(5, 65, np.array([]))
    assert sizes == [2, 6]
    epoch = data.epoch_size([5, 60], 8)
    assert epoch == 80
    shown = list(ShuffledBatches([few, many], sizes, 0, epoch // 8, seed=1))
    assert all(sum(index < 5 for index in batch) == 2 for batch in shown)
    assert {index for batch in shown for index in batch} == set(range(65))


def load_batch(images: WordImages, numbers: list[int], label_limit: int | None) -> Batch:
    batch: Batch
    (batch,) = load_batches(
        images, SIZE, [numbers], labeled=True, num_workers=0, label_limit=label_limit
    )
    return batch


def test_under_policy_released_a_later_sample_replaces_a_bad_one(tmp_path: Path) -> None:
    samples = [
        (jpeg(1), "one"),
        (jpeg(2), "x" * 24),
        (b"broken", "no"),
        (jpeg(3), "four"),
        (jpeg(4), "y" * 30),
    ]
    images = WordImages([write_lmdb(tmp_path / "a", [*samples])])
    strict = load_batch(images, [0, 1, 2, 3, 4], None)
    released = load_batch(images, [0, 1, 2, 3, 4], 24)
    assert strict.unreadable == [2]
    assert released.labels == ["one", "four", "four", "four", "one"]
    assert released.unreadable == [2]
    assert torch.equal(released.images[2], strict.images[2])
    images.filtered = np.array([3])
    assert load_batch(images, [1, 2], 24).labels == ["one", "one"], "3 is filtered"


def anonymous_memory() -> int:
    """Kilobytes of this process that are not pages of mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def write_one_byte_images(folder: Path, count: int, labels: bool) -> str:
    """An LMDB of `count` images (and labels) of one byte."""
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 34, sync=False) as environment:
        for name in (b"image", b"label") if labels else (b"image",):
            for start in range(1, count + 1, 1 << 20):
                with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    numbers = range(start, min(start + (1 << 20), count + 1))
                    cursor.putmulti(
                        ((b"%s-%09d" % (name, number), b"x") for number in numbers), append=True
                    )
        with environment.begin(write=True) as transaction:
            transaction.put(COUNT_KEY, str(count).encode())
    return str(folder)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
@pytest.mark.parametrize(("largest", "labels"), [(10_000_000, False), (300_000, True)])
def test_memory_does_not_grow_with_the_number_of_images(
    largest: int, labels: bool, tmp_path: Path
) -> None:
    """Union14M-U has ten million images without labels.

    Opening, fingerprint, labels, and a thousand batches from the middle of an epoch may need the
    memory of a thousand images and of one shuffled part (8 MB, twice while it is drawn).
    """
    growth = []
    for count in (1000, largest):
        root = write_one_byte_images(tmp_path / str(count), count, labels)
        before = anonymous_memory()
        images = WordImages([root])
        assert fingerprint(root)[1] == count
        assert root_irregularity(root) == ""
        assert sum(label == "x" for label in images.labels()) == (count if labels else 0)
        steps = count // 64 // 2
        order = ShuffledBatches([images.selection()], [64], steps, steps + 1000, seed=0)
        shown = [index for batch in order for index in batch]
        assert images.raw(shown[0]) == b"x"
        assert 0 <= min(shown) <= max(shown) < count
        del shown
        growth.append(anonymous_memory() - before)
        shutil.rmtree(root)
    assert growth[1] < growth[0] + 24_000
