"""Markdown from texts of any content: escapes, code spans, tables, fenced blocks."""

import re
from collections.abc import Iterable, Sequence

# Characters with a meaning for Markdown or for formulas ($). An underscore inside a word has none.
SPECIAL = re.compile(r"([\\`*{}\[\]<>#!|~$&^]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
AT_START = re.compile(r"^(\s*)([-=+]|\d+(?=[.)]))")  # lists and underlines of headings


def escape(text: str) -> str:
    """A text as one line of Markdown that shows each of its characters.

    Control characters and line ends become one space."""
    line = SPECIAL.sub(r"\\\1", CONTROL.sub(" ", text))
    return AT_START.sub(_escaped_start, line)


def _escaped_start(match: re.Match[str]) -> str:
    """The start of a line with an escape: a list's number keeps its digits."""
    space, mark = match.groups()
    return f"{space}\\{mark}" if not mark.isdigit() else f"{space}{mark}\\"


def code_span(text: str) -> str:
    """A text as code, in which Markdown has no meaning. An empty text becomes `(empty)`."""
    line = CONTROL.sub(" ", text)
    if not line.strip():
        return "(empty)" if not line else f"({len(line)} white space)"
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def fenced(text: str, language: str = "") -> list[str]:
    """The lines of a block of code."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text.rstrip("\n").split("\n"), fence]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table. Cells are Markdown; a bar in them is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in cells)} |" for cells in lines]


def _cell(text: str) -> str:
    """A cell whose bars are all escaped."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", text)
