"""Reads annotation files, in the formats that data sets are published in.

Formats: text lines `image label`, separated by a tab, a comma, a semicolon or white space (ICDAR's
quotes are removed); TSV or CSV, with or without a header; JSON lines `{"filename": ..., "text":
...}`; JSON lists of such objects; MMOCR 1.x's JSON (`data_list` of `img_path` and `instances`).
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
from core.data_tools.table_formats import parse_csv, parse_tsv
from core.data_tools.text_encoding import file_encoding, undecodable_text
from core.runtime.errors import UserError

_SUFFIX_PATTERN = "|".join(map(re.escape, IMAGE_SUFFIXES))
# An image name, which may contain spaces, up to a known suffix; then the label.
_KNOWN_SUFFIX = re.compile(rf"(.+?(?:{_SUFFIX_PATTERN}))(?:\s*[,;]\s*|\s+)(.+)", re.IGNORECASE)
# An image name up to the first space or comma; then the label.
_FIRST_WORD = re.compile(r"([^\s,]+)(?:\s*,\s*|\s+)(.+)")
_QUOTED = re.compile(r'(.+?)\s*,\s*"(.*)"\s*')  # ICDAR: image, "label"


def read_annotations(file: Path) -> Iterator[Annotation]:
    """The annotations in a file.

    Raises UserError if it is not text in UTF-8 or UTF-16, or has none of the known formats.
    """
    encoding = file_encoding(file)
    with file.open(encoding=encoding, newline="") as stream:
        try:
            yield from _parse(file, stream)
        except UnicodeDecodeError as error:
            raise undecodable_text(file, encoding) from error
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{file}: not valid JSON ({error})") from error


def _parse(file: Path, stream: TextIO) -> Iterator[Annotation]:
    """Choose the format by the file's suffix and first line."""
    suffix = file.suffix.lower()
    start = stream.read(1 << 16).lstrip()
    stream.seek(0)
    first_line = start.partition("\n")[0]
    has_json_lines = (
        first_line.startswith("{")
        and _is_json_object(first_line)
        and '"data_list"' not in first_line
    )
    if has_json_lines or (suffix == ".jsonl" and not start.startswith("[")):
        yield from _json_lines(stream)
    elif suffix in (".json", ".jsonl") or start.startswith("{"):
        yield from _json_document(file, _load_json(stream.read()))
    elif suffix == ".tsv":
        yield from parse_tsv(stream)
    elif suffix == ".csv":
        yield from parse_csv(stream)
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


def _json_annotation(entry: Any) -> Annotation:
    """The annotation in a JSON object: `filename` and `text`, or `img_path` and one instance."""
    if not isinstance(entry, dict):
        return unusable(str(entry), "not a JSON object")
    image = _first_text(entry, IMAGE_NAMES)
    if image is None:
        return unusable(json.dumps(entry), f"no image under {', '.join(IMAGE_NAMES[:3])}")
    instances = entry.get("instances")
    if isinstance(instances, list):
        if len(instances) != 1:
            return Annotation(image, "", f"{len(instances)} instances; a word image has one")
        entry = instances[0] if isinstance(instances[0], dict) else {}
    label = _first_text(entry, LABEL_NAMES)
    if label is not None:
        return Annotation(image, label)
    named = any(name in entry for name in LABEL_NAMES)
    return Annotation(image, "", "label is not a text or a number" if named else "no text")


def _first_text(entry: dict[str, Any], names: Iterable[str]) -> str | None:
    return next((entry[name] for name in names if isinstance(entry.get(name), str)), None)


def _json_document(file: Path, content: Any) -> Iterator[Annotation]:
    entries = content.get("data_list") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise UserError(
            f"{file}: no list of images; give a JSON list, or `data_list` as MMOCR 1.x writes it"
        )
    return map(_json_annotation, entries)


def _json_lines(lines: Iterable[str]) -> Iterator[Annotation]:
    for line in lines:
        if line.strip():
            try:
                yield _json_annotation(_load_json(line))
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
