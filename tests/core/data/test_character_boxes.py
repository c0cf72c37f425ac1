"""Boxes of characters: the LMDB key, checks, IIIT5K's annotations."""

import json
from pathlib import Path

import pytest
from conftest import jpeg, write_lmdb

from core.data.character_boxes import (
    BoxProblem,
    align_boxes,
    boxes_key,
    boxes_of_corner_and_size,
    check_boxes,
    converted_boxes,
    decode_boxes,
    encode_boxes,
)
from core.data.lmdb_folder import new_lmdb, root_irregularity
from core.data.word_images import WordImages, image_size

A = (0, 0, 4, 9)
B = (4, 1, 8, 9)


@pytest.mark.parametrize("boxes", [None, (), (A,), (A, None, B)])
def test_encoded_boxes_are_decoded_equal(boxes: tuple[tuple[int, int, int, int] | None]) -> None:
    assert decode_boxes(encode_boxes(boxes)) == boxes


@pytest.mark.parametrize(
    "raw",
    [None, b"", b"\xff", b"3", b'{"a": 1}', b"[[1,2,3]]", b"[[1,2,3,4.5]]", b"[[1,2,3,true]]"],
)
def test_a_damaged_value_has_no_boxes(raw: bytes | None) -> None:
    assert decode_boxes(raw) is None


@pytest.mark.parametrize(
    ("boxes", "problem"),
    [
        ((A,), "1 boxes"),
        ((A, (4, 0, 21, 9)), "inside"),
        ((A, (4, 0, 8, 11)), "inside"),
        (((-1, 0, 3, 9), B), "inside"),
        (((3, 0, 3, 9), B), "empty"),
        ((A, (4, 9, 8, 1)), "empty"),
    ],
)
def test_boxes_that_do_not_fit_label_or_image_are_refused(
    boxes: tuple[tuple[int, int, int, int], ...], problem: str
) -> None:
    with pytest.raises(BoxProblem, match=problem):
        check_boxes(boxes, "ab", (20, 10))


def test_boxes_that_touch_the_edges_of_the_image_are_accepted() -> None:
    check_boxes(((0, 0, 20, 10), None), "ab", (20, 10))


@pytest.mark.parametrize(
    ("characters", "label", "positions"),
    [
        ("AB", "ab", [0, 1]),
        ("193KM", "193 KM", [0, 1, 2, None, 3, 4]),
        ("1025", "$10.25", [None, 0, 1, None, 2, 3]),
        ("its", "It's!", [0, 1, None, 2, None]),
        ("a-b", "a-b", [0, 1, 2]),
    ],
)
def test_annotated_characters_are_aligned_with_the_label(
    characters: str, label: str, positions: list[int | None]
) -> None:
    boxes = [(position, 0, position + 1, 1) for position in range(len(characters))]
    expected = tuple(None if position is None else boxes[position] for position in positions)
    assert align_boxes(characters, boxes, label) == expected


@pytest.mark.parametrize(
    ("characters", "label"), [("ab", "abc"), ("abc", "ab"), ("ac", "ab"), ("ba", "ab")]
)
def test_characters_of_another_word_are_refused(characters: str, label: str) -> None:
    with pytest.raises(BoxProblem, match="do not fit"):
        align_boxes(characters, [A] * len(characters), label)


def test_rectangles_that_count_from_one_become_boxes_that_count_from_zero() -> None:
    assert boxes_of_corner_and_size([[1, 1, 4, 9], [5, 2, 4, 8]]) == [A, (4, 1, 8, 9)]
    with pytest.raises(BoxProblem, match="4 whole numbers"):
        boxes_of_corner_and_size([[1, 2, 3]])


def test_the_boxes_of_an_image_are_read_by_its_number(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "root", [(jpeg(1), "ab"), (jpeg(2), "cd")])
    with new_lmdb(tmp_path / "root") as environment, environment.begin(write=True) as transaction:
        transaction.put(boxes_key(1), encode_boxes((A, B)))
        transaction.put(boxes_key(2), encode_boxes(None))
    images = WordImages([root, root])
    assert [images.boxes(number) for number in range(4)] == [(A, B), None, (A, B), None]
    assert not root_irregularity(root)


def test_the_size_of_an_image_is_read_upright() -> None:
    assert image_size(jpeg(1, (50, 20))) == (50, 20)
    assert image_size(b"no image") is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_real_boxes_fit_nearly_all_words_of_iiit5k(shared: Path, split: str) -> None:
    images = WordImages([str(shared / "str" / f"iiit5k_{split}")])
    problems = []
    count = 0
    lines = (shared / "iiit5k_characters.jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        if row["split"] != split or row["index"] % 10:
            continue
        number = row["index"] - 1
        raw = images.raw(number)
        label = images.label(number)
        assert raw is not None
        assert label is not None
        size = image_size(raw)
        assert size is not None
        count += 1
        try:
            boxes = converted_boxes(row["characters"], row["boxes"], label, size)
        except BoxProblem as problem:
            problems.append(str(problem))
        else:
            assert len(boxes) == len(label)
    assert count >= 200
    assert len(problems) <= count // 50, problems  # errors of the annotators
