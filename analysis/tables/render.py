"""Tables in every output format: Markdown, CSV, LaTeX, HTML, JSON."""

import json
from collections.abc import Callable, Sequence

from analysis.tables.content import TableContent, as_json
from analysis.tables.grids import titled_grids
from analysis.tables.render_csv import csv
from analysis.tables.render_html import html
from analysis.tables.render_latex import latex
from analysis.tables.text_grid import TextGrid


def markdown(contents: Sequence[TableContent]) -> str:
    """Tables as Markdown, aligned for a terminal."""
    return "\n\n".join(map(_markdown_table, contents)) + "\n"


def _markdown_table(content: TableContent) -> str:
    parts = [f"# {content.heading}", ""]
    for title, grid in titled_grids(content):
        if title:
            parts += [f"## {title}", ""]
        parts += [*pipe_table(grid), ""]
    parts += [f"- {text}" for text in (*content.notes, *content.rules)]
    return "\n".join(parts)


def pipe_table(grid: TextGrid) -> list[str]:
    """The lines of a grid as a Markdown table."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in (grid.head, *grid.lines)]
    widths = [max(map(len, cells)) for cells in zip(*escaped, strict=True)]

    def line_text(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [line_text(escaped[0]), rule, *map(line_text, escaped[1:])]


def json_text(contents: Sequence[TableContent]) -> str:
    """Tables as a JSON list."""
    values = [as_json(content) for content in contents]
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"


FORMATS: dict[str, Callable[[Sequence[TableContent]], str]] = {
    "md": markdown,
    "csv": csv,
    "latex": latex,
    "html": html,
    "json": json_text,
}
