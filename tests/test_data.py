"""Properties of the readers, the charset, the protocol, and the embedded data set."""

import io
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import jpeg, write_lmdb
from PIL import Image

from core import synthetic
from core.config import Rendered
from core.data import ShuffledBatches, WordImages, fingerprint, load_batches
from core.errors import UserError
from core.finetune import usable_labels
from core.metrics import PROTOCOLS, Reading, count, is_correct
from core.text import make_charset

SIZE = (32, 128)
CHARSET = make_charset("ascii94")


def test_several_roots_are_read_as_one(tmp_path: Path) -> None:
    roots = [write_lmdb(tmp_path / "a", [(jpeg(1), "one"), (jpeg(2), "two")]), write_lmdb(tmp_path / "b", [(jpeg(3), "three")])]
    images = WordImages(roots)
    assert len(images) == 3
    assert [images.label(index) for index in range(3)] == ["one", "two", "three"]
    image = images.image(2, SIZE)
    assert image is not None
    assert image.shape == (3, 32, 128)
    assert image.dtype == torch.uint8


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_and_missing_images_are_counted_and_never_replaced(tmp_path: Path, workers: int) -> None:
    samples = [(jpeg(1), "a"), (b"not an image", "b"), (None, "c"), (jpeg(2)[:300], "d"), (jpeg(3), "e")]
    images = WordImages([write_lmdb(tmp_path / "a", samples)])
    batches = list(load_batches(images, SIZE, [[0, 1, 2], [3, 4]], labelled=True, workers=workers))
    assert [batch.indices for batch in batches] == [[0], [4]]
    assert [batch.unreadable for batch in batches] == [[1, 2], [3]]
    assert batches[1].labels == ["e"]


def test_an_empty_or_missing_data_set_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no LMDB here \(data.mdb is missing\)"):
        WordImages([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="the data set is empty"):
        WordImages([write_lmdb(tmp_path / "empty", [])])
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="not a readable LMDB"):
        WordImages([str(tmp_path / "garbage")])


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    same = [(jpeg(1), "a"), (jpeg(2), "b")]
    first, again, other = (
        fingerprint(write_lmdb(tmp_path / name, samples))
        for name, samples in [("x", same), ("y", same), ("z", [(jpeg(1), "a"), (jpeg(2), "B")])]
    )
    assert first == again
    assert first[0] != other[0]


def test_every_epoch_shows_every_image_once_and_resuming_changes_nothing() -> None:
    usable = np.array([3, 5, 8, 9, 11, 12])
    whole = list(ShuffledBatches(usable, 2, 0, 9, seed=4))
    assert list(ShuffledBatches(usable, 2, 4, 9, seed=4)) == whole[4:]
    for epoch in range(3):
        assert sorted(index for batch in whole[3 * epoch : 3 * epoch + 3] for index in batch) == usable.tolist()
    assert whole[:3] != whole[3:6]


def test_labels_that_do_not_fit_are_counted_by_reason(tmp_path: Path) -> None:
    samples = [(jpeg(1), "ok"), (jpeg(1), "x" * 25), (jpeg(1), "x" * 24), (jpeg(1), None), (jpeg(1), "café")]
    usable, dropped = usable_labels(WordImages([write_lmdb(tmp_path / "a", samples)]), CHARSET, 25)
    assert usable.tolist() == [0, 2, 4]
    assert dropped.counts() == {"unreadable": 0, "unlabelled": 1, "over_long": 1, "unknown_characters": 1}
    with pytest.raises(UserError, match="no usable label"):
        usable_labels(WordImages([write_lmdb(tmp_path / "b", [(jpeg(1), None)])]), CHARSET, 25)


def test_the_charset_is_the_released_one() -> None:
    assert len(CHARSET.characters) == 94
    assert CHARSET.characters == string.printable.strip()
    assert (CHARSET.eos, CHARSET.padding, CHARSET.unknown, CHARSET.begin, CHARSET.classes) == (94, 95, 96, 97, 97)


def test_words_survive_encoding_and_unknown_characters_vanish() -> None:
    tokens, lengths = CHARSET.encode(["Hello!", "né"], 10)
    assert lengths.tolist() == [7, 3]
    assert tokens[0].tolist() == [43, 14, 21, 21, 24, 62, 94, 95, 95, 95]
    assert [CHARSET.decode(row) for row in tokens.tolist()] == ["Hello!", "n"]
    with pytest.raises(ValueError, match="at most 9 fit"):
        CHARSET.encode(["x" * 10], 10)


@pytest.mark.parametrize(
    ("label", "prediction", "right"),
    [
        ("It's", "ITS", True),
        ("two words", "twowords", True),
        ("café", "caf", False),
        ("£5", "5", True),
        ("abc", "abd", False),
        ("x" * 25, "x" * 25, False),
    ],
)
def test_waics_ignores_case_and_symbols_but_no_letter(label: str, prediction: str, right: bool) -> None:
    reading = Reading(0, label, prediction, 1.0, CHARSET.can_read(label, 25))
    assert is_correct(reading, PROTOCOLS["waics"]) is right


def test_images_that_could_not_be_read_count_as_wrong() -> None:
    readings = [Reading(0, "a", "a", 1.0), Reading(1, "", "", 0.0, readable=False)]
    assert count(readings, PROTOCOLS["waics"]) == count(readings[::-1], PROTOCOLS["waics"])
    assert (count(readings, PROTOCOLS["waics"]).correct, count(readings, PROTOCOLS["waics"]).images) == (1, 2)


def test_rendering_is_deterministic_in_seed_split_and_index(rendered: Rendered) -> None:
    first, again = (synthetic.render(rendered, "curve", 3) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].tobytes() == again[0].tobytes()
    others = [synthetic.render(rendered.model_copy(update={"seed": 1}), "curve", 3), synthetic.render(rendered, "curve", 4)]
    assert all(first[0].tobytes() != other[0].tobytes() for other in others)


def test_splits_share_no_image_and_test_words_include_unseen_ones() -> None:
    config = Rendered(train=400, validation=60, test=60, vocabulary=600)
    pictures, words = {}, {}
    for split, size in synthetic.splits(config).items():
        samples = [synthetic.render(config, split, index) for index in range(size)]
        pictures[split] = {image.tobytes() for image, _ in samples}
        words[split] = {word for _, text in samples for word in text.split()}
    names = list(pictures)
    assert not any(pictures[a] & pictures[b] for number, a in enumerate(names) for b in names[:number])
    unseen = set(synthetic.vocabulary(config)[2])
    trained = {word for word in words["train"] if word not in words["contextless"]}
    assert not unseen & trained
    for split in ("general", "curve", "multi_oriented", "artistic", "salient", "multi_words"):
        assert words[split] & unseen
        assert words[split] - unseen


def test_each_subset_has_its_character(rendered: Rendered) -> None:
    seen, _, unseen = synthetic.vocabulary(rendered)
    vocabulary = {*seen, *unseen}
    labels = {name: [synthetic.render(rendered, name, index)[1] for index in range(30)] for name in synthetic.SUBSETS}
    assert all(" " in text for text in labels["multi_words"])
    assert not any(" " in text for name in labels if name != "multi_words" for text in labels[name])
    assert len(set(labels["contextless"]) - vocabulary) > 20
    assert set(labels["general"]) <= vocabulary
    assert all(image.getextrema() for image, _ in [synthetic.render(rendered, "artistic", index) for index in range(30)])


def test_every_word_leaves_ink_on_its_image(rendered: Rendered) -> None:
    for split in synthetic.SUBSETS:
        for index in range(20):
            grey = np.asarray(synthetic.render(rendered, split, index)[0].convert("L"), float)
            assert np.percentile(grey, 95) - np.percentile(grey, 1) > 35, (split, index)


def test_rendered_splits_go_through_the_ordinary_reader(rendered: Rendered, tmp_path: Path) -> None:
    *_, last = synthetic.write(rendered, tmp_path, 1, lambda: False)
    assert last == (98, 98)
    for split, size in synthetic.splits(rendered).items():
        images = WordImages([str(tmp_path / split)])
        assert len(images) == size
        picture, text = synthetic.render(rendered, split, 2)
        assert images.label(2) == text
        read = images.image(2, SIZE)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=92)
        assert read is not None
        assert np.array_equal(read.permute(1, 2, 0).numpy(), np.asarray(Image.open(stream)))


def test_an_interrupted_rendering_leaves_only_whole_splits(rendered: Rendered, tmp_path: Path) -> None:
    done = list(synthetic.write(rendered, tmp_path, 1, lambda: True))
    assert len(done) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_real_images_are_read(shared: Path) -> None:
    for name, size in {"iiit5k_train": 2000, "svt_train": 257, "iiit5k_test": 3000, "svt_test": 647}.items():
        images = WordImages([str(shared / "str" / name)])
        assert len(images) == size
        assert images.image(size - 1, SIZE) is not None
        assert images.label(size - 1)
