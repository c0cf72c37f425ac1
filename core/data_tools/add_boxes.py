"""Adds the boxes of characters and the names of photos to the words of an LMDB folder.

They come from a file of JSON lines, one for each word:

    {"index": 1, "characters": "You", "boxes": [[5, 5, 21, 36], ...], "split": "train",
     "photo": "1009"}

index: number of the word in the LMDB folder, from 1. characters: the annotated ones. boxes: for
each of them [left, top, width, height] in pixels, counted from 1, as in IIIT5K's files. split:
optional; which of several folders the word is in. photo: optional; the name of the photo that the
word was cut from. Further keys are not used.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import lmdb
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr, ValidationError

from core.data.character_boxes import (
    BOXES,
    BoxProblem,
    CharacterBoxes,
    converted_boxes,
    encode_boxes,
)
from core.data.key_layout import IMAGE, LABEL, PHOTO, STANDARD, KeyLayout
from core.data.lmdb_folder import (
    BOXED_WORDS,
    after_length,
    count_samples,
    key_layout,
    new_lmdb,
    open_lmdb,
    put_count,
    spaced_numbers,
)
from core.data.word_images import image_size
from core.data_tools.annotations import some_names
from core.data_tools.text_encoding import file_encoding, undecodable_text
from core.runtime.errors import UserError
from core.runtime.files import write_text
from core.runtime.number_types import PositiveInt
from core.runtime.validation import first_problem

CHUNK = 2048  # words that a transaction writes
WITHOUT_BOXES = "without_boxes.tsv"  # in the LMDB folder: number, label and reason


class AnnotatedWord(BaseModel):
    """One line of a file of boxes."""

    model_config = ConfigDict(frozen=True)

    index: PositiveInt
    characters: StrictStr
    boxes: list[list[StrictInt]]
    split: StrictStr = ""
    photo: StrictStr = ""


@dataclass(frozen=True)
class BoxedRoot:
    """What was written.

    samples: words of the LMDB folder.
    photos: words with the name of a photo.
    problems: number of a word without boxes -> the reason.
    """

    samples: int
    photos: int
    problems: dict[int, str]


def read_annotated_words(file: Path, split: str | None) -> dict[int, AnnotatedWord]:
    """Number -> the word of a file of boxes.

    file: JSON lines. split: the words to use. None: the file has those of one folder only.

    Raises UserError if a line is not as the module says, or two lines are of one word."""
    chosen = [
        (line, word) for line, word in _read_lines(file) if split is None or word.split == split
    ]
    splits = sorted({word.split for _, word in chosen})
    if len(splits) > 1:
        names = ", ".join(repr(name) for name in splits)
        raise UserError(f"{file}: words of several splits ({names}); choose one with --split")
    if not chosen:
        wanted = "" if split is None else f" of split {split!r}"
        raise UserError(f"{file}: no word{wanted}; name a file of boxes, and one of its splits")
    words: dict[int, AnnotatedWord] = {}
    for line, word in chosen:
        if word.index in words:
            raise UserError(f"{file}: line {line}: a second word with index {word.index}")
        words[word.index] = word
    return words


def _read_lines(file: Path) -> list[tuple[int, AnnotatedWord]]:
    """(number of the line, its word). Raises UserError."""
    encoding = file_encoding(file)
    try:
        lines = file.read_text(encoding=encoding).splitlines()
    except UnicodeDecodeError as error:
        raise undecodable_text(file, encoding) from error
    words = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            words.append((number, AnnotatedWord.model_validate_json(line)))
        except ValidationError as error:
            raise UserError(
                f"{file}: line {number}: {first_problem(error)}; "
                "a line is JSON with index, characters and boxes"
            ) from error
    return words


def add_boxes(root: str, file: Path, split: str | None, out: Path) -> BoxedRoot:
    """Copy a root's images and labels to a new LMDB folder, with boxes and photos.

    Words keep their numbers, so the fingerprint of the data stays that of a root in the standard
    layout. A word whose boxes do not fit has `null` in their place. The new folder exists only when
    it is complete.

    Args:
        root: An LMDB folder. Only its images and labels are copied.
        file: A file of boxes.
        split: The words of the file to use. None: the file has those of one folder only.
        out: The LMDB folder to make.

    Raises:
        UserError: `out` exists, the file or the root cannot be used, or no boxes fit.
    """
    if out.exists():
        raise UserError(f"{out}: already exists; choose another folder or move it")
    count, words = _words_of_root(root, file, split)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as parent:
        temporary = Path(parent) / out.name
        temporary.mkdir()
        problems: dict[int, str] = {}
        with new_lmdb(temporary) as environment:
            for start in range(0, count, CHUNK):
                numbers = range(start + 1, min(start + CHUNK, count) + 1)
                with environment.begin(write=True) as transaction:
                    problems |= _write_words(transaction, root, numbers, words)
            with environment.begin(write=True) as transaction:
                put_count(transaction, count)
        if len(problems) == count:
            raise _no_boxes_fit(root, file, problems)
        if problems:
            _write_problems(temporary / WITHOUT_BOXES, root, problems)
        os.replace(temporary, out)
    return BoxedRoot(count, sum(bool(word.photo) for word in words.values()), problems)


def expected_boxes_fingerprint(root: str, file: Path, split: str | None) -> str:
    """The `boxes_fingerprint` of the folder that `add_boxes` makes. It writes nothing.

    root, file, split: as in `add_boxes`. Raises UserError as it does."""
    count, words = _words_of_root(root, file, split)
    layout = key_layout(root)
    numbers = spaced_numbers(count, BOXED_WORDS)
    digest = hashlib.sha256()
    problems: dict[int, str] = {}
    for number in numbers:
        values = _read_word(root, layout, number)
        boxes, problem = _boxes_or_problem(words.get(number), values)
        if problem:
            problems[number] = problem
        digest.update(after_length(encode_boxes(boxes)))
    if len(problems) == len(numbers):
        raise _no_boxes_fit(root, file, problems)
    return digest.hexdigest()[:16]


def _words_of_root(
    root: str, file: Path, split: str | None
) -> tuple[int, dict[int, AnnotatedWord]]:
    """The number of words of a root, and the annotated ones by number. Raises UserError."""
    count = count_samples(open_lmdb(root), root)
    words = read_annotated_words(file, split)
    if max(words) > count:
        raise UserError(
            f"{file}: index {max(words)}, but {root} has {count} words; "
            "name the folder of these words, or another --split"
        )
    return count, words


def _no_boxes_fit(root: str, file: Path, problems: Mapping[int, str]) -> UserError:
    """problems: number of a word -> why it has no boxes."""
    reasons = some_names([f"{number}: {problems[number]}" for number in sorted(problems)])
    return UserError(f"{file}: no boxes fit the words of {root} ({reasons})")


def _write_words(
    transaction: lmdb.Transaction,
    root: str,
    numbers: range,
    words: dict[int, AnnotatedWord],
) -> dict[int, str]:
    """Write some words of a root. Returns number -> why a word has no boxes.

    transaction: writes. root: source. numbers: of the words, from 1. words: the annotated ones."""
    layout = key_layout(root)
    has_photos = any(word.photo for word in words.values())
    problems = {}
    for number in numbers:
        values = _read_word(root, layout, number)
        word = words.get(number)
        boxes, problem = _boxes_or_problem(word, values)
        if problem:
            problems[number] = problem
        values[BOXES] = encode_boxes(boxes)
        if has_photos:
            values[PHOTO] = word.photo.encode() if word else b""
        for kind, value in values.items():
            if value is not None:
                transaction.put(STANDARD.key(kind, number - 1).encode(), value)
    return problems


def _read_word(root: str, layout: KeyLayout, number: int) -> dict[str, bytes | None]:
    """Kind of the key -> value, of the image and the label of a word."""
    return {kind: _value(root, layout, kind, number) for kind in (IMAGE, LABEL)}


def _boxes_or_problem(
    word: AnnotatedWord | None, values: Mapping[str, bytes | None]
) -> tuple[CharacterBoxes | None, str]:
    """(boxes, "") of a word, or (None, why it has none). values: its image and its label."""
    try:
        return _boxes_of_word(word, values[LABEL], values[IMAGE]), ""
    except BoxProblem as problem:
        return None, str(problem)


def _boxes_of_word(
    word: AnnotatedWord | None, label: bytes | None, image: bytes | None
) -> CharacterBoxes:
    """The boxes of a word as the LMDB folder stores them. Raises BoxProblem.

    word: its line in the file of boxes. label, image: the stored values."""
    if word is None:
        raise BoxProblem("not in the file of boxes")
    try:
        text = (label or b"").decode()
    except UnicodeDecodeError:
        text = ""
    size = None if image is None else image_size(image)
    if not text:
        raise BoxProblem("no label in UTF-8")
    if size is None:
        raise BoxProblem("the image cannot be read")
    boxes = converted_boxes(word.characters, word.boxes, text, size)
    if not any(boxes):
        raise BoxProblem(f"no character of {text!r} is annotated")
    return boxes


def _value(root: str, layout: KeyLayout, kind: str, number: int) -> bytes | None:
    """The value of a word's key; None if there is none, or its page is damaged.

    root: an LMDB folder. layout: of its keys. kind: of the key. number: of the word, from 1."""
    try:
        with open_lmdb(root).begin() as transaction:
            value: bytes | None = transaction.get(layout.key(kind, number - 1).encode())
            return value
    except lmdb.Error:
        return None


def _write_problems(path: Path, root: str, problems: dict[int, str]) -> None:
    """A table of the words without boxes: number, label and reason."""
    layout = key_layout(root)
    lines = []
    for number, problem in sorted(problems.items()):
        label = (_value(root, layout, LABEL, number) or b"").decode(errors="backslashreplace")
        lines.append(f"{number}\t{' '.join(label.split())}\t{' '.join(problem.split())}\n")
    write_text(path, "".join(lines))
