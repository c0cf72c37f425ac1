"""Predictions as values between tabs, commas or semicolons, with or without a header."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from analysis.tables.prediction_columns import (
    COLUMNS_WITHOUT_HEADER,
    SHOWN,
    UNLABELED_WITHOUT_HEADER,
    check_texts,
    find_columns,
    header_positions,
)
from analysis.tables.prediction_formats import Columns, Line
from core.runtime.errors import UserError

FORMAT_NAMES = (
    "`index [prediction] [label]`, JSON lines, or columns prediction and label under a header"
)
SEPARATORS = ("\t", ",", ";")
SEPARATORS_OF = {"csv": (",", ";"), "tsv": ("\t",)}  # formats with other ones
HEADER_EVIDENCE = 20  # rows below a first line that are compared with it


def parse_separated(
    path: Path,
    lines: list[Line],
    notes: list[str],
    needed: Sequence[str],
    separators: Sequence[str] = SEPARATORS,
) -> Iterator[Columns]:
    """The columns of each row of a table.

    path: the file, for errors.
    lines: its lines.
    notes: facts about the columns are appended.
    needed: columns that a header must name.
    separators: to choose from.

    Raises UserError if there are no such columns, and csv.Error for wrong quotes.
    """
    first = lines[0].text
    separator = _separator(first, needed, separators)
    rows = [cells for _, cells in islice(_split_cells(lines, separator), HEADER_EVIDENCE)]
    head = rows[0]
    positions = header_positions(path, first, rows, needed)
    if positions:
        return _rows(path, lines, separator, positions)
    is_labeled = "label" in needed
    names_of = COLUMNS_WITHOUT_HEADER if is_labeled else UNLABELED_WITHOUT_HEADER
    if len(head) not in names_of:
        raise UserError(f"{path}, line 1: none of the forms {FORMAT_NAMES}: {first[:SHOWN]!r}")
    names = names_of[len(head)]
    positions = {name: position for position, name in enumerate(names)}
    columns = list(_rows(path, lines, separator, positions, has_header=False))
    if is_labeled:
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


def _separator(line: str, needed: Sequence[str], allowed: Sequence[str]) -> str:
    """The separator of a file: the one that divides its header, or the first that occurs.

    line: the first line. needed: columns that a header names. allowed: separators to choose from.
    """
    for separator in allowed:
        columns = find_columns(line.split(separator))
        if all(name in columns for name in needed):
            return separator
    return next((separator for separator in allowed if separator in line), ",")


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
