"""Files of stored predictions in several formats.

Formats: the `predictions.csv` of this suite; lines `index [prediction] [label]`; tab- or
comma-separated values with a header that names the columns, or without header as
prediction, label or index, prediction, label; JSON lines.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.runtime.errors import UserError
from core.text.protocols import Prediction

BRACKETS = re.compile(r"([^\s\[{]+)\s+\[(.*)\]\s+\[(.*)\]\s*", re.DOTALL)
COLUMN_NAMES = {  # our name -> names that files use
    "index": ("index", "idx", "id", "image", "filename", "file", "path", "img", "name"),
    "prediction": (
        *("prediction", "pred", "predicted", "pred_text", "hypothesis", "text", "y_pred"),
        *("preds", "predictions", "output", "recognized", "recognition", "result", "ocr"),
    ),
    "label": (
        *("label", "gt", "gt_text", "ground_truth", "target", "reference", "y_true"),
        *("labels", "truth", "groundtruth", "gold", "word", "words", "transcription"),
    ),
    "subset": ("subset", "dataset", "split"),
    "confidence": ("confidence", "score", "prob", "probability"),
    "readable": ("readable",),
}
COLUMNS_WITHOUT_HEADER = {2: ("prediction", "label"), 3: ("index", "prediction", "label")}
FORMAT_NAMES = (
    "`index [prediction] [label]`, JSON lines, or columns prediction and label under a header"
)
Subsets = dict[str, list[Prediction]]


def read_predictions(path: Path) -> Subsets:
    """Subset -> predictions in the order of the file; the subset is "" if the file names none.

    Raises UserError with file and line.
    """
    lines = _read_lines(path)
    if not lines:
        raise UserError(f"{path}: empty; it needs one line for each image")
    try:
        return _group_by_subset(path, lines)
    except csv.Error as error:
        raise UserError(
            f"{path}: not valid CSV ({error}); quote texts that contain commas or quotes"
        ) from error


def _read_lines(path: Path) -> list[str]:
    """The lines without blank ones. Only \\n and \\r\\n end a line: texts may contain others."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read().replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder; name a file of predictions") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    return [line for line in text.split("\n") if line.strip(" ")]


def _group_by_subset(path: Path, lines: list[str]) -> Subsets:
    subsets: Subsets = {}
    number_of_name: dict[str, int] = {}  # for images with names instead of numbers
    for number, row in enumerate(_parse_lines(path, lines)):
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
    if not subsets:
        raise UserError(f"{path}: a header without lines below it; it needs one for each image")
    return subsets


def _confidence(value: Any) -> float:
    """A confidence as a number; 0 if it is not a number (no score depends on it)."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _parse_lines(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    """The columns of each line: prediction, label and others in COLUMN_NAMES."""
    if BRACKETS.fullmatch(lines[0]):
        return _parse_brackets(path, lines)
    if lines[0].lstrip().startswith("{"):
        return _parse_json_lines(path, lines)
    return _parse_separated(path, lines)


def _parse_brackets(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        match = BRACKETS.fullmatch(line)
        if match is None:
            raise UserError(
                f"{path}, line {number}: not `index [prediction] [label]`: {line[:60]!r}"
            )
        yield {"index": match[1], "prediction": match[2], "label": match[3]}


def _parse_json_lines(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            columns = {name: row[key] for name, key in _find_columns(row).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path}, line {number}: not a JSON object: {line[:60]!r}") from error
        for name in ("prediction", "label"):
            if not isinstance(columns.get(name), str):
                raise UserError(f"{path}, line {number}: no text under {_choices(name)}")
        yield columns


def _choices(column: str) -> str:
    return " or ".join(COLUMN_NAMES[column][:3])


def _find_columns(keys: Iterable[str]) -> dict[str, str]:
    """Our name -> the key of the file that means it."""
    key_of = {key.strip().lower(): key for key in keys}
    columns = {}
    for name, synonyms in COLUMN_NAMES.items():
        key = next((key_of[synonym] for synonym in synonyms if synonym in key_of), None)
        if key is not None:
            columns[name] = key
    return columns


def _parse_separated(path: Path, lines: list[str]) -> Iterator[Mapping[str, Any]]:
    separator = "\t" if "\t" in lines[0] else ","
    rows = _split_cells(lines, separator)
    head = [cell.strip().lower() for cell in next(rows)]
    positions = _header_positions(path, head)
    first_line = 2
    if not positions:
        _refuse_unknown_header(path, lines[0], head)
        if len(head) not in COLUMNS_WITHOUT_HEADER:
            raise UserError(f"{path}, line 1: none of the forms {FORMAT_NAMES}: {lines[0][:60]!r}")
        names = COLUMNS_WITHOUT_HEADER[len(head)]
        positions = {name: position for position, name in enumerate(names)}
        rows = _split_cells(lines, separator)
        first_line = 1
    if first_line == 1:
        rows = iter(_without_scores(path, list(rows), positions["prediction"]))
    for number, row in enumerate(rows, first_line):
        if len(row) != len(head):
            start = separator.join(row)[:60]
            raise UserError(
                f"{path}, line {number}: {len(row)} columns, not {len(head)}: {start!r}"
            )
        yield {name: row[position] for name, position in positions.items()}


def _header_positions(path: Path, head: list[str]) -> dict[str, int]:
    """Our name -> position of the column; {} if the first line is not a header."""
    columns = _find_columns(head)
    missing = [name for name in ("prediction", "label") if name not in columns]
    if len(missing) == 2:
        return {}
    if missing:
        raise UserError(
            f"{path}, line 1: a header without {missing[0]}; name that column "
            f"{_choices(missing[0])}"
        )
    return {name: head.index(key) for name, key in columns.items()}


HEADER_CELL = re.compile(r"[a-z]+(_[a-z]+)+")  # such as true_text; words have no underscores


def _refuse_unknown_header(path: Path, line: str, head: list[str]) -> None:
    """Raise UserError for a first line that is a header whose names are unknown."""
    known = {synonym for synonyms in COLUMN_NAMES.values() for synonym in synonyms}
    is_header = all(HEADER_CELL.fullmatch(cell) or cell in known for cell in head)
    if is_header and any("_" in cell or cell in known for cell in head):
        raise UserError(
            f"{path}, line 1: unknown column names {line[:60]!r}; name the columns "
            f"{_choices('prediction')}, and {_choices('label')}"
        )


DECIMAL = re.compile(r"[+-]?\d*\.?\d+(e[+-]?\d+)?%?", re.IGNORECASE)


def _without_scores(path: Path, rows: list[list[str]], prediction: int) -> list[list[str]]:
    """The rows, whose last column must be labels. Raises UserError if it is scores.

    PaddleOCR and OpenOCR write image, text and score, without a label. Numbers such as 0.9998 in
    all lines, of which none equals the prediction, are scores. House numbers are labels.
    """
    last = [row[-1].strip() for row in rows]
    fractions = [value for value in last if "." in value or "e" in value.lower()]
    if (
        all(DECIMAL.fullmatch(value) for value in last)
        and 2 * len(fractions) >= len(last)
        and not any(row[-1].strip() == row[prediction].strip() for row in rows if len(row) > 1)
    ):
        raise UserError(
            f"{path}: the last column has numbers such as {fractions[0]!r}, which are scores and "
            "no labels; add a column with the labels, under a header: image, prediction, label"
        )
    return rows


def _split_cells(lines: list[str], separator: str) -> Iterator[list[str]]:
    """The cells of each line; quotes have a meaning only between commas."""
    if separator == "\t":
        return (line.split("\t") for line in lines)
    return csv.reader((f"{line}\n" for line in lines), strict=True)
