"""Files of stored predictions in several formats.

Formats: the `predictions.csv` of this suite; lines `index [prediction] [label]`; values separated
by tabs, commas or semicolons with a header that names the columns, or without header as
prediction, label or index, prediction, label; JSON lines, or a JSON list of objects. The encoding
is UTF-8 or UTF-16.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from analysis.tables.prediction_columns import (
    COLUMNS_WITHOUT_HEADER,
    SHOWN,
    TEXT_COLUMNS,
    accepted_names,
    check_texts,
    find_columns,
    header_positions,
)
from core.data_tools.text_encoding import file_encoding, undecodable_text
from core.peer import NOTES
from core.runtime.errors import UserError
from core.text.protocols import Prediction

BRACKETS = re.compile(r"([^\s\[{]+)\s+\[(.*)\]\s+\[(.*)\]\s*", re.DOTALL)
FORMAT_NAMES = (
    "`index [prediction] [label]`, JSON lines, or columns prediction and label under a header"
)
SEPARATORS = ("\t", ",", ";")
HEADER_EVIDENCE = 20  # rows below a first line that are compared with it
Subsets = dict[str, list[Prediction]]
Columns = Mapping[str, Any]  # our name of a column -> its value in one row


class Line(NamedTuple):
    """A line of a file and its number, counted from 1."""

    number: int
    text: str


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


def read_prediction_file(path: Path) -> PredictionFile:
    """The content of a file of predictions.

    Raises UserError with file and line if it has none of the formats.
    """
    lines = _read_lines(path)
    if not lines:
        raise UserError(f"{path}: empty; it needs one line for each image")
    notes: list[str] = []
    try:
        subsets, recognizers = _group_by_subset(path, _parse_lines(path, lines, notes))
    except csv.Error as error:
        raise UserError(
            f"{path}: not valid CSV ({error}); quote texts that contain commas or quotes"
        ) from error
    notes += [NOTES[name] for name in sorted(NOTES.keys() & recognizers)]
    return PredictionFile(subsets, tuple(notes))


def _read_lines(path: Path) -> list[Line]:
    """The lines without blank ones. Only \\n and \\r\\n end a line: texts may contain others."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        raise UserError(f"{path}: a folder; name a file of predictions")
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


def _parse_lines(path: Path, lines: list[Line], notes: list[str]) -> Iterator[Columns]:
    """The columns of each row: prediction, label and others in COLUMN_NAMES. Appends notes."""
    first = lines[0].text.lstrip()
    if BRACKETS.fullmatch(lines[0].text):
        return _parse_brackets(path, lines)
    if first.startswith("{"):
        return _parse_json_lines(path, lines)
    if first.startswith("[") and (entries := _json_list(lines)) is not None:
        return (
            _json_columns(entry, f"{path}, entry {number}")
            for number, entry in enumerate(entries, 1)
        )
    return _parse_separated(path, lines, notes)


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


def _json_list(lines: list[Line]) -> list[Any] | None:
    """The entries of a file that is one JSON list; None if it is none."""
    try:
        entries = _load_json("\n".join(line.text for line in lines))
    except (ValueError, RecursionError):
        return None
    return entries if isinstance(entries, list) and entries else None


def _parse_json_lines(path: Path, lines: list[Line]) -> Iterator[Columns]:
    for number, line in lines:
        position = f"{path}, line {number}"
        try:
            entry = _load_json(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{position}: not a JSON object: {line[:SHOWN]!r}") from error
        yield _json_columns(entry, position)


def _json_columns(entry: Any, position: str) -> Columns:
    """The columns of a JSON object. Raises UserError; position: file and line."""
    if not isinstance(entry, dict):
        raise UserError(f"{position}: not a JSON object: {str(entry)[:SHOWN]!r}")
    columns = {name: entry[key] for name, key in find_columns(entry).items()}
    for name in TEXT_COLUMNS:
        if not isinstance(columns.get(name), str):
            keys = ", ".join(map(str, entry)) or "none"
            raise UserError(
                f"{position}: no text under {name}; accepted keys are {accepted_names(name)}; "
                f"the object has {keys[:SHOWN]}"
            )
    return columns


# separated values


def _parse_separated(path: Path, lines: list[Line], notes: list[str]) -> Iterator[Columns]:
    first = lines[0].text
    separator = _separator(first)
    rows = [cells for _, cells in islice(_split_cells(lines, separator), HEADER_EVIDENCE)]
    head = rows[0]
    positions = header_positions(path, first, rows)
    if positions:
        return _rows(path, lines, separator, positions)
    if len(head) not in COLUMNS_WITHOUT_HEADER:
        raise UserError(f"{path}, line 1: none of the forms {FORMAT_NAMES}: {first[:SHOWN]!r}")
    names = COLUMNS_WITHOUT_HEADER[len(head)]
    positions = {name: position for position, name in enumerate(names)}
    columns = list(_rows(path, lines, separator, positions, has_header=False))
    check_texts(path, columns)
    notes.append(
        f"the file has no header: its columns are taken as {', '.join(names)}, and line "
        f"{lines[0].number} counts as an image"
    )
    return iter(columns)


def _rows(
    path: Path,
    lines: list[Line],
    separator: str,
    positions: Mapping[str, int],
    has_header: bool = True,
) -> Iterator[Columns]:
    """The columns of each row.

    path: the file, for errors.
    lines: its lines.
    separator: of the cells.
    positions: our name of a column -> its position.
    has_header: whether the first line is no row.

    Raises UserError for a row with another number of cells than the first.
    """
    rows = _split_cells(lines, separator)
    count = 0
    for number, cells in rows:
        if not count:
            count = len(cells)
            if has_header:
                continue
        if len(cells) != count:
            start = separator.join(cells)[:SHOWN]
            quote = "" if separator == "\t" else f"; quote texts that contain {separator!r}"
            raise UserError(
                f"{path}, line {number}: {len(cells)} columns, not {count}: {start!r}{quote}"
            )
        yield {name: cells[position] for name, position in positions.items()}


def _separator(line: str) -> str:
    """The separator of a file: the one that divides its header, or the first that occurs."""
    for separator in SEPARATORS:
        columns = find_columns(line.split(separator))
        if all(name in columns for name in TEXT_COLUMNS):
            return separator
    return next((separator for separator in SEPARATORS if separator in line), ",")


def _split_cells(lines: list[Line], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line.

    Quotes have a meaning between commas or semicolons, and between tabs if the header is quoted.
    """
    if separator == "\t" and not lines[0].text.startswith('"'):
        yield from ((number, line.split("\t")) for number, line in lines)
        return
    reader = csv.reader((f"{line}\n" for _, line in lines), delimiter=separator, strict=True)
    for cells in reader:
        yield lines[reader.line_num - 1].number, cells
