"""Files of stored predictions in several formats.

Formats: the `predictions.csv` of this suite; lines `index [prediction] [label]`; values separated
by tabs, commas or semicolons with a header that names the columns, or without header as
prediction, label or index, prediction, label; JSON lines, or a JSON list of objects; the formats in
foreign_predictions.py. The encoding is UTF-8 or UTF-16. Labels may come from another file.
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.tables.foreign_predictions import (
    PARSERS,
    entries_of_document,
    find_foreign_format,
    flatten_entry,
    refuse_pickle,
)
from analysis.tables.prediction_columns import (
    SHOWN,
    TEXT_COLUMNS,
    TRUTH_HINT,
    WITHOUT_LABELS,
    accepted_names,
    find_columns,
)
from analysis.tables.prediction_formats import AS_FOUND, Columns, Line, PredictionReading
from analysis.tables.prediction_tables import SEPARATORS, SEPARATORS_OF, parse_separated
from analysis.tables.truth import read_truth, with_labels
from core.data_tools.text_encoding import file_encoding, undecodable_text
from core.peer import NOTES
from core.runtime.errors import UserError
from core.text.protocols import Prediction
from results.prediction_files import is_split, read_rows

BRACKETS = re.compile(r"([^\s\[{]+)\s+\[(.*)\]\s+\[(.*)\]\s*", re.DOTALL)
Subsets = dict[str, list[Prediction]]


@dataclass(frozen=True)
class PredictionFile:
    """The content of a file of predictions.

    subsets: subset -> predictions in the order of the file; the subset is "" if it names none.
    notes: how the file was understood, where it does not say so itself.
    """

    subsets: Subsets
    notes: tuple[str, ...] = ()


def read_predictions(path: Path) -> Subsets:
    """The predictions of a file by subset. Errors as in `read_prediction_file`."""
    return read_prediction_file(path).subsets


def read_prediction_file(path: Path, reading: PredictionReading = AS_FOUND) -> PredictionFile:
    """The content of a file of predictions, or of a folder of JSON files, one for each image.

    reading: its format, and the file of its labels, where it does not have them itself.

    Raises UserError with file and line if it has none of the formats.
    """
    notes: list[str] = []
    try:
        rows = _read_rows(path, reading, notes)
        if reading.truth is not None:
            rows = with_labels(path, rows, read_truth(reading.truth), notes)
        subsets, recognizers = _group_by_subset(path, rows)
    except csv.Error as error:
        raise UserError(
            f"{path}: not valid CSV ({error}); quote texts that contain commas or quotes"
        ) from error
    notes += [NOTES[name] for name in sorted(NOTES.keys() & recognizers)]
    return PredictionFile(subsets, tuple(notes))


def _read_rows(path: Path, reading: PredictionReading, notes: list[str]) -> Iterator[Columns]:
    """The columns of each row of a file or a folder. Appends notes."""
    has_truth = reading.truth is not None
    if not has_truth and path.is_file() and is_split(path):
        return _split_rows(path)
    if path.is_dir() and reading.format in (None, "mmocr", "paddleocr", "json"):
        return _read_folder(path, has_truth)
    lines = _read_lines(path)
    if not lines:
        raise UserError(f"{path}: empty; it needs one line for each image")
    return _parse_lines(path, lines, notes, reading.format, has_truth)


def _split_rows(path: Path) -> Iterator[Columns]:
    """The rows of a run's predictions whose labels are in `words.csv`."""
    try:
        head, *rows = read_rows(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not the predictions of a run ({error})") from error
    return (dict(zip(head, row, strict=True)) for row in rows)


def _read_folder(path: Path, has_truth: bool) -> Iterator[Columns]:
    """The texts of a folder of JSON files; a file has the name of its image, or names it."""
    files = sorted(path.glob("*.json"))
    if not files:
        raise UserError(
            f"{path}: a folder without JSON files; name a file of predictions, or the folder preds "
            "of MMOCR"
        )
    needed = WITHOUT_LABELS if has_truth else TEXT_COLUMNS
    for file in files:
        entries = _json_entries(_read_lines(file))
        if entries is None or len(entries) != 1 or not isinstance(entries[0], dict):
            raise UserError(f"{file}: not one JSON object; a folder has one for each image")
        entry = entries[0]
        if "index" not in find_columns(entry):
            entry = {"image": file.stem.removesuffix("_res"), **entry}  # as PaddleOCR 3 names it
        yield _json_columns(entry, str(file), needed)


def _read_lines(path: Path) -> list[Line]:
    """The lines without blank ones. Only \\n and \\r\\n end a line: texts may contain others."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        raise UserError(f"{path}: a folder; name a file of predictions")
    refuse_pickle(path)
    encoding = file_encoding(path)
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.read().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise undecodable_text(path, encoding) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    lines = (Line(number, line) for number, line in enumerate(text.split("\n"), 1))
    return [line for line in lines if line.text.strip(" ")]


def _group_by_subset(path: Path, rows: Iterator[Columns]) -> tuple[Subsets, set[str]]:
    """The predictions by subset, and the names of the recognizers that the rows name."""
    subsets: Subsets = {}
    recognizers: set[str] = set()
    number_of_name: dict[str, int] = {}  # for images with names instead of numbers
    for number, row in enumerate(rows):
        name = str(row.get("index", number))
        is_number = name.isascii() and name.isdigit()
        prediction = Prediction(
            index=int(name) if is_number else number_of_name.setdefault(name, number),
            label=row["label"],
            prediction=row["prediction"],
            confidence=_confidence(row.get("confidence")),
            scorable=str(row.get("readable", "1")) not in ("0", "False", "false"),
        )
        subsets.setdefault(str(row.get("subset", "")), []).append(prediction)
        recognizers.add(str(row.get("recognizer", "")))
    if not subsets:
        raise UserError(f"{path}: a header without lines below it; it needs one for each image")
    return subsets, recognizers


def _confidence(value: Any) -> float:
    """A confidence as a number; 0 if it is not a number (no score depends on it)."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _parse_lines(
    path: Path, lines: list[Line], notes: list[str], name: str | None, has_truth: bool
) -> Iterator[Columns]:
    """The columns of each row: prediction, label and others in COLUMN_NAMES.

    path: the file, for errors.
    lines: its lines.
    notes: facts about the columns are appended.
    name: of the format; None: it is found by the content.
    has_truth: whether labels come from another file.
    """
    name = name or _find_format(path, lines)
    needed = WITHOUT_LABELS if has_truth else TEXT_COLUMNS
    if name in PARSERS:
        notes.append(f"read as the output of {name}; --format names another format")
        rows = PARSERS[name](path, lines)
        return rows if has_truth else _labeled(path, rows)
    if name == "brackets":
        return _parse_brackets(path, lines)
    if name in ("json", "mmocr"):
        entries = _json_entries(lines)
        if entries is None:
            return _parse_json_lines(path, lines, needed)
        return (
            _json_columns(entry, f"{path}, entry {number}", needed)
            for number, entry in enumerate(entries, 1)
        )
    return parse_separated(path, lines, notes, needed, SEPARATORS_OF.get(name, SEPARATORS))


def _find_format(path: Path, lines: list[Line]) -> str:
    """The format of a file: a name in FORMATS, or `separated`."""
    first = lines[0].text.lstrip()
    if BRACKETS.fullmatch(lines[0].text):
        return "brackets"
    if first.startswith("{") or (first.startswith("[") and _json_entries(lines) is not None):
        return "json"
    return find_foreign_format(path, lines) or "separated"


def _labeled(path: Path, rows: Iterator[Columns]) -> Iterator[Columns]:
    """Rows of another program. Raises UserError if they have no labels."""
    for row in rows:
        if "label" not in row:
            raise UserError(f"{path}: texts without labels; {TRUTH_HINT}")
        yield row


def _parse_brackets(path: Path, lines: list[Line]) -> Iterator[Columns]:
    for number, line in lines:
        match = BRACKETS.fullmatch(line)
        if match is None:
            raise UserError(
                f"{path}, line {number}: not `index [prediction] [label]`: {line[:SHOWN]!r}"
            )
        yield {"index": match[1], "prediction": match[2], "label": match[3]}


# JSON


def _load_json(text: str) -> Any:
    """A JSON value. A number becomes the text that is written: 1.50 is "1.50"."""
    return json.loads(text, parse_int=str, parse_float=str)


def _json_entries(lines: list[Line]) -> list[Any] | None:
    """The entries of a file that is one JSON document; None if it is none."""
    try:
        return entries_of_document(_load_json("\n".join(line.text for line in lines)))
    except (ValueError, RecursionError):
        return None


def _parse_json_lines(path: Path, lines: list[Line], needed: Sequence[str]) -> Iterator[Columns]:
    for number, line in lines:
        position = f"{path}, line {number}"
        try:
            entry = _load_json(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{position}: not a JSON object: {line[:SHOWN]!r}") from error
        yield _json_columns(entry, position, needed)


def _json_columns(entry: Any, position: str, needed: Sequence[str]) -> Columns:
    """The columns of a JSON object. Raises UserError.

    position: file and line. needed: columns that must be texts.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{position}: not a JSON object: {str(entry)[:SHOWN]!r}")
    flat = flatten_entry(entry, position)
    columns = {name: flat[key] for name, key in find_columns(flat).items()}
    for name in needed:
        if not isinstance(columns.get(name), str):
            keys = ", ".join(map(str, entry)) or "none"
            hint = f"; {TRUTH_HINT}" if name == "label" else ""
            raise UserError(
                f"{position}: no text under {name}; accepted keys are {accepted_names(name)}; "
                f"the object has {keys[:SHOWN]}{hint}"
            )
    return columns
