"""What a user has on disk -> a list of (image file, label).

A source is a list of (image file, label), read from a text file of lines `image label` (separated by a tab, a comma or white
space; ICDAR's quotes are removed), TSV or CSV with or without a header, JSON lines `{"filename": ..., "text": ...}`, JSON as
MMOCR 1.x writes it (`data_list` of `img_path` and `instances`), or a folder of images without labels.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from core.runtime.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
ANNOTATIONS = (
    "gt.txt",
    "labels.txt",
    "label.txt",
    "gt.tsv",
    "labels.tsv",
    "gt.csv",
    "labels.csv",
    "annotation.json",
)
_NAMED = re.compile(
    rf"(.+?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))(?:\s*,\s*|\s+)(.+)", re.IGNORECASE
)
IMAGE_NAMES = ("filename", "file_name", "img_path", "image", "path", "name")
LABEL_NAMES = ("text", "label", "transcription", "words")


@dataclass(frozen=True)
class Item:
    """One line of a source: the image as it is named there, its label (None: an image without labels), or why it has none."""

    image: str
    label: str | None
    problem: str = ""


def find_annotation(source: Path) -> Path | None:
    """The annotation file of a folder; None where it holds only images. Raises UserError."""
    if not source.exists():
        raise UserError(
            f"{source}: no such file or folder; name an annotation file or a folder of images"
        )
    if source.is_file():
        return source
    named = [source / name for name in ANNOTATIONS if (source / name).is_file()]
    others = sorted(
        path
        for path in source.iterdir()
        if path.suffix in (".jsonl", ".json", ".tsv", ".csv", ".txt")
    )
    found = named or others
    if len(found) > 1:
        raise UserError(
            f"{source}: several annotation files ({', '.join(path.name for path in found)}); name the one to use"
        )
    return found[0] if found else None


def read_items(annotation: Path) -> Iterator[Item]:
    """The lines of an annotation file. Raises UserError where it has none of the known forms."""
    with annotation.open(encoding="utf-8-sig", newline="") as file:
        try:
            start = file.read(1 << 16).lstrip()
            file.seek(0)
            first = start.partition("\n")[0]
            if annotation.suffix == ".jsonl" or (
                first.startswith("{") and _is_object(first) and '"data_list"' not in first
            ):
                yield from _json_lines(file)
            elif annotation.suffix == ".json" or start.startswith("{"):
                yield from _mmocr(annotation, json.load(file))
            elif annotation.suffix in (".tsv", ".csv"):
                yield from _table(annotation, file, "\t" if annotation.suffix == ".tsv" else ",")
            else:
                yield from _text_lines(file)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{annotation}: not UTF-8 text ({error.reason}); save it as UTF-8"
            ) from error
        except (json.JSONDecodeError, csv.Error) as error:
            raise UserError(
                f"{annotation}: not valid {annotation.suffix[1:].upper() or 'text'} ({error})"
            ) from error


def _is_object(line: str) -> bool:
    """Whether a line is a whole JSON object: then each line is."""
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _entry(entry: Any) -> Item:
    """One JSON object: `filename` and `text`, or `img_path` and one of `instances`."""
    if not isinstance(entry, dict):
        return Item(str(entry)[:80], "", "not a JSON object")
    image = next((entry[name] for name in IMAGE_NAMES if isinstance(entry.get(name), str)), None)
    if image is None:
        return Item(json.dumps(entry)[:80], "", f"no image under {', '.join(IMAGE_NAMES[:3])}")
    instances = entry.get("instances")
    if isinstance(instances, list):
        if len(instances) != 1:
            return Item(image, "", f"{len(instances)} instances, where a word image has one")
        entry = instances[0] if isinstance(instances[0], dict) else {}
    label = next((entry[name] for name in LABEL_NAMES if isinstance(entry.get(name), str)), None)
    return Item(image, "", "no text") if label is None else Item(image, label)


def _mmocr(annotation: Path, content: Any) -> Iterator[Item]:
    entries = content.get("data_list") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise UserError(
            f"{annotation}: no list of images (data_list); JSON is read as MMOCR 1.x writes it"
        )
    return map(_entry, entries)


def _json_lines(lines: Iterable[str]) -> Iterator[Item]:
    for line in lines:
        if line.strip():
            try:
                yield _entry(json.loads(line))
            except json.JSONDecodeError:
                yield Item(line.strip()[:80], "", "not a line of JSON")


def _table(annotation: Path, lines: Iterable[str], separator: str) -> Iterator[Item]:
    rows: Iterator[list[str]]
    if separator == "\t":
        rows = (line.rstrip("\r\n").split("\t") for line in lines if line.strip())
    else:
        rows = csv.reader(lines, skipinitialspace=True)
    head = next(rows, [])
    names = [name.strip().lower() for name in head]
    image = next((names.index(name) for name in IMAGE_NAMES if name in names), None)
    label = next((names.index(name) for name in LABEL_NAMES if name in names), None)
    if image is None or label is None:  # no header: the image, then its label
        image, label = 0, 1
        rows = chain([head], rows)
    for row in rows:
        if row:
            fits = len(row) > max(image, label)
            yield (
                Item(row[image], row[label])
                if fits
                else Item(separator.join(row)[:80], "", f"{len(row)} column")
            )


def _text_lines(lines: Iterable[str]) -> Iterator[Item]:
    """`image<TAB>label`, ICDAR's `image, "label"`, or `image label`."""
    for line in lines:
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        if "\t" in line:
            image, label = line.split("\t", 1)
            yield Item(image.strip(), label.strip())
        elif quoted := re.fullmatch(r'(.+?)\s*,\s*"(.*)"\s*', line):
            yield Item(quoted[1].strip(), re.sub(r"\\(.)", r"\1", quoted[2]))
        else:  # up to a known suffix, for names may hold spaces; else up to the first space or comma
            parts = _NAMED.fullmatch(line.strip()) or re.fullmatch(
                r"([^\s,]+)(?:\s*,\s*|\s+)(.+)", line.strip()
            )
            yield Item(parts[1], parts[2]) if parts else Item(line.strip()[:80], "", "no label")


def image_files(folder: Path) -> Iterator[str]:
    """Names of the image files below a folder, relative to it, in a fixed order."""
    for place, below, files in os.walk(folder):
        below.sort()
        for name in sorted(files):
            if name.lower().endswith(IMAGE_SUFFIXES):
                yield os.path.relpath(os.path.join(place, name), folder)


def source_items(source: Path) -> tuple[Path, Callable[[], Iterator[Item]]]:
    """Where a source's images lie, and its items. Raises UserError."""
    annotation = find_annotation(source)
    if annotation is None:
        return source, lambda: (Item(name, None) for name in image_files(source))
    return annotation.parent, lambda: read_items(annotation)
