"""What all figures of endpoints share: a grid of panels, titles, the control's line, legends."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.style import BLUE, COLUMN, GRAY, figure_of, grid, palette, plain_label
from analysis.tables.endpoint_content import EndpointRow, EndpointTable

MARKERS = "osD^v<>P*Xhp"
CONTROL_LABEL = "untrained encoder"
TITLE_WIDTHS = {1: 60, 2: 26, 3: 17}  # columns of panels -> characters of a title in one line
LEGEND_WIDTH = 26  # characters of a name in one line of the legend


def panels_of_column(count: int, height: float, **options: Any) -> np.ndarray:
    """Axes (count,) of a new figure, in a grid as wide as a column.

    Args:
        count: the number of panels.
        height: of one panel in inches.
        options: keyword arguments of `Figure.subplots`."""
    columns = panel_columns(count)
    lines = -(-count // columns)
    axes = grid(lines, columns, COLUMN, 0.35 + height * lines, **options)
    for unused in axes.flat[count:]:
        unused.remove()
    panels: np.ndarray = axes.flat[:count]
    return panels


def panel_columns(count: int) -> int:
    """How many panels are side by side. count: of all panels."""
    if count <= 4:
        return 1 if count == 1 else 2
    return 3


def last_line(count: int) -> int:
    """The number of the first panel in the last line. count: of all panels."""
    columns = panel_columns(count)
    return (count - 1) // columns * columns


def set_title(axes: Axes, endpoint: EndpointTable, count: int, second: str = "") -> None:
    """Put an endpoint's heading above its panel; that of the primary one is blue.

    Args:
        axes: the panel.
        endpoint: that it shows.
        count: the number of panels of the figure.
        second: a line below the heading."""
    columns = panel_columns(count)
    heading = endpoint_heading(endpoint, TITLE_WIDTHS[columns])
    color = BLUE if endpoint.primary else "black"
    size = 6 if columns == 3 else 6.5
    axes.set_title(f"{heading}\n{second}".strip("\n"), fontsize=size, color=color)


def endpoint_heading(endpoint: EndpointTable, width: int) -> str:
    """Name, unit and an arrow towards the better values.

    width: characters of a line. A longer word has a line without a break."""
    better = "↓" if endpoint.lower_is_better else "↑"
    primary = ", primary" if endpoint.primary else ""
    lines = textwrap.wrap(endpoint.name, width, break_long_words=False)
    unit = f"({endpoint.unit} {better}{primary})"
    if len(f"{lines[-1]} {unit}") <= width:
        lines[-1] += f" {unit}"
    else:
        lines.append(unit)
    return plain_label("\n".join(lines))


def draw_control(line: Any, row: EndpointRow) -> None:
    """Draw the mean of the untrained encoder. line: `axvline` or `axhline` of a panel."""
    line(row.value, color=GRAY, linewidth=0.8, linestyle="--", zorder=0, gid="control")


def looks_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> (color, marker). Twelve names have different pairs."""
    colors = palette(len(names))
    return {
        name: (colors[number], MARKERS[number % len(MARKERS)]) for number, name in enumerate(names)
    }


def legend_of_names(panels: np.ndarray, names: Sequence[str], *, has_control: bool) -> None:
    """A legend of colors and markers (`looks_of`) below all panels.

    Args:
        panels: of the figure.
        names: of rows or curves.
        has_control: adds the line of `draw_control`."""
    axes: Axes = panels[0]
    marks = {}
    for name, (color, marker) in looks_of(names).items():
        look: Any = {"linestyle": "none", "color": color, "markersize": 3.2}
        marks[plain_label(name, LEGEND_WIDTH)] = axes.plot([], [], marker, **look)[0]
    if has_control:
        marks[CONTROL_LABEL] = axes.plot([], [], "--", color=GRAY, linewidth=0.8)[0]
    figure_of(axes).legend(
        marks.values(), marks.keys(), loc="outside lower center", ncols=2, fontsize=6
    )


def short_count(number: float) -> str:
    """A number with k or M and at most three digits: 7500 is `7.5k`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"
