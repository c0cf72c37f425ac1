"""Tables as LaTeX."""

from collections.abc import Sequence

import pandas as pd

from analysis.tables.content import TableContent
from analysis.tables.grids import titled_grids
from analysis.tables.render_html import numeric_columns
from analysis.tables.text_grid import TextGrid

PREAMBLE = (
    "% needs \\usepackage{booktabs, graphicx}; for Chinese names xelatex with \\usepackage{xeCJK}\n"
)
LEFT_OUT = ("covers", "McNemar p < 0.05")  # too wide for a page: in the caption and in the CSV
ESCAPES = {
    "\\": r"\textbackslash{}",
    "−": "$-$",
    "–": "--",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # at the start of a line it would be an option of the line before
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"${character}$" for character in "<>|"},
}


def latex(contents: Sequence[TableContent]) -> str:
    """Tables for a LaTeX document with booktabs and graphicx."""
    tables = (
        _table(content, title, grid)
        for content in contents
        for title, grid in titled_grids(content)
    )
    return "\n".join([PREAMBLE, *tables])


def _table(content: TableContent, title: str, grid: TextGrid) -> str:
    shown = _narrow(grid)
    lines = [[_escape(cell) for cell in line] for line in shown.lines]
    head = [_escape(cell) for cell in shown.head]
    alignment = "".join("r" if numeric else "l" for numeric in numeric_columns(shown))
    styled = pd.DataFrame(lines, columns=head).style.hide(axis="index")
    tabular = styled.to_latex(hrules=True, column_format=alignment).strip()
    scale_and_intervals = " ".join(content.notes[:2])
    subtitle = f"{title}. " if title else ""
    caption = f"Reproduction of {content.heading}. {subtitle}{scale_and_intervals}"
    return (
        "\\begin{table}\n\\centering\n"
        f"\\resizebox{{\\linewidth}}{{!}}{{%\n{tabular}}}\n"
        f"\\caption{{{_escape(caption)}}}\n"
        "\\end{table}\n"
    )


def _narrow(grid: TextGrid) -> TextGrid:
    """The grid without the columns LEFT_OUT."""
    kept = [position for position, name in enumerate(grid.head) if name not in LEFT_OUT]
    return TextGrid(
        [grid.head[position] for position in kept],
        [[line[position] for position in kept] for line in grid.lines],
    )


def _escape(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text).replace("`", "")
