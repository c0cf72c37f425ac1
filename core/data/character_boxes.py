"""Boxes of the characters of a word image, and the LMDB key that stores them.

The key `boxes-%09d` belongs to the image of the same number. Its value is a JSON list with one
entry for each character of the label: [left, top, right, bottom] in pixels of the stored image,
upright as a viewer shows it. Right and bottom are exclusive, so width is right - left. The entry of
a character without a box (a space, or a symbol that was not annotated) is null. The value `null` in
place of the list says that the boxes of the image are unusable.
"""

import json
from collections.abc import Sequence
from typing import Any

BOXES = "boxes"  # kind of the key, as `image` and `label`

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
CharacterBoxes = tuple[Box | None, ...]  # one for each character of the label


class BoxProblem(ValueError):
    """Boxes that do not fit their image or label. The text says why."""


def boxes_key(number: int) -> bytes:
    """The key of a sample in a root in the standard layout. number: of the sample, from 1."""
    return f"{BOXES}-{number:09d}".encode()


def encode_boxes(boxes: CharacterBoxes | None) -> bytes:
    """The value of the key. None: the boxes are unusable."""
    return json.dumps(boxes, separators=(",", ":")).encode()


def decode_boxes(raw: bytes | None) -> CharacterBoxes | None:
    """The boxes in the value of a key; None if the key is absent, `null` or damaged."""
    if raw is None:
        return None
    try:
        entries = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(entries, list):
        return None
    boxes = []
    for entry in entries:
        if entry is not None and not _is_box(entry):
            return None
        boxes.append(None if entry is None else (entry[0], entry[1], entry[2], entry[3]))
    return tuple(boxes)


def _is_box(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 4:
        return False
    return all(type(value) is int for value in entry)


def check_boxes(boxes: CharacterBoxes, label: str, size: tuple[int, int]) -> None:
    """Raise BoxProblem unless the boxes fit a label and an image of `size` (width, height).

    There is one box for each character, and each box is inside the image and not empty."""
    if len(boxes) != len(label):
        raise BoxProblem(f"{len(boxes)} boxes for the {len(label)} characters of {label!r}")
    width, height = size
    for character, box in zip(label, boxes, strict=True):
        if box is None:
            continue
        left, top, right, bottom = box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise BoxProblem(
                f"the box {list(box)} of {character!r} is empty or not inside the image "
                f"of {width} x {height} pixels"
            )


def align_boxes(characters: str, boxes: Sequence[Box], label: str) -> CharacterBoxes:
    """The boxes of some annotated characters, in the order of a label's characters.

    Annotators may leave out spaces and symbols (IIIT5K's leave out all but letters and digits), and
    may write another case. Characters of the label that are not annotated get None.

    Args:
        characters: The annotated characters.
        boxes: One for each of them.
        label: The word of the image.

    Raises:
        BoxProblem: The annotated characters are not letters and digits of the label, in order.
    """
    if len(characters) != len(boxes):
        raise BoxProblem(f"{len(boxes)} boxes for the {len(characters)} characters {characters!r}")
    if len(characters) == len(label) and characters.lower() == label.lower():
        return tuple(boxes)
    aligned: list[Box | None] = []
    position = 0
    for character in label:
        matches = position < len(characters)
        matches = matches and characters[position].lower() == character.lower()
        aligned.append(boxes[position] if matches else None)
        if not matches and character.isalnum():
            raise BoxProblem(f"the annotated characters {characters!r} do not fit {label!r}")
        position += matches
    if position < len(characters):
        raise BoxProblem(f"the annotated characters {characters!r} do not fit {label!r}")
    return tuple(aligned)


def boxes_of_corner_and_size(rectangles: Sequence[Sequence[int]]) -> list[Box]:
    """[left, top, width, height] counted from 1, as in IIIT5K's files -> boxes counted from 0.

    Raises BoxProblem for a rectangle that is not four whole numbers."""
    boxes = []
    for rectangle in rectangles:
        if not _is_box(list(rectangle)):
            raise BoxProblem(f"a rectangle must have 4 whole numbers, not {list(rectangle)}")
        left, top, width, height = rectangle
        boxes.append((left - 1, top - 1, left - 1 + width, top - 1 + height))
    return boxes


def converted_boxes(
    characters: str, rectangles: Sequence[Sequence[int]], label: str, size: tuple[int, int]
) -> CharacterBoxes:
    """The boxes of an annotated word as the key stores them.

    Args:
        characters: The annotated characters.
        rectangles: [left, top, width, height] of each, counted from 1.
        label: The word of the image.
        size: (width, height) of the upright image.

    Raises:
        BoxProblem: They do not fit the label or the image.
    """
    boxes = align_boxes(characters, boxes_of_corner_and_size(rectangles), label)
    check_boxes(boxes, label, size)
    return boxes
