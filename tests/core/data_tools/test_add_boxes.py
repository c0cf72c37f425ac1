"""`run.py data build --boxes`: boxes and photos beside labels; what does not fit is reported."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call, jpeg, write_lmdb

from core.data.character_boxes import boxes_key
from core.data.key_layout import COUNT_KEY, PHOTO, STANDARD
from core.data.lmdb_folder import (
    boxes_fingerprint,
    fingerprint,
    new_lmdb,
    open_lmdb,
    root_irregularity,
)
from core.data.word_images import WordImages
from core.data_tools.add_boxes import WITHOUT_BOXES, BoxedRoot, add_boxes, read_annotated_words
from core.runtime.errors import UserError

# Images have 50 x 20 pixels.
A = [1, 1, 10, 20]
B = [11, 1, 10, 20]


def _line(index: int, characters: str, boxes: list[Any], **values: Any) -> dict[str, Any]:
    return {"index": index, "characters": characters, "boxes": boxes} | values


FITTING = [_line(1, "ab", [A, B], photo="p1"), _line(2, "CD", [B, A], photo="p2")]


def _boxes_file(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> str:
    return write_lmdb(tmp_path / "words", [(jpeg(1), "ab"), (jpeg(2), "c.d")])


def _add(root: str, folder: Path, lines: list[dict[str, Any]]) -> tuple[BoxedRoot, WordImages]:
    """Add boxes to a root. lines: of the file of boxes."""
    out = folder / "out"
    added = add_boxes(root, _boxes_file(folder / "boxes.jsonl", lines), None, out)
    return added, WordImages([str(out)])


def _photos(images: WordImages) -> list[bytes | None]:
    with open_lmdb(images.roots[0]).begin() as transaction:
        keys = [STANDARD.key(PHOTO, index).encode() for index in range(len(images))]
        return [transaction.get(key) for key in keys]


def test_boxes_and_photos_are_stored_beside_the_labels(root: str, tmp_path: Path) -> None:
    added, images = _add(root, tmp_path, FITTING)
    assert added == BoxedRoot(samples=2, photos=2, problems={})
    assert images.boxes(0) == ((0, 0, 10, 20), (10, 0, 20, 20))
    assert images.boxes(1) == ((10, 0, 20, 20), None, (0, 0, 10, 20))
    assert _photos(images) == [b"p1", b"p2"]
    assert not (tmp_path / "out" / WITHOUT_BOXES).exists()


def test_images_labels_and_the_fingerprint_stay_the_same(root: str, tmp_path: Path) -> None:
    before = WordImages([root])
    _, images = _add(root, tmp_path, FITTING)
    assert list(images.labels()) == list(before.labels())
    assert [images.raw(n) for n in range(2)] == [before.raw(n) for n in range(2)]
    assert fingerprint(images.roots[0]) == fingerprint(root)
    assert boxes_fingerprint(root) == ""
    assert boxes_fingerprint(images.roots[0]) != ""
    assert root_irregularity(images.roots[0]) == ""


def test_words_of_another_layout_get_standard_keys(tmp_path: Path) -> None:
    folder = tmp_path / "words"
    with new_lmdb(folder) as environment, environment.begin(write=True) as transaction:
        for number, label in enumerate((b"ab", b"cd")):
            transaction.put(f"image-{number}".encode(), jpeg(number))
            transaction.put(f"label-{number}".encode(), label)
        transaction.put(COUNT_KEY, b"2")
    _, images = _add(str(folder), tmp_path, FITTING)
    assert list(images.labels()) == ["ab", "cd"]
    assert images.boxes(1) == ((10, 0, 20, 20), (0, 0, 10, 20))
    assert root_irregularity(images.roots[0]) == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (_line(2, "ce", [A, B]), "'ce'"),
        (_line(2, "cd", [A]), "1 boxes for the 2 characters"),
        (_line(2, "c", [A]), "'c'"),
        (_line(2, "cd", [A, [42, 1, 10, 20]]), "not inside the image"),
        (_line(2, "cd", [A, [0, 1, 10, 20]]), "not inside the image"),
        (_line(2, "cd", [A, [1, 1, 0, 20]]), "empty"),
        (_line(2, "cd", [A, [1, 1, 5]]), "4 whole numbers"),
        (None, "not in the file"),
    ],
)
def test_boxes_that_do_not_fit_are_reported_and_left_out(
    line: dict[str, Any] | None,
    reason: str,
    root: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = _boxes_file(tmp_path / "boxes.jsonl", FITTING[:1] + ([line] if line else []))
    out = tmp_path / "out"
    code, printed, _ = call(capsys, "data", "build", root, out, "--boxes", file)
    assert code == 0
    assert "1 with boxes" in printed
    (summary,) = [text for text in printed.splitlines() if text.startswith("without boxes")]
    assert "1 samples (numbers 2)" in summary
    images = WordImages([str(out)])
    assert images.boxes(0) is not None
    assert images.boxes(1) is None
    (number, label, problem) = (out / WITHOUT_BOXES).read_text().rstrip("\n").split("\t")
    assert (number, label) == ("2", "c.d")
    assert reason in problem
    assert root_irregularity(str(out)) == ""


@pytest.mark.parametrize(
    ("image", "label", "reason"),
    [
        (b"broken", "ab", "image"),
        (None, "ab", "image"),
        (jpeg(1), None, "label"),
        (jpeg(1), "..", "annotated"),
    ],
)
def test_words_without_image_or_label_are_copied_without_boxes(
    image: bytes | None, label: str | None, reason: str, tmp_path: Path
) -> None:
    root = write_lmdb(tmp_path / "words", [(image, label), (jpeg(2), "cd")])
    characters = "" if label == ".." else "ab"
    boxes = [A, B][: len(characters)]
    added, images = _add(root, tmp_path, [_line(1, characters, boxes), FITTING[1]])
    assert list(added.problems) == [1]
    assert reason in added.problems[1]
    assert (images.raw(0), images.label(0)) == (image, label)
    assert images.boxes(1) is not None
    assert fingerprint(images.roots[0]) == fingerprint(root)


def test_a_word_without_photo_has_an_empty_name(root: str, tmp_path: Path) -> None:
    added, images = _add(root, tmp_path, [FITTING[0], _line(2, "cd", [A, B])])
    assert added.photos == 1
    assert _photos(images) == [b"p1", b""]


def test_a_file_without_photos_adds_none(root: str, tmp_path: Path) -> None:
    _, images = _add(root, tmp_path, [_line(1, "ab", [A, B])])
    assert _photos(images) == [None, None]


def test_the_words_of_one_split_are_used(root: str, tmp_path: Path) -> None:
    lines = [_line(1, "ab", [A, B], split="train"), _line(1, "xy", [A, B], split="test")]
    file = _boxes_file(tmp_path / "boxes.jsonl", lines)
    assert read_annotated_words(file, "train")[1].characters == "ab"
    with pytest.raises(UserError, match=r"'test', 'train'.*--split"):
        read_annotated_words(file, None)
    with pytest.raises(UserError, match="'other'"):
        read_annotated_words(file, "other")
    with pytest.raises(UserError, match="'xy'"):
        add_boxes(root, file, "test", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"boxes.jsonl", "words"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no word"),
        ('{"index": 1}', "line 1: characters"),
        ('{"index": 0, "characters": "", "boxes": []}', "line 1: index"),
        ('{"index": 1, "characters": "a", "boxes": [[1.5, 1, 2, 2]]}', r"line 1: boxes\.0\.0"),
        ("\n{", "line 2"),
        ('{"index": 1, "characters": "", "boxes": []}\n' * 2, "line 2: a second word"),
        ('{"index": 3, "characters": "", "boxes": []}', "index 3"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(
    text: str, message: str, root: str, tmp_path: Path
) -> None:
    file = tmp_path / "boxes.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        add_boxes(root, file, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_go_together_are_refused(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _boxes_file(tmp_path / "boxes.jsonl", FITTING)
    out = tmp_path / "out"
    labels = tmp_path / "labels.tsv"
    labels.write_text("a.png\tab\n")
    for arguments, message in [
        ((root, out), "--boxes"),
        ((root, out, "--split", "train"), "--boxes"),
        ((labels, out, "--boxes", file), "labels.tsv"),
        ((root, out, "--boxes", file, "--images", tmp_path), "--images"),
        ((root, out, "--boxes", file, "--processes", 2), "--processes"),
        ((root, root, "--boxes", file), "already exists"),
    ]:
        code, _, error = call(capsys, "data", "build", *arguments)
        assert code == 2, arguments
        assert message in error
    assert not out.exists()


def test_the_boxes_fingerprint_depends_on_the_boxes_alone(root: str, tmp_path: Path) -> None:
    names = []
    for name, first in (("a", A), ("b", A), ("c", B)):
        file = _boxes_file(tmp_path / f"{name}.jsonl", [_line(1, "ab", [first, B], photo=name)])
        add_boxes(root, file, None, tmp_path / name)
        names.append(boxes_fingerprint(str(tmp_path / name)))
    assert names[0] == names[1] != names[2]


def test_a_missing_boxes_key_gives_another_boxes_fingerprint(root: str, tmp_path: Path) -> None:
    _, images = _add(root, tmp_path, FITTING)
    before = boxes_fingerprint(images.roots[0])
    other = write_lmdb(tmp_path / "other", [(jpeg(1), "ab"), (jpeg(2), "c.d")])
    with new_lmdb(Path(other)) as environment, environment.begin(write=True) as transaction:
        transaction.put(boxes_key(2), b"null")
    assert len({"", before, boxes_fingerprint(other)}) == 3


@pytest.mark.parametrize(("split", "words", "boxed"), [("train", 2000, 1984), ("test", 3000, 2965)])
def test_real_boxes_are_added_to_iiit5k(
    split: str, words: int, boxed: int, shared: Path, tmp_path: Path
) -> None:
    root = str(shared / "str" / f"iiit5k_{split}")
    added = add_boxes(root, shared / "iiit5k_characters.jsonl", split, tmp_path / "out")
    assert (added.samples, added.photos, len(added.problems)) == (words, words, words - boxed)
    assert all("annotated characters" in problem for problem in added.problems.values())
    images = WordImages([str(tmp_path / "out")])
    assert sum(images.boxes(number) is not None for number in range(words)) == boxed
    assert fingerprint(str(tmp_path / "out")) == fingerprint(root)
