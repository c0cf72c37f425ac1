"""A grid of text cells: the common form of all parts of a table before they are formatted."""

from dataclasses import dataclass

ABSENT = "–"


@dataclass(frozen=True)
class TextGrid:
    """Cells of text.

    head: the names of the columns.
    lines: the cells of each line. A line whose first cell is empty belongs to the line above.
    """

    head: list[str]
    lines: list[list[str]]
