"""Tables as HTML: a fragment for a page, or a page that needs no other file."""

import re
from collections.abc import Sequence
from html import escape

from analysis.tables.content import TableContent
from analysis.tables.grids import titled_grids
from analysis.tables.text_grid import TextGrid

# Verdict -> class of the line, which has a color.
LINE_CLASSES = {
    "reproduced": "agrees",
    "holds": "agrees",
    "differs": "disagrees",
    "reversed": "disagrees",
}
STYLE = (
    "body{font:14px/1.45 system-ui,sans-serif;margin:2em;}"
    ".wide{overflow-x:auto}ul{max-width:70em}"
    "table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.25em .5em;text-align:left;white-space:nowrap;border-bottom:1px solid #ddd}"
    "thead th{border-bottom:2px solid #444}.n{text-align:right}"
    "th:first-child,td:first-child{position:sticky;left:0;background:#fff}"
    "td:last-child{white-space:normal;min-width:10em}"
    "tr.agrees{background:#e3f0f9}tr.disagrees{background:#fbe6da}"
)


def html(contents: Sequence[TableContent]) -> str:
    """Tables as one page."""
    count = len(contents)
    title = contents[0].heading if count == 1 else f"{count} tables of the reproduction"
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join(map(html_fragment, contents))
    return f"<!doctype html>\n<html lang=en>{head}\n<body>\n{body}\n</body></html>\n"


def html_fragment(content: TableContent, level: int = 1) -> str:
    """A table with its notes as a part of a page.

    level: of the heading. Below level 1 the notes are folded.
    """
    parts = [f"<h{level}>{escape(content.heading)}</h{level}>"]
    for title, grid in titled_grids(content):
        heading = f"<h{level + 1}>{title}</h{level + 1}>" if title else ""
        parts.append(f"{heading}<div class=wide>{_html_table(grid)}</div>")
    items = (f"<li>{_with_code(text)}</li>" for text in (*content.notes, *content.rules))
    notes = f"<ul>{''.join(items)}</ul>"
    if level > 1:
        summary = "<summary>notes and rules of this table</summary>"
        notes = f"<details>{summary}{notes}</details>"
    return "\n".join([*parts, notes])


def _with_code(text: str) -> str:
    """Escaped text, with `code` between backquotes."""
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))


def numeric_columns(grid: TextGrid) -> list[bool]:
    """For each column whether it contains numbers, and is aligned to the right."""
    return [
        column > 0 and any(re.match(r"[+-]?\d", line[column]) for line in grid.lines)
        for column in range(len(grid.head))
    ]


def _html_table(grid: TextGrid) -> str:
    numeric = numeric_columns(grid)
    groups: list[list[str]] = []  # lines of the same row of the table
    for line in grid.lines:
        if line[0] or not groups:
            groups.append([])
        groups[-1].append(_html_line(line, "td", numeric))
    body = "".join(f"<tbody>{''.join(group)}</tbody>" for group in groups)
    return f"<table><thead>{_html_line(grid.head, 'th', numeric)}</thead>{body}</table>"


def _html_line(cells: Sequence[str], tag: str, numeric: Sequence[bool]) -> str:
    classes = (
        name
        for verdict, name in LINE_CLASSES.items()
        if cells[-1].startswith(verdict) or verdict in cells[-3:]
    )
    name = next(classes, "")
    line_class = f" class={name}" if name else ""
    shown = (
        f"<{tag}{' class=n' if right else ''}>{escape(cell).replace('_', '_<wbr>')}</{tag}>"
        for cell, right in zip(cells, numeric, strict=True)
    )
    return f"<tr{line_class}>{''.join(shown)}</tr>"
