"""What a data card says about an LMDB folder, besides the report of `check_root`."""

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from core.data.key_layout import PHOTO
from core.data.lmdb_folder import boxes_fingerprint, fingerprint, open_lmdb
from core.data.word_images import WordImages
from core.data_tools.build import RECORD, SKIPPED
from core.runtime.errors import UserError

EXAMPLES = 8  # labels that a card shows
LICENSE_FILES = ("license", "license.txt", "license.md", "licence", "licence.txt", "licence.md")
CATEGORIES = {"N": "digits and numbers", "P": "punctuation", "S": "symbols", "M": "marks"}


@dataclass(frozen=True)
class Overlap:
    """A list of images of this root that are also in another one (`data overlap`).

    title: what the list says about itself.
    kinds: `exact` or `near` -> number of images.
    """

    file: str
    title: str
    kinds: dict[str, int]


@dataclass(frozen=True)
class KnownSuspects:
    """Labels of this root that a recognizer contradicts (`data suspects`), from suspects.json."""

    file: str
    protocol: str
    confidence: float
    images: int
    count: int


@dataclass(frozen=True)
class CardFacts:
    """Facts about a root.

    characters: character -> number of labels that contain it, white space apart.
    white_space: number of labels with white space.
    scripts: script or kind of character -> labels that contain it.
    examples: some labels, evenly spaced.
    boxes: fingerprint of the boxes of characters; "" without any.
    photos: number of different photos that words were cut from; 0 if they have no names.
    license_file: name and first line of a license beside the data; None if there is none.
    record: the content of build.json; None if there is none.
    skipped: number of lines of skipped.tsv; None if there is none.
    """

    characters: Counter[str]
    white_space: int
    scripts: Counter[str]
    examples: tuple[str, ...]
    boxes: str
    photos: int
    license_file: tuple[str, str] | None
    record: dict[str, Any] | None
    skipped: int | None


def card_facts(root: str) -> CardFacts:
    """The facts about an LMDB folder. Reads all labels. Raises UserError if that is impossible."""
    images = WordImages([root])
    characters: Counter[str] = Counter()
    scripts: Counter[str] = Counter()
    white_space = 0
    labeled = []
    for number, label in enumerate(images.labels()):
        if not label:
            continue
        labeled.append(number)
        marks = set(label)
        visible = {mark for mark in marks if not mark.isspace()}
        characters.update(visible)
        white_space += visible != marks
        scripts.update({script_of(mark) for mark in visible})
    step = max(1, len(labeled) // EXAMPLES)
    examples = tuple(images.label(number) or "" for number in labeled[::step][:EXAMPLES])
    folder = Path(root)
    return CardFacts(
        characters=characters,
        white_space=white_space,
        scripts=scripts,
        examples=examples,
        boxes=boxes_fingerprint(root),
        photos=_count_photos(root),
        license_file=_license_file(folder),
        record=_read_record(folder / RECORD),
        skipped=_count_lines(folder / SKIPPED),
    )


@cache
def script_of(mark: str) -> str:
    """The script of a letter, such as `Latin` or `Cjk`; for others the kind of character.

    It is the first word of the letter's name in Unicode: the standard library has no scripts."""
    category = unicodedata.category(mark)[0]
    if category in CATEGORIES:
        return CATEGORIES[category]
    name = unicodedata.name(mark, "")
    return name.split()[0].title() if name and category == "L" else "other characters"


def _count_photos(root: str) -> int:
    """The number of different names of photos (keys `photo-...`)."""
    prefix = f"{PHOTO}-".encode()
    names = set()
    with open_lmdb(root).begin() as transaction, transaction.cursor() as cursor:
        is_found = cursor.set_range(prefix)
        while is_found and bytes(cursor.key()).startswith(prefix):
            names.add(bytes(cursor.value()))
            is_found = cursor.next()
    return len(names - {b""})


def _license_file(folder: Path) -> tuple[str, str] | None:
    """(name, first line) of a license file in the folder."""
    for path in sorted(folder.iterdir()):
        if path.name.lower() in LICENSE_FILES and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            return path.name, next((line.strip() for line in lines if line.strip()), "")
    return None


def _read_record(path: Path) -> dict[str, Any] | None:
    """build.json. None if it is absent or damaged: the card then says that it is not recorded."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _count_lines(path: Path) -> int | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return sum(1 for _ in file)


def read_overlap(path: Path, root: str) -> Overlap:
    """The part of a filter list that is about a root. Raises UserError if there is none."""
    lines = _lines(path)
    title = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    if not rows or rows[0][:2] != ["fingerprint", "index"]:
        raise UserError(f"{path}: not a list of `run.py data overlap`")
    kind = rows[0].index("kind") if "kind" in rows[0] else None
    content = fingerprint(root)[0]
    own = [row for row in rows[1:] if row[0] == content]
    if not own and len(rows) > 1:
        raise UserError(
            f"{path}: lists images of other data only, none of {root} (fingerprint "
            f"{content}); name the list whose TRAIN is this root"
        )
    kinds = Counter("listed" if kind is None else row[kind] for row in own)
    return Overlap(path.name, title, dict(kinds))


def read_suspects(path: Path, root: str) -> KnownSuspects:
    """The counts of a suspects.json. Raises UserError if it is another file or of other data."""
    try:
        content = json.loads("\n".join(_lines(path)))
        suspects = content["suspects"]
        found = KnownSuspects(
            file=path.name,
            protocol=str(content["protocol"]),
            confidence=float(content["confidence"]),
            images=int(content["images"]),
            count=len(suspects),
        )
        labels = {int(one["index"]): str(one["label"]) for one in suspects}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a suspects.json of `run.py data suspects`") from error
    images = WordImages([root])
    for index, label in labels.items():
        if not 0 <= index < len(images) or images.label(index) != label:
            raise UserError(
                f"{path}: image {index} has another label in {root}; name the list of this root"
            )
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8") from error
    return [line for line in text.split("\n") if line]
