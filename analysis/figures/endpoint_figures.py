"""Figures of endpoints: by row, against images of pre-training, and against each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.figures.endpoint_agreement import EndpointAgreement, format_correlation
from analysis.figures.scaling import ScalingCurve
from analysis.style import (
    BLUE,
    COLUMN,
    GRAY,
    SKY,
    VERMILION,
    figure_of,
    grid,
    palette,
    plain_label,
    styled,
)
from analysis.tables.endpoint_content import EndpointRow, EndpointTable

MARKERS = "osD^v<>P*Xhp"
CONTROL_LABEL = "untrained encoder"
LABEL_WIDTH = 16  # characters of a row's name in one line
TITLE_WIDTHS = {1: 60, 2: 24, 3: 15}  # columns of panels -> characters of a title in one line
LARGEST_LEGEND_NAME = 26


@styled()
def endpoints_figure(endpoints: Sequence[EndpointTable], control: str | None = None) -> np.ndarray:
    """One panel for each endpoint: rows on the y axis, all panels with the same rows.

    A filled mark is the mean of a row, a line its interval, a small dot one seed. An arrow marks an
    interval that is cut, so that the other marks stay apart. The primary endpoint has a blue title.

    Args:
        endpoints: one or more, in the order of the panels.
        control: the row of the untrained encoder. Its mean is a dashed line in all rows.

    Returns the axes of the panels, (endpoints,)."""
    rows = list(dict.fromkeys(name for endpoint in endpoints for name in endpoint.rows))
    labels = [plain_label(name, LABEL_WIDTH) for name in rows]
    step = 0.06 + 0.095 * max(label.count("\n") + 1 for label in labels)
    panels = _panels(len(endpoints), 0.52 + max(0.17, step) * len(rows), sharey=True)
    for axes, endpoint in zip(panels, endpoints, strict=True):
        _draw_rows(axes, endpoint, rows, control)
        axes.set_yticks(range(len(rows)), labels, fontsize=6)
        axes.set_ylim(len(rows) - 0.4, -0.6)
    _legend_of_rows(panels[0], control is not None and control in rows)
    return panels


def rescue_figure(gaps: Sequence[EndpointTable], control: str | None = None) -> np.ndarray:
    """The rescue gap by row, as `endpoints_figure`; the solid line is a gap of 0.

    gaps: of `rescue_gaps`. control: the row of the untrained encoder."""
    panels = endpoints_figure(gaps, control)
    for axes in panels:
        axes.axvline(0, color="black", linewidth=0.6, zorder=0)
        axes.set_xlabel("CER: linear − BiLSTM (points)", fontsize=6)
    return panels


def _panels(count: int, height: float, **options: Any) -> np.ndarray:
    """Axes (count,) in a grid of column width. height: of one panel in inches."""
    columns = _columns(count)
    lines = -(-count // columns)
    axes = grid(lines, columns, COLUMN, 0.35 + height * lines, **options)
    for unused in axes.flat[count:]:
        unused.remove()
    panels: np.ndarray = axes.flat[:count]
    return panels


def _columns(count: int) -> int:
    return 1 if count == 1 else 2 if count <= 4 else 3


def endpoint_heading(endpoint: EndpointTable, width: int) -> str:
    """Name, unit and an arrow towards the better values, in lines of at most `width`."""
    better = "↓" if endpoint.lower_is_better else "↑"
    primary = ", primary" if endpoint.primary else ""
    return plain_label(f"{endpoint.name} ({endpoint.unit} {better}{primary})", width)


def _set_title(axes: Axes, endpoint: EndpointTable, count: int) -> None:
    """The title of a panel. count: the number of panels."""
    heading = endpoint_heading(endpoint, TITLE_WIDTHS[_columns(count)])
    weight = "bold" if endpoint.primary else "normal"
    color = BLUE if endpoint.primary else "black"
    axes.set_title(heading, fontsize=6.5, fontweight=weight, color=color)


def _draw_rows(
    axes: Axes, endpoint: EndpointTable, rows: Sequence[str], control: str | None
) -> None:
    limits = value_limits(list(endpoint.rows.values()))
    for position, name in enumerate(rows):
        if name in endpoint.rows:
            color = GRAY if name == control else BLUE
            _draw_row(axes, position, endpoint.rows[name], limits, color)
    if control in endpoint.rows:
        _draw_control(axes.axvline, endpoint.rows[control])
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    axes.tick_params(axis="x", labelsize=6)
    axes.tick_params(axis="y", length=0)
    count = len(figure_of(axes).axes)
    _set_title(axes, endpoint, count)


def _draw_row(
    axes: Axes, position: float, row: EndpointRow, limits: tuple[float, float], color: str
) -> None:
    low = max(row.low, limits[0])
    high = min(row.high, limits[1])
    axes.plot([low, high], [position, position], color=color, linewidth=1.1)
    axes.plot(row.value, position, "o", color=color, markersize=3.6, gid="mean")
    for end, is_cut, marker in ((low, low > row.low, "<"), (high, high < row.high, ">")):
        if is_cut:
            axes.plot(end, position, marker, color=color, markersize=3, clip_on=False, gid="cut")
    seeds = list(row.by_seed.values())
    heights = [position + 0.27] * len(seeds)
    axes.plot(seeds, heights, "o", color=SKY, markersize=2, markeredgewidth=0, gid="seeds")


def _draw_control(line: Any, row: EndpointRow) -> None:
    line(row.value, color=GRAY, linewidth=0.8, linestyle="--", zorder=0, gid="control")


def value_limits(rows: Sequence[EndpointRow]) -> tuple[float, float]:
    """Limits of an axis that shows all seeds of some rows, and of their intervals a part.

    Intervals extend the axis on each side by at most the range of the seeds."""
    values = [value for row in rows for value in (row.value, *row.by_seed.values())]
    lowest = min(values)
    highest = max(values)
    span = highest - lowest
    low = min(row.low for row in rows)
    high = max(row.high for row in rows)
    if span > 0:
        low = min(lowest, max(low, lowest - span))
        high = max(highest, min(high, highest + span))
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _legend_of_rows(axes: Axes, has_control: bool) -> None:
    marks = {
        "mean, interval": axes.plot([], [], "o-", color=BLUE, markersize=3.6)[0],
        "one seed": axes.plot([], [], "o", color=SKY, markersize=2)[0],
    }
    if has_control:
        marks[CONTROL_LABEL] = axes.plot([], [], "--", color=GRAY, linewidth=0.8)[0]
    columns = len(marks)
    figure_of(axes).legend(
        marks.values(), marks.keys(), loc="outside lower center", ncols=columns, fontsize=6
    )


@styled()
def scaling_figure(
    endpoints: Sequence[EndpointTable],
    curves: Sequence[ScalingCurve],
    control: str | None = None,
) -> np.ndarray:
    """One panel for each endpoint against images of pre-training (logarithmic), a line for a curve.

    A dot is one seed; a line connects the means of rows.

    Args:
        endpoints: one or more, in the order of the panels.
        curves: of `scaling_curves`.
        control: the row of the untrained encoder. Its mean is a dashed line.

    Returns the axes of the panels, (endpoints,)."""
    panels = _panels(len(endpoints), 1.35, sharex=True)
    images = sorted({point.images for curve in curves for point in curve.points})
    for axes, endpoint in zip(panels, endpoints, strict=True):
        for curve, color, marker in zip(curves, palette(len(curves)), MARKERS * 9, strict=False):
            _draw_curve(axes, endpoint, curve, color, marker)
        if control in endpoint.rows:
            _draw_control(axes.axhline, endpoint.rows[control])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_some_ticks(images)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=6, labelbottom=True)
        _set_title(axes, endpoint, len(endpoints))
    figure_of(panels).supxlabel("images of pre-training", fontsize=7)
    labels = {plain_label(curve.name, LARGEST_LEGEND_NAME): None for curve in curves}
    _legend_of_names(panels[0], list(labels), has_control=any(control in e.rows for e in endpoints))
    return panels


def _draw_curve(
    axes: Axes, endpoint: EndpointTable, curve: ScalingCurve, color: str, marker: str
) -> None:
    points = [point for point in curve.points if point.row in endpoint.rows]
    rows = [endpoint.rows[point.row] for point in points]
    axes.plot(
        [point.images for point in points],
        [row.value for row in rows],
        marker + "-",
        color=color,
        markersize=2.8,
        linewidth=1,
        gid=f"curve {curve.name}",
    )
    seeds = [
        (point.images, value)
        for point, row in zip(points, rows, strict=True)
        for value in row.by_seed.values()
    ]
    images, values = zip(*seeds, strict=True) if seeds else ((), ())
    axes.plot(images, values, "o", color=color, alpha=0.45, markersize=1.8, gid="seeds")


def _some_ticks(images: Sequence[float]) -> list[float]:
    """The first, the middle and the last number of images."""
    return [images[position] for position in sorted({0, len(images) // 2, len(images) - 1})]


def short_count(number: float) -> str:
    """A number of images with k or M, three digits at most: 7500 is `7.5k`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _legend_of_names(axes: Axes, names: Sequence[str], *, has_control: bool) -> None:
    """A legend of colors and markers by number, below all panels."""
    marks = {
        name: axes.plot([], [], marker, linestyle="none", color=color, markersize=3.2)[0]
        for name, color, marker in zip(names, palette(len(names)), MARKERS * 9, strict=False)
    }
    if has_control:
        marks[CONTROL_LABEL] = axes.plot([], [], "--", color=GRAY, linewidth=0.8)[0]
    figure_of(axes).legend(
        marks.values(), marks.keys(), loc="outside lower center", ncols=2, fontsize=6
    )


@styled()
def agreement_figure(agreements: Sequence[EndpointAgreement]) -> np.ndarray:
    """One panel for each endpoint (x) against the reference (y); a dot is one row at one seed.

    Axes are turned so that better values are right and above. Above a panel are Spearman's rank
    correlation and its number of points.

    agreements: of one reference, from `endpoint_agreements`.
    Returns the axes of the panels, (agreements,)."""
    rows = list(dict.fromkeys(point.row for one in agreements for point in one.points))
    looks: Mapping[str, tuple[str, str]] = {
        name: (color, marker)
        for name, color, marker in zip(rows, palette(len(rows)), MARKERS * 9, strict=False)
    }
    panels = _panels(len(agreements), 1.4, sharey=True)
    for axes, agreement in zip(panels, agreements, strict=True):
        for point in agreement.points:
            color, marker = looks[point.row]
            position = (point.value, point.reference)
            axes.plot(*position, marker, color=color, markersize=2.6, gid="point")
        _set_title(axes, agreement.endpoint, len(agreements))
        correlation = format_correlation(agreement.correlation)
        title = f"{axes.get_title()}\nρ = {correlation}, n = {len(agreement.points)}"
        axes.set_title(title, fontsize=6.5, color=VERMILION if _disagrees(agreement) else "black")
        axes.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
        axes.tick_params(labelsize=6)
        if agreement.endpoint.lower_is_better:
            axes.invert_xaxis()
    reference = agreements[0].reference
    if reference.lower_is_better:
        panels[0].invert_yaxis()  # all panels share it
    figure_of(panels).supylabel(endpoint_heading(reference, 60), fontsize=7)
    names = [plain_label(name, LARGEST_LEGEND_NAME) for name in rows]
    _legend_of_names(panels[0], names, has_control=False)
    return panels


def _disagrees(agreement: EndpointAgreement) -> bool:
    return agreement.correlation is not None and agreement.correlation < 0
