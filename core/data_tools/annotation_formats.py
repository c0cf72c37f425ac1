"""Reads annotation files, in the formats that data sets are published in.

Formats: text lines `image label`, separated by a tab, a comma, a semicolon or white space (ICDAR's
quotes are removed); TSV or CSV, with or without a header; JSON lines `{"filename": ..., "text":
...}`; JSON lists of such objects; MMOCR 1.x's JSON (`data_list` of `img_path` and `instances`); the
formats of line_formats.py, photo_words.py and parquet_files.py. A format is found by its content.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from core.data_tools.annotations import (
    IMAGE_NAMES,
    IMAGE_SUFFIXES,
    LABEL_NAMES,
    Annotation,
    unusable,
)
from core.data_tools.line_formats import (
    is_mjsynth,
    is_paddleocr,
    mjsynth_words,
    paddleocr_words,
)
from core.data_tools.parquet_files import MAGIC as PARQUET
from core.data_tools.parquet_files import SUFFIX as PARQUET_SUFFIX
from core.data_tools.parquet_files import parquet_words
from core.data_tools.photo_words import (
    MAT_FILE,
    NEW_MAT_FILE,
    has_photo_words,
    photo_words,
    synthtext_words,
)
from core.data_tools.reading import AS_FOUND, Reading
from core.data_tools.table_formats import parse_csv, parse_tsv
from core.data_tools.text_encoding import file_encoding, undecodable_text
from core.runtime.errors import UserError

_SUFFIX_PATTERN = "|".join(map(re.escape, IMAGE_SUFFIXES))
# An image name, which may contain spaces, up to a known suffix; then the label.
_KNOWN_SUFFIX = re.compile(rf"(.+?(?:{_SUFFIX_PATTERN}))(?:\s*[,;]\s*|\s+)(.+)", re.IGNORECASE)
# An image name up to the first space or comma; then the label.
_FIRST_WORD = re.compile(r"([^\s,]+)(?:\s*,\s*|\s+)(.+)")
# Keys that only a document of many images has.
_DOCUMENT_KEY = re.compile(r'"(data_list|imgs|anns|imgToAnns)"')
_PHOTO_KEY = re.compile(r'"(imgs|anns|imgToAnns)"\s*:\s*\{')
_QUOTED = re.compile(r'(.+?)\s*,\s*"(.*)"\s*')  # ICDAR: image, "label"


def read_annotations(file: Path, reading: Reading = AS_FOUND) -> Iterator[Annotation]:
    """The annotations in a file.

    Raises UserError if it is not text in UTF-8 or UTF-16, or has none of the known formats.
    """
    name = reading.format or find_format(file)
    if name == "parquet":
        yield from parquet_words([file], reading)
        return
    if name == "synthtext":
        yield from synthtext_words(file, reading)
        return
    encoding = file_encoding(file)
    with file.open(encoding=encoding, newline="") as stream:
        try:
            yield from _parse(file, stream, name, reading)
        except UnicodeDecodeError as error:
            raise undecodable_text(file, encoding) from error
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{file}: not valid JSON ({error})") from error


def find_format(file: Path) -> str:
    """The format of a file, a name in FORMATS, by its first bytes and its suffix.

    Raises UserError if it is neither a text file nor of a known binary format.
    """
    suffix = file.suffix.lower()
    try:
        with file.open("rb") as binary:
            start = binary.read(len(MAT_FILE))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    if start.startswith(PARQUET) or suffix == PARQUET_SUFFIX:
        return "parquet"
    if start in (MAT_FILE, NEW_MAT_FILE) or suffix == ".mat":
        return "synthtext"
    encoding = file_encoding(file)
    with file.open(encoding=encoding, newline="") as stream:
        try:
            text = stream.read(1 << 16)
        except UnicodeDecodeError as error:
            raise undecodable_text(file, encoding) from error
    return _text_format(suffix, text)


def _text_format(suffix: str, text: str) -> str:
    """The format of a text file. suffix: in lower case. text: the first characters."""
    start = text.lstrip()
    lines = start.splitlines()
    first_line = lines[0] if lines else ""
    has_json_lines = (
        first_line.startswith("{")
        and _is_json_object(first_line)
        and not _DOCUMENT_KEY.search(first_line)
    )
    if has_json_lines or (suffix == ".jsonl" and not start.startswith("[")):
        return "jsonl"
    if suffix in (".json", ".jsonl") or start.startswith("{"):
        if not _PHOTO_KEY.search(start):
            return "json"
        return "cocotext" if '"legibility"' in start else "textocr"
    if suffix in (".tsv", ".csv"):
        return suffix.removeprefix(".")
    complete = lines[:-1] if len(lines) > 1 and not start.endswith("\n") else lines
    if is_mjsynth(complete):
        return "mjsynth"
    return "paddleocr" if is_paddleocr(complete) else "text"


def _parse(file: Path, stream: TextIO, name: str, reading: Reading) -> Iterator[Annotation]:
    """The annotations of a text file. name: of its format."""
    if name == "jsonl":
        yield from _json_lines(stream, reading)
    elif name in ("json", "textocr", "cocotext"):
        yield from _json_document(file, stream.read(), name, reading)
    elif name == "tsv":
        yield from parse_tsv(stream, reading)
    elif name == "csv":
        yield from parse_csv(stream, reading)
    elif name == "mjsynth":
        yield from mjsynth_words(stream)
    elif name == "paddleocr":
        yield from paddleocr_words(stream, reading)
    else:
        yield from _text_lines(stream)


def _load_json(text: str) -> Any:
    """A JSON value. Numbers become the text that is written: 1.50 is "1.50". NaN is None."""
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda name: None)


def _is_json_object(line: str) -> bool:
    """Whether a line is a complete JSON object. Then every line of the file is one."""
    try:
        return isinstance(_load_json(line), dict)
    except (json.JSONDecodeError, RecursionError):
        return False


def _json_annotation(entry: Any, reading: Reading) -> Annotation:
    """The annotation in a JSON object: `filename` and `text`, or `img_path` and one instance."""
    if not isinstance(entry, dict):
        return unusable(str(entry), "not a JSON object")
    image_names = [reading.image_column] if reading.image_column else IMAGE_NAMES
    label_names = [reading.text_column] if reading.text_column else LABEL_NAMES
    image = _first_text(entry, image_names)
    if image is None:
        return unusable(json.dumps(entry), f"no image under {', '.join(image_names[:3])}")
    instances = entry.get("instances")
    if isinstance(instances, list):
        if len(instances) != 1:
            return Annotation(image, "", f"{len(instances)} instances; a word image has one")
        entry = instances[0] if isinstance(instances[0], dict) else {}
    label = _first_text(entry, label_names)
    if label is not None:
        return Annotation(image, label)
    named = any(name in entry for name in label_names)
    return Annotation(image, "", "label is not a text or a number" if named else "no text")


def _first_text(entry: dict[str, Any], names: Iterable[str]) -> str | None:
    return next((entry[name] for name in names if isinstance(entry.get(name), str)), None)


def _json_document(file: Path, text: str, name: str, reading: Reading) -> Iterator[Annotation]:
    """The annotations of a JSON list or a document of MMOCR, TextOCR or COCO-Text."""
    if name != "json":
        return photo_words(file, json.loads(text, parse_constant=lambda name: None), reading)
    content = _load_json(text)
    entries = content.get("data_list") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        hint = "; --format textocr reads `imgs` and `anns`" if has_photo_words(content) else ""
        raise UserError(
            f"{file}: no list of images; give a JSON list, or `data_list` as MMOCR 1.x writes "
            f"it{hint}"
        )
    return (_json_annotation(entry, reading) for entry in entries)


def _json_lines(lines: Iterable[str], reading: Reading) -> Iterator[Annotation]:
    for line in lines:
        if line.strip():
            try:
                yield _json_annotation(_load_json(line), reading)
            except (json.JSONDecodeError, RecursionError):
                yield unusable(line, "not a line of JSON")


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
                yield unusable(text, "no label")
