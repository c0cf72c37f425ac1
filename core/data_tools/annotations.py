"""Annotations: lists of (image file, label) in the formats that data sets are published in.

Formats: text lines `image label`, separated by a tab, a comma or white space (ICDAR's quotes are
removed); TSV or CSV, with or without a header; JSON lines `{"filename": ..., "text": ...}`; MMOCR
1.x's JSON (`data_list` of `img_path` and `instances`); or a folder of images without labels.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from core.runtime.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
ANNOTATION_SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".txt")
ANNOTATION_FILES = (
    "gt.txt",
    "labels.txt",
    "label.txt",
    "gt.tsv",
    "labels.tsv",
    "gt.csv",
    "labels.csv",
    "annotation.json",
)
# Names of columns and keys.
IMAGE_NAMES = ("filename", "file_name", "img_path", "image", "path", "name")
LABEL_NAMES = ("text", "label", "transcription", "words")

_SUFFIX_PATTERN = "|".join(map(re.escape, IMAGE_SUFFIXES))
# An image name, which may contain spaces, up to a known suffix; then the label.
_KNOWN_SUFFIX = re.compile(rf"(.+?(?:{_SUFFIX_PATTERN}))(?:\s*,\s*|\s+)(.+)", re.IGNORECASE)
# An image name up to the first space or comma; then the label.
_FIRST_WORD = re.compile(r"([^\s,]+)(?:\s*,\s*|\s+)(.+)")
_QUOTED = re.compile(r'(.+?)\s*,\s*"(.*)"\s*')  # ICDAR: image, "label"
_SHOWN = 80  # characters of an unusable line that are shown


@dataclass(frozen=True)
class Annotation:
    """One image of a source."""

    image: str  # its name in the source, or the start of an unusable line
    label: str | None  # None: the source has no labels
    problem: str = ""  # why the line is unusable


def find_annotation_file(source: Path) -> Path | None:
    """The annotation file of a source: the source itself, or the one in that folder.

    Returns None for a folder with images only. Raises UserError if the source is missing or has
    several annotation files.
    """
    if not source.exists():
        raise UserError(
            f"{source}: no such file or folder; name an annotation file or a folder of images"
        )
    if source.is_file():
        return source
    files = [source / name for name in ANNOTATION_FILES if (source / name).is_file()]
    if not files:
        files = sorted(path for path in source.iterdir() if path.suffix in ANNOTATION_SUFFIXES)
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UserError(f"{source}: several annotation files ({names}); name the one to use")
    return files[0] if files else None


def read_annotations(file: Path) -> Iterator[Annotation]:
    """The annotations in a file. Raises UserError if it has none of the known formats."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            yield from _parse(file, stream)
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except (json.JSONDecodeError, csv.Error) as error:
            kind = file.suffix[1:].upper() or "text"
            raise UserError(f"{file}: not valid {kind} ({error})") from error


def _parse(file: Path, stream: TextIO) -> Iterator[Annotation]:
    """Choose the format by the file's suffix and first line."""
    start = stream.read(1 << 16).lstrip()
    stream.seek(0)
    first_line = start.partition("\n")[0]
    has_json_lines = (
        first_line.startswith("{")
        and _is_json_object(first_line)
        and '"data_list"' not in first_line
    )
    if file.suffix == ".jsonl" or has_json_lines:
        yield from _json_lines(stream)
    elif file.suffix == ".json" or start.startswith("{"):
        yield from _mmocr_json(file, json.load(stream))
    elif file.suffix == ".tsv":
        yield from _table(_tsv_rows(stream), "\t")
    elif file.suffix == ".csv":
        yield from _table(csv.reader(stream, skipinitialspace=True), ",")
    else:
        yield from _text_lines(stream)


def _is_json_object(line: str) -> bool:
    """Whether a line is a complete JSON object. Then every line of the file is one."""
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _json_annotation(entry: Any) -> Annotation:
    """The annotation in a JSON object: `filename` and `text`, or `img_path` and one instance."""
    if not isinstance(entry, dict):
        return Annotation(str(entry)[:_SHOWN], "", "not a JSON object")
    image = _first_text(entry, IMAGE_NAMES)
    if image is None:
        start = json.dumps(entry)[:_SHOWN]
        return Annotation(start, "", f"no image under {', '.join(IMAGE_NAMES[:3])}")
    instances = entry.get("instances")
    if isinstance(instances, list):
        if len(instances) != 1:
            return Annotation(image, "", f"{len(instances)} instances; a word image has one")
        entry = instances[0] if isinstance(instances[0], dict) else {}
    label = _first_text(entry, LABEL_NAMES)
    return Annotation(image, "", "no text") if label is None else Annotation(image, label)


def _first_text(entry: dict[str, Any], names: Iterable[str]) -> str | None:
    return next((entry[name] for name in names if isinstance(entry.get(name), str)), None)


def _mmocr_json(file: Path, content: Any) -> Iterator[Annotation]:
    entries = content.get("data_list") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise UserError(f"{file}: no list of images (data_list), as MMOCR 1.x writes it")
    return map(_json_annotation, entries)


def _json_lines(lines: Iterable[str]) -> Iterator[Annotation]:
    for line in lines:
        if line.strip():
            try:
                yield _json_annotation(json.loads(line))
            except json.JSONDecodeError:
                yield Annotation(line.strip()[:_SHOWN], "", "not a line of JSON")


def _tsv_rows(lines: Iterable[str]) -> Iterator[list[str]]:
    return (line.rstrip("\r\n").split("\t") for line in lines if line.strip())


def _table(rows: Iterator[list[str]], separator: str) -> Iterator[Annotation]:
    """The annotations in rows of a table. Without a header: the image, then its label."""
    header = next(rows, [])
    names = [name.strip().lower() for name in header]
    image = next((names.index(name) for name in IMAGE_NAMES if name in names), None)
    label = next((names.index(name) for name in LABEL_NAMES if name in names), None)
    if image is None or label is None:
        image = 0
        label = 1
        rows = chain([header], rows)
    for row in rows:
        if len(row) > max(image, label):
            yield Annotation(row[image], row[label])
        elif row:
            yield Annotation(separator.join(row)[:_SHOWN], "", f"{len(row)} column")


def _text_lines(lines: Iterable[str]) -> Iterator[Annotation]:
    """The annotations in lines `image<TAB>label`, `image, "label"` or `image label`."""
    for line in lines:
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        if "\t" in text:
            image, label = text.split("\t", 1)
            yield Annotation(image.strip(), label.strip())
        elif quoted := _QUOTED.fullmatch(text):
            yield Annotation(quoted[1].strip(), re.sub(r"\\(.)", r"\1", quoted[2]))
        else:
            text = text.strip()
            parts = _KNOWN_SUFFIX.fullmatch(text) or _FIRST_WORD.fullmatch(text)
            if parts:
                yield Annotation(parts[1], parts[2])
            else:
                yield Annotation(text[:_SHOWN], "", "no label")


def image_files(folder: Path) -> Iterator[str]:
    """Names of the image files below a folder, relative to it, in a fixed order."""
    for parent, subfolders, files in os.walk(folder):
        subfolders.sort()
        for name in sorted(files):
            if name.lower().endswith(IMAGE_SUFFIXES):
                yield os.path.relpath(os.path.join(parent, name), folder)


def read_source(source: Path) -> tuple[Path, Callable[[], Iterator[Annotation]]]:
    """The folder of a source's images, and a function that reads its annotations.

    Raises UserError as `find_annotation_file` does.
    """
    file = find_annotation_file(source)
    if file is None:
        return source, lambda: (Annotation(name, None) for name in image_files(source))
    return file.parent, lambda: read_annotations(file)
