"""Figures of endpoints: by row, against images of pre-training, and against each other."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.figures.endpoint_agreement import EndpointAgreement, format_correlation
from analysis.figures.endpoint_panels import (
    CONTROL_LABEL,
    draw_control,
    endpoint_heading,
    last_line,
    legend_of_names,
    looks_of,
    panel_columns,
    panels_of_column,
    set_title,
    short_count,
)
from analysis.figures.scaling import ScalingCurve
from analysis.style import BLUE, GRAY, SKY, figure_of, plain_label, styled
from analysis.tables.endpoint_content import EndpointRow, EndpointTable

FEW_ROWS = 6  # names of rows may have two lines up to this number of rows
AXIS_MARGIN = 0.05  # of the range of an axis, on each side


@styled()
def endpoints_figure(endpoints: Sequence[EndpointTable], control: str | None = None) -> np.ndarray:
    """One panel for each endpoint, all with the same rows on the y axis.

    A large dot is the mean of a row, a line its interval, a small dot below it one seed. An arrow
    marks an interval that is cut, so that the dots stay apart. The title of the primary endpoint is
    blue.

    Args:
        endpoints: one or more, in the order of the panels.
        control: the row of the untrained encoder. Its mean is a dashed line through all rows.

    Returns the axes of the panels, (endpoints,)."""
    rows = list(dict.fromkeys(name for endpoint in endpoints for name in endpoint.rows))
    labels = [_row_label(name, len(rows)) for name in rows]
    step = 0.24 if any("\n" in label for label in labels) else 0.17  # inches
    panels = panels_of_column(len(endpoints), 0.52 + step * len(rows), sharey=True)
    for axes, endpoint in zip(panels, endpoints, strict=True):
        _draw_rows(axes, endpoint, rows, control)
        set_title(axes, endpoint, len(endpoints))
    panels[0].set_yticks(range(len(rows)), labels, fontsize=6)
    for axes in panels[:: panel_columns(len(endpoints))]:
        axes.tick_params(axis="y", labelsize=6)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    _legend_of_marks(panels, has_control=control in rows)
    return panels


def rescue_figure(gaps: Sequence[EndpointTable], control: str | None = None) -> np.ndarray:
    """The rescue gap by row, as in `endpoints_figure`. A thin line is a gap of 0.

    gaps: from `rescue_gaps`. control: the row of the untrained encoder."""
    panels = endpoints_figure(gaps, control)
    for axes in panels:
        axes.axvline(0, color="black", linewidth=0.6, zorder=0, gid="zero")
        axes.set_xlabel("CER: linear − BiLSTM (points)", fontsize=6)
    return panels


def _row_label(name: str, rows: int) -> str:
    """A row's name for the y axis. A long name ends with an ellipsis. rows: their number."""
    width, lines = (18, 2) if rows <= FEW_ROWS else (25, 1)
    wrapped = textwrap.wrap(name, width, max_lines=lines, placeholder=" …")
    return plain_label("\n".join(wrapped))


def _draw_rows(
    axes: Axes, endpoint: EndpointTable, rows: Sequence[str], control: str | None
) -> None:
    limits = value_limits(list(endpoint.rows.values()))
    for position, name in enumerate(rows):
        if name in endpoint.rows:
            color = GRAY if name == control else BLUE
            _draw_row(axes, position, endpoint.rows[name], limits, color)
    if control is not None and control in endpoint.rows:
        draw_control(axes.axvline, endpoint.rows[control])
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    axes.tick_params(axis="x", labelsize=6)
    axes.tick_params(axis="y", length=0)


def _draw_row(
    axes: Axes, position: float, row: EndpointRow, limits: tuple[float, float], color: str
) -> None:
    low = max(row.low, limits[0])
    high = min(row.high, limits[1])
    axes.plot([low, high], [position, position], color=color, linewidth=1.1, gid="interval")
    axes.plot(row.value, position, "o", color=color, markersize=3.6, gid="mean")
    for end, is_cut, marker in ((low, low > row.low, "<"), (high, high < row.high, ">")):
        if is_cut:
            axes.plot(end, position, marker, color=color, markersize=3, clip_on=False, gid="cut")
    seeds = list(row.by_seed.values())
    heights = [position + 0.27] * len(seeds)
    axes.plot(seeds, heights, "o", color=SKY, markersize=2, markeredgewidth=0, gid="seeds")


def value_limits(rows: Sequence[EndpointRow]) -> tuple[float, float]:
    """Limits of an axis that shows all seeds of some rows, and a part of wide intervals.

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
    margin = AXIS_MARGIN * (high - low) or 0.5
    return low - margin, high + margin


def _legend_of_marks(panels: np.ndarray, *, has_control: bool) -> None:
    axes: Axes = panels[0]
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
    """One panel for each endpoint against images of pre-training, which have a logarithmic axis.

    A small dot is one seed. A line connects the means of the rows of a curve.

    Args:
        endpoints: one or more, in the order of the panels.
        curves: from `scaling_curves`.
        control: the row of the untrained encoder. Its mean is a dashed line.

    Returns the axes of the panels, (endpoints,)."""
    panels = panels_of_column(len(endpoints), 1.4, sharex=True)
    looks = looks_of([curve.name for curve in curves])
    images = sorted({point.images for curve in curves for point in curve.points})
    has_control = False
    for axes, endpoint in zip(panels, endpoints, strict=True):
        for curve in curves:
            _draw_curve(axes, endpoint, curve, *looks[curve.name])
        if control is not None and control in endpoint.rows:
            draw_control(axes.axhline, endpoint.rows[control])
            has_control = True
        axes.set_xscale("log")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=6, labelbottom=True)
        set_title(axes, endpoint, len(endpoints))
    panels[0].xaxis.set_major_locator(FixedLocator(_some_of(images)))  # all panels share the axis
    panels[0].xaxis.set_minor_locator(NullLocator())
    panels[0].xaxis.set_major_formatter(lambda value, _: short_count(value))
    for axes in panels[last_line(len(panels)) :]:
        axes.set_xlabel("images of pre-training", fontsize=6)
    legend_of_names(panels, list(looks), has_control=has_control)
    return panels


def _draw_curve(
    axes: Axes, endpoint: EndpointTable, curve: ScalingCurve, color: str, marker: str
) -> None:
    points = [point for point in curve.points if point.row in endpoint.rows]
    rows = [endpoint.rows[point.row] for point in points]
    images = [point.images for point in points]
    means = [row.value for row in rows]
    axes.plot(images, means, f"{marker}-", color=color, markersize=2.8, linewidth=1, gid="means")
    for of_point, row in zip(images, rows, strict=True):
        seeds = list(row.by_seed.values())
        same_images = [of_point] * len(seeds)
        axes.plot(same_images, seeds, "o", color=color, alpha=0.45, markersize=1.8, gid="seeds")


def _some_of(images: Sequence[float]) -> list[float]:
    """The first, the middle and the last number of images."""
    return [images[position] for position in sorted({0, len(images) // 2, len(images) - 1})]


@styled()
def agreement_figure(agreements: Sequence[EndpointAgreement]) -> np.ndarray:
    """One panel for each endpoint (x) against the reference (y); a dot is one row at one seed.

    Better values are on the right and above. The second line of a title has Spearman's rank
    correlation and its number of points.

    agreements: with one reference, from `endpoint_agreements`.
    Returns the axes of the panels, (agreements,)."""
    rows = list(dict.fromkeys(point.row for pair in agreements for point in pair.points))
    looks = looks_of(rows)
    panels = panels_of_column(len(agreements), 1.4, sharey=True)
    for axes, agreement in zip(panels, agreements, strict=True):
        for point in agreement.points:
            color, marker = looks[point.row]
            values = (point.value, point.reference)
            axes.plot(*values, marker, color=color, markersize=2.6, gid="point")
        correlation = format_correlation(agreement.correlation)
        numbers = f"ρ = {correlation}, n = {len(agreement.points)}"
        set_title(axes, agreement.endpoint, len(agreements), numbers)
        axes.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
        axes.tick_params(labelsize=6)
        if agreement.endpoint.lower_is_better:
            axes.invert_xaxis()
    reference = agreements[0].reference
    if reference.lower_is_better:
        panels[0].invert_yaxis()  # all panels share the axis
    figure_of(panels).supylabel(endpoint_heading(reference, 60), fontsize=7)
    legend_of_names(panels, rows, has_control=False)
    return panels
