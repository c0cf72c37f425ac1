"""Properties of the num_workers, the charset, the protocol, and the embedded data set."""

import io
import string
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from conftest import STAGE, jpeg, write_lmdb
from PIL import Image

from core.config import Data, Encoder, Finetune, Mix, TextDecoder
from core.data import batches
from core.data.batches import ShuffledBatches, load_batches
from core.data.lmdb_folder import COUNT_KEY, find_roots, fingerprint, irregular
from core.data.word_images import Selection, WordImages
from core.runtime.errors import UserError
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered
from core.text.charset import make_charset
from core.text.protocols import PROTOCOLS, Reading, count, is_correct
from core.training.finetune import unusable_labels

SIZE = (32, 128)
CHARSET = make_charset("ascii94")
FINETUNE = Finetune(encoder=Encoder(), decoder=TextDecoder(), **STAGE)


def test_several_roots_are_read_as_one(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_and_missing_images_are_counted_and_never_replaced(
    tmp_path: Path, workers: int
) -> None:
    samples = [
        (jpeg(1), "a"),
        (b"not an image", "b"),
        (None, "c"),
        (jpeg(2)[:300], "d"),
        (jpeg(3), "e"),
    ]
    images = WordImages([write_lmdb(tmp_path / "a", samples)])
    batches = list(load_batches(images, SIZE, [[0, 1, 2], [3, 4]], labeled=True, workers=workers))
    assert [batch.indices for batch in batches] == [[0], [4]]
    assert [batch.unreadable for batch in batches] == [[1, 2], [3]]
    assert batches[1].labels == ["e"]


@pytest.mark.parametrize(("declared", "expected"), [(2, 2), (5, 5), (None, 3)])
def test_a_wrong_count_is_told_and_stops_nothing(
    tmp_path: Path, declared: int | None, expected: int
) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(1), "a"), (jpeg(2), "b"), (jpeg(3), "c")], declared)
    if declared is None:
        with lmdb.open(root) as environment, environment.begin(write=True) as transaction:
            transaction.delete(COUNT_KEY)
    images = WordImages([root])
    assert len(images) == expected
    assert "num-samples" in irregular(root)
    assert [images.label(index) for index in range(expected)] == ["a", "b", "c", None, None][
        :expected
    ]
    assert list(images.labels()) == ["a", "b", "c", None, None][:expected]


def test_a_regular_root_has_nothing_to_tell(tmp_path: Path) -> None:
    assert irregular(write_lmdb(tmp_path / "a", [(jpeg(1), "a"), (jpeg(2), "b")])) == ""
    assert irregular(write_lmdb(tmp_path / "b", [(jpeg(1), None), (jpeg(2), None)])) == ""
    assert "3 keys besides num-samples" in irregular(
        write_lmdb(tmp_path / "c", [(jpeg(1), "a"), (jpeg(2), None)])
    )


def test_labels_are_read_in_order_whatever_is_missing(tmp_path: Path) -> None:
    labels = [None, "b", None, None, "e", "é", None]
    roots = [
        write_lmdb(tmp_path / str(number), [(jpeg(1), label) for label in labels])
        for number in range(2)
    ]
    images = WordImages(roots)
    assert list(images.labels()) == labels + labels == [images.label(index) for index in range(14)]


def test_a_data_file_cut_short_is_refused_before_it_can_kill_the_process(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(number), "a") for number in range(40)])
    with open(f"{root}/data.mdb", "r+b") as file:
        file.truncate(8192)
    with pytest.raises(UserError, match="cut short"):
        WordImages([root])


@pytest.mark.parametrize("page", range(2, 12))
def test_a_damaged_page_loses_its_images_or_is_told_in_a_sentence(
    page: int, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 120, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG", quality=95)
    root = write_lmdb(tmp_path / "a", [(stream.getvalue(), f"w{number}") for number in range(60)])
    with open(f"{root}/data.mdb", "r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 4096)
    told = ""
    try:
        images = WordImages([root])
        assert len(list(images.labels())) == 60
        assert sum(images.image(index, SIZE) is not None for index in range(60)) >= 50
        fingerprint(root)
        irregular(root)
    except UserError as error:
        told = str(error)
    assert not told or "damaged" in told


def test_nested_roots_are_found_in_order(tmp_path: Path) -> None:
    for name in ("all/b/deep", "all/a", "all/c"):
        write_lmdb(tmp_path / name, [(jpeg(1), "x")])
    found = find_roots(str(tmp_path / "all"))
    assert [Path(root).relative_to(tmp_path).as_posix() for root in found] == [
        "all/a",
        "all/b/deep",
        "all/c",
    ]
    assert find_roots(found[0]) == [found[0]]
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="no LMDB at or below"):
        find_roots(str(tmp_path / "bare"))
    with pytest.raises(UserError, match="no such folder"):
        find_roots(str(tmp_path / "nowhere"))


def test_a_selection_skips_what_is_left_out() -> None:
    selection = Selection(10, 20, np.array([3, 10, 14, 15, 19, 25, 14]))
    assert len(selection) == 6
    assert selection[np.arange(6)].tolist() == [11, 12, 13, 16, 17, 18]


def test_filtered_images_are_neither_trained_on_nor_tested(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("part", [1 << 20, 4])
def test_every_epoch_shows_every_image_once_and_resuming_changes_nothing(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PART", part)  # more images than that are shuffled in parts
    usable = Selection(3, 17, np.array([4, 6, 7, 10]))
    whole = list(ShuffledBatches([usable], [2], 0, 15, seed=4))
    assert list(ShuffledBatches([usable], [2], 4, 15, seed=4)) == whole[4:]
    epochs = [
        [index for batch in whole[start : start + 5] for index in batch] for start in (0, 5, 10)
    ]
    assert all(sorted(epoch) == usable[np.arange(10)].tolist() for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_mix_keeps_its_share_in_every_batch_and_shows_everything() -> None:
    data = Data(roots=("few",), mix=Mix(roots=("many",), share=0.75))
    sizes, few, many = data.sizes(8), Selection(0, 5, np.array([])), Selection(5, 65, np.array([]))
    assert sizes == [2, 6]
    epoch = data.epoch([5, 60], 8)
    assert epoch == 80
    shown = list(ShuffledBatches([few, many], sizes, 0, epoch // 8, seed=1))
    assert all(sum(index < 5 for index in batch) == 2 for batch in shown)
    assert {index for batch in shown for index in batch} == set(range(65))


def test_labels_that_do_not_fit_are_counted_by_reason(tmp_path: Path) -> None:
    samples = [
        (jpeg(1), "ok"),
        (jpeg(1), "x" * 25),
        (jpeg(1), "x" * 24),
        (jpeg(1), None),
        (jpeg(1), "café"),
    ]
    images = WordImages([write_lmdb(tmp_path / "a", samples)])
    unusable, dropped = unusable_labels(images, FINETUNE)
    assert unusable == [1, 3]
    counts = {name: count for name, count in dropped.counts().items() if count}
    assert counts == {"unlabeled": 1, "over_long": 1, "unknown_characters": 1}
    unusable, dropped = unusable_labels(images, FINETUNE.model_copy(update={"labels": "released"}))
    assert unusable == []
    assert (
        dropped.counts()["replaced"] == 3
    )  # the released code has no room for 24 characters either
    with pytest.raises(UserError, match="no usable label"):
        unusable_labels(WordImages([write_lmdb(tmp_path / "b", [(jpeg(1), None)])]), FINETUNE)


def test_under_policy_released_a_later_sample_takes_the_place(tmp_path: Path) -> None:
    samples = [
        (jpeg(1), "one"),
        (jpeg(2), "x" * 24),
        (b"broken", "no"),
        (jpeg(3), "four"),
        (jpeg(4), "y" * 30),
    ]
    images = WordImages([write_lmdb(tmp_path / "a", samples)])
    strict, released = (
        next(
            iter(
                load_batches(images, SIZE, [[0, 1, 2, 3, 4]], labeled=True, workers=0, limit=limit)
            )
        )
        for limit in (None, 24)
    )
    images.left_out = np.array([3])
    filtered = next(iter(load_batches(images, SIZE, [[1, 2]], labeled=True, workers=0, limit=24)))
    assert filtered.labels == ["one", "one"]  # not what a filter list leaves out
    assert strict.unreadable == [2]
    assert released.labels == ["one", "four", "four", "four", "one"]
    assert released.unreadable == [2]
    assert torch.equal(released.images[2], strict.images[2])


def test_the_charset_is_the_released_one() -> None:
    assert len(CHARSET.characters) == 94
    assert CHARSET.characters == string.printable.strip()
    assert (CHARSET.eos, CHARSET.padding, CHARSET.unknown, CHARSET.begin, CHARSET.classes) == (
        94,
        95,
        96,
        97,
        97,
    )


def test_a_charset_of_lower_case_letters_reads_upper_case_as_these() -> None:
    small = make_charset("abc1'")
    assert small.decode(small.encode(["A1'C"], 6)[0][0].tolist()) == "a1'c"
    assert small.can_read("CAB", 6)
    assert not small.can_read("CABD", 6)
    assert not make_charset("123").folds
    assert not CHARSET.folds


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
        ("£5", "5", False),
        ("abc", "abd", False),
        ("x" * 25, "x" * 25, False),
    ],
)
def test_waics_ignores_case_and_symbols_but_no_letter(
    label: str, prediction: str, right: bool
) -> None:
    reading = Reading(0, label, prediction, 1.0, CHARSET.can_read(label, 25))
    assert is_correct(reading, PROTOCOLS["waics"]) is right


def test_images_that_could_not_be_read_count_as_wrong() -> None:
    readings = [Reading(0, "a", "a", 1.0), Reading(1, "", "", 0.0, readable=False)]
    assert count(readings, PROTOCOLS["waics"]) == count(readings[::-1], PROTOCOLS["waics"])
    assert (
        count(readings, PROTOCOLS["waics"]).correct,
        count(readings, PROTOCOLS["waics"]).images,
    ) == (1, 2)


def test_rendering_is_deterministic_in_seed_split_and_index(rendered: Rendered) -> None:
    first, again = (synthetic.render(rendered, "curve", 3) for _ in range(2))
    assert first[1] == again[1]
    assert first[0].tobytes() == again[0].tobytes()
    others = [
        synthetic.render(rendered.model_copy(update={"seed": 1}), "curve", 3),
        synthetic.render(rendered, "curve", 4),
    ]
    assert all(first[0].tobytes() != other[0].tobytes() for other in others)


def test_splits_share_no_image_and_test_words_include_unseen_ones() -> None:
    config = Rendered(train=400, validation=60, test=60, vocabulary=600)
    pictures, words = {}, {}
    for split, size in synthetic.splits(config).items():
        samples = [synthetic.render(config, split, index) for index in range(size)]
        pictures[split] = {image.tobytes() for image, _ in samples}
        words[split] = {word for _, text in samples for word in text.split()}
    names = list(pictures)
    assert not any(
        pictures[a] & pictures[b] for number, a in enumerate(names) for b in names[:number]
    )
    unseen = set(synthetic.vocabulary(config)[2])
    trained = {word for word in words["train"] if word not in words["contextless"]}
    assert not unseen & trained
    for split in ("general", "curve", "multi_oriented", "artistic", "salient", "multi_words"):
        assert words[split] & unseen
        assert words[split] - unseen


def test_each_subset_has_its_character(rendered: Rendered) -> None:
    seen, _, unseen = synthetic.vocabulary(rendered)
    vocabulary = {*seen, *unseen}
    labels = {
        name: [synthetic.render(rendered, name, index)[1] for index in range(30)]
        for name in synthetic.SUBSETS
    }
    assert all(" " in text for text in labels["multi_words"])
    assert not any(" " in text for name in labels if name != "multi_words" for text in labels[name])
    assert len(set(labels["contextless"]) - vocabulary) > 20
    assert set(labels["general"]) <= vocabulary
    assert all(
        image.getextrema()
        for image, _ in [synthetic.render(rendered, "artistic", index) for index in range(30)]
    )


def test_every_word_leaves_ink_on_its_image(rendered: Rendered) -> None:
    for split in synthetic.SUBSETS:
        for index in range(20):
            gray = np.asarray(synthetic.render(rendered, split, index)[0].convert("L"), float)
            assert np.percentile(gray, 95) - np.percentile(gray, 1) > 35, (split, index)


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


def test_an_interrupted_rendering_leaves_only_whole_splits(
    rendered: Rendered, tmp_path: Path
) -> None:
    done = list(synthetic.write(rendered, tmp_path, 1, lambda: True))
    assert len(done) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_real_images_are_read(shared: Path) -> None:
    for name, size in {
        "iiit5k_train": 2000,
        "svt_train": 257,
        "iiit5k_test": 3000,
        "svt_test": 647,
    }.items():
        images = WordImages([str(shared / "str" / name)])
        assert len(images) == size
        assert images.image(size - 1, SIZE) is not None
        assert images.label(size - 1)
