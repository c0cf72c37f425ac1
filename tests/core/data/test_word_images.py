"""Word images: several roots as one data set, broken images, labels, filter lists."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import STAGE, jpeg, write_lmdb

from core.config import Encoder, Finetune, TextDecoder
from core.data.batches import load_batches
from core.data.lmdb_folder import fingerprint
from core.data.word_images import Selection, WordImages
from core.runtime.errors import UserError
from core.training.finetune import unusable_labels

SIZE = (32, 128)
FINETUNE = Finetune(encoder=Encoder(), decoder=TextDecoder(), **STAGE)


def test_several_roots_are_one_data_set(tmp_path: Path) -> None:
    roots = [
        write_lmdb(tmp_path / "a", [(jpeg(1), "one"), (jpeg(2), "two")]),
        write_lmdb(tmp_path / "b", [(jpeg(3), "three")]),
    ]
    images = WordImages(roots)
    assert len(images) == 3
    assert [images.label(index) for index in range(3)] == ["one", "two", "three"]
    image = images.image(2, SIZE)
    assert image is not None
    assert image.shape == (3, 32, 128)
    assert image.dtype == torch.uint8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_and_missing_images_are_counted_and_never_replaced(
    tmp_path: Path, num_workers: int
) -> None:
    samples = [
        (jpeg(1), "a"),
        (b"not an image", "b"),
        (None, "c"),
        (jpeg(2)[:300], "d"),
        (jpeg(3), "e"),
    ]
    images = WordImages([write_lmdb(tmp_path / "a", [*samples])])
    order = [[0, 1, 2], [3, 4]]
    batches = list(load_batches(images, SIZE, order, labeled=True, num_workers=num_workers))
    assert [batch.indices for batch in batches] == [[0], [4]]
    assert [batch.unreadable for batch in batches] == [[1, 2], [3]]
    assert batches[1].labels == ["e"]


def test_labels_keep_their_order_where_keys_are_missing(tmp_path: Path) -> None:
    labels = [None, "b", None, None, "e", "é", None]
    roots = [
        write_lmdb(tmp_path / str(number), [(jpeg(1), label) for label in labels])
        for number in range(2)
    ]
    images = WordImages(roots)
    assert list(images.labels()) == labels + labels == [images.label(index) for index in range(14)]


def test_a_selection_omits_excluded_numbers() -> None:
    selection = Selection(10, 20, np.array([3, 10, 14, 15, 19, 25, 14]))
    assert len(selection) == 6
    assert selection[np.arange(6)].tolist() == [11, 12, 13, 16, 17, 18]


def test_filtered_images_are_not_selected(tmp_path: Path) -> None:
    roots = [
        write_lmdb(tmp_path / name, [(jpeg(number), name) for number in range(4)])
        for name in ("a", "b")
    ]
    filters = tmp_path / "filter.tsv"
    filters.write_text(f"# why\nfingerprint\tindex\tkind\n{fingerprint(roots[1])[0]}\t2\tnear\n")
    images = WordImages(roots, [str(filters)])
    assert images.selection()[np.arange(7)].tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert len(images.selection([0], 0, 4)) == 3
    with pytest.raises(UserError, match="made for other data"):
        WordImages(roots[:1], [str(filters)])
    filters.write_text("nothing of the kind\n")
    with pytest.raises(UserError, match="not a filter list"):
        WordImages(roots, [str(filters)])


def test_labels_that_do_not_fit_are_counted_by_reason(tmp_path: Path) -> None:
    samples = [
        (jpeg(1), "ok"),
        (jpeg(1), "x" * 25),
        (jpeg(1), "x" * 24),
        (jpeg(1), None),
        (jpeg(1), "café"),
    ]
    images = WordImages([write_lmdb(tmp_path / "a", [*samples])])
    unusable, dropped = unusable_labels(images, FINETUNE)
    assert unusable == [1, 3]
    counts = {name: count for name, count in dropped.counts().items() if count}
    assert counts == {"unlabeled": 1, "over_long": 1, "unknown_characters": 1}
    unusable, dropped = unusable_labels(images, FINETUNE.model_copy(update={"labels": "released"}))
    assert unusable == []
    # The released code has no room for 24 characters either.
    assert dropped.counts()["replaced"] == 3
    with pytest.raises(UserError, match="no usable label"):
        unusable_labels(WordImages([write_lmdb(tmp_path / "b", [(jpeg(1), None)])]), FINETUNE)


def test_real_images_can_be_read(shared: Path) -> None:
    sizes = {"iiit5k_train": 2000, "svt_train": 257, "iiit5k_test": 3000, "svt_test": 647}
    for name, size in sizes.items():
        images = WordImages([str(shared / "str" / name)])
        assert len(images) == size
        assert images.image(size - 1, SIZE) is not None
        assert images.label(size - 1)
