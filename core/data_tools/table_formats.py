"""Annotations in CSV and TSV files.

In a CSV file, a cell may be quoted: `"a, b"`, with `""` for a quote. A quote that is not part of a
correctly quoted cell is text. A label without quotes may contain the separator. In a TSV file,
quotes are text.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from core.data_tools.annotations import (
    EXCERPT,
    IMAGE_NAMES,
    IMAGE_SUFFIXES,
    LABEL_NAMES,
    Annotation,
    is_image_name,
    unusable,
)
from core.data_tools.reading import AS_FOUND, Reading
from core.runtime.errors import UserError

SEPARATORS = (",", ";", "\t")
MAX_CELL_LINES = 20  # lines that a quoted cell may span
_SUFFIXES = "|".join(map(re.escape, IMAGE_SUFFIXES))
_QUOTED_TEXT = r'"([^"]*(?:""[^"]*)*)"'
_OPEN_CELL = re.compile(r' *"([^"]*(?:""[^"]*)*)')  # up to the end of the line


class CsvCell(NamedTuple):
    """A cell of a row."""

    text: str
    raw: str  # as it is written
    quoted: bool


class CsvRow(NamedTuple):
    """A row of a table, and the lines it comes from."""

    cells: list[CsvCell]
    line: str


@dataclass(frozen=True)
class CsvColumns:
    """Where a table has its images and labels."""

    image: int
    label: int
    count: int
    has_header: bool


def parse_csv(lines: Iterable[str], reading: Reading = AS_FOUND) -> Iterator[Annotation]:
    """The annotations in the lines of a CSV file. The separator is `,`, `;` or a tab.

    Raises UserError if the header lacks a column that `reading` names; so does `parse_tsv`.
    """
    stripped = _text_lines(lines)
    first = next(stripped, None)
    if first is None:
        return
    if first.lower().startswith("sep=") and len(first) == 5:  # a line that Excel understands
        separator = first[-1]
    else:
        separator = find_separator(first, reading)
        stripped = chain([first], stripped)
    rows = _csv_rows(stripped, separator)
    yield from _annotations(rows, separator, reading)


def parse_tsv(lines: Iterable[str], reading: Reading = AS_FOUND) -> Iterator[Annotation]:
    """The annotations in the lines of a TSV file."""
    rows = (CsvRow(_plain_cells(line, "\t"), line) for line in _text_lines(lines))
    yield from _annotations(rows, "\t", reading)


def find_separator(line: str, reading: Reading = AS_FOUND) -> str:
    """The separator of a CSV file, from its header or from its first image name."""
    for separator in SEPARATORS:
        if _header_columns(_split(line, separator), reading):
            return separator
    image = re.match(rf'.*?(?:{_SUFFIXES})"?\s*([,;\t])', line, re.IGNORECASE)
    if image:
        return image[1]
    return next((separator for separator in SEPARATORS if separator in line), ",")


def _text_lines(lines: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines)


def _csv_rows(lines: Iterator[str], separator: str) -> Iterator[CsvRow]:
    """The rows of a CSV file. A row has several lines if a quoted cell does."""
    waiting: list[str] = []  # lines that were looked at in advance
    while True:
        line = waiting.pop(0) if waiting else next(lines, None)
        if line is None:
            return
        count = 0
        opened = _open_cell(line, separator)
        if opened is not None and not _has_image_cell(opened, separator):
            waiting += islice(lines, MAX_CELL_LINES - len(waiting))
            count = _closing_line(waiting, separator, _has_image_cell(line, separator))
        text = "\n".join([line, *waiting[:count]])
        del waiting[:count]
        yield CsvRow(_split(text, separator), text)


def _open_cell(line: str, separator: str) -> str | None:
    """The text of a cell whose quote is not closed on this line; None if there is none."""
    last = _split(line, separator, until_open=True)[-1]
    cell = _OPEN_CELL.fullmatch(last.raw)
    return cell[1] if cell and not last.quoted else None


def _closing_line(lines: list[str], separator: str, known_images: bool) -> int:
    """The number of lines up to the one that closes a quoted cell; 0 if none closes it.

    A line that looks like a row ends the search: then the open quote is a part of a label.

    Args:
        lines: The lines after the one that opens the cell.
        separator: The separator of cells.
        known_images: Whether the image of the row is known by its suffix.
    """
    closing = re.compile(rf'([^"]*(?:""[^"]*)*)" *(?={re.escape(separator)}|$)')
    for number, line in enumerate(lines, 1):
        end = closing.match(line)
        inside = end[1] if end else line
        known = known_images or bool(end and _has_image_cell(line[end.end() :], separator))
        is_row = _has_image_cell(inside, separator) or (not known and separator in inside)
        if is_row or (not end and '"' in inside.replace('""', "")):
            return 0
        if end:
            return number
    return 0


def _has_image_cell(text: str, separator: str) -> bool:
    return any(is_image_name(cell.strip(' "')) for cell in text.split(separator))


def _split(line: str, separator: str, until_open: bool = False) -> list[CsvCell]:
    """The cells of a row.

    Args:
        line: The row.
        separator: The separator of cells.
        until_open: The text from an open quote on is one cell.
    """
    end = rf" *(?={re.escape(separator)}|\Z)"
    quoted = re.compile(f" *{_QUOTED_TEXT}{end}", re.DOTALL)
    cells: list[CsvCell] = []
    position = 0
    while True:
        match = quoted.match(line, position)
        if match:
            stop = match.end()
            cells.append(CsvCell(match[1].replace('""', '"'), match[0], True))
        else:
            stop = line.find(separator, position)
            is_open = until_open and _OPEN_CELL.fullmatch(line, position)
            stop = len(line) if stop < 0 or is_open else stop
            raw = line[position:stop]
            cells.append(CsvCell(raw.lstrip(" "), raw, False))
        if stop >= len(line):
            return cells
        position = stop + 1


def _plain_cells(line: str, separator: str) -> list[CsvCell]:
    return [CsvCell(cell, cell, False) for cell in line.split(separator)]


def _header_columns(cells: list[CsvCell], reading: Reading) -> CsvColumns | None:
    """The columns that a header names; None if the row is no header."""
    names = [cell.text.strip().lower() for cell in cells]
    image = _position(names, reading.image_column, IMAGE_NAMES)
    label = _position(names, reading.text_column, LABEL_NAMES)
    return None if image is None or label is None else CsvColumns(image, label, len(names), True)


def _position(names: list[str], wanted: str | None, usual: Iterable[str]) -> int | None:
    """The position of a column in a header. wanted: the name that the user gave."""
    candidates = usual if wanted is None else [wanted.strip().lower()]
    return next((names.index(name) for name in candidates if name in names), None)


def _annotations(rows: Iterator[CsvRow], separator: str, reading: Reading) -> Iterator[Annotation]:
    """The annotations in rows. Without a header: the image, then its label."""
    used: Iterator[CsvRow] = (row for row in rows if row.line.strip())
    first = next(used, None)
    if first is None:
        return
    columns = _header_columns(first.cells, reading)
    if columns is None:
        _refuse_names(first, reading)
        count = len(first.cells) if separator == "\t" else 2
        columns = CsvColumns(image=0, label=1, count=max(count, 2), has_header=False)
        used = chain([first], used)
    for row in used:
        yield _annotation(row, columns, separator)


def _refuse_names(first: CsvRow, reading: Reading) -> None:
    """Raise UserError if the user named a column, but the first row is no header with it."""
    for flag, wanted in (
        ("--image-column", reading.image_column),
        ("--text-column", reading.text_column),
    ):
        if wanted is not None:
            header = ", ".join(cell.text.strip() for cell in first.cells)[:EXCERPT]
            raise UserError(
                f"{flag} {wanted}: the first line does not name the columns of images and texts "
                f"({header}); name both with --image-column and --text-column"
            )


def _annotation(row: CsvRow, columns: CsvColumns, separator: str) -> Annotation:
    """The annotation in a row. Cells beyond the header's belong to the label if that is clear."""
    cells = row.cells
    extra = max(len(cells) - columns.count, 0)
    if len(cells) <= max(columns.image, columns.label):
        return unusable(row.line, f"{len(cells)} column{'s' * (len(cells) > 1)}")
    label_cells = cells[columns.label : columns.label + extra + 1]
    is_quoted = any(cell.quoted for cell in label_cells)
    if extra == 0 or (is_quoted and not columns.has_header):
        return Annotation(_image(cells[columns.image], separator), cells[columns.label].text)
    is_clear = columns.count == 2 or columns.label in (0, columns.count - 1)
    if separator == "\t" or is_quoted or not is_clear:
        return unusable(row.line, f"{len(cells)} columns, where the table has {columns.count}")
    image = columns.image + (extra if columns.image > columns.label else 0)
    label = separator.join(cell.raw for cell in label_cells).lstrip(" ")
    return Annotation(_image(cells[image], separator), label)


def _image(cell: CsvCell, separator: str) -> str:
    return cell.text if separator == "\t" else cell.text.strip()
