"""A figure of when recognizers start to read: validation accuracy against steps, by row."""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np

from analysis.style import BLUE, GRAY, PAGE, VERMILION, grid, plain_label, styled
from analysis.tables.early_start import READING, ReadingCurve

COLUMNS = 4  # panels beside each other
PANEL_HEIGHT = 1.6  # inches


@styled()
def early_start_figure(curves: Mapping[str, Sequence[ReadingCurve]]) -> np.ndarray:
    """One panel for each row, one line for each seed. A dashed line marks half of the words.

    The line of a seed that never reads is vermilion.

    curves: row -> curves, not empty.

    Returns the axes of the panels, (rows,)."""
    columns = min(COLUMNS, len(curves))
    lines = ceil(len(curves) / columns)
    panels = grid(lines, columns, PAGE, PANEL_HEIGHT * lines, sharex=True, sharey=True).flatten()
    for axes, (row, of_row) in zip(panels, curves.items(), strict=False):
        for curve in of_row:
            color = VERMILION if curve.start is None else BLUE
            accuracies = 100 * np.array(curve.accuracies)
            axes.plot(curve.steps, accuracies, color=color, alpha=0.7, gid=f"seed {curve.seed}")
        axes.axhline(100 * READING, color=GRAY, linewidth=0.6, linestyle="--", gid="half")
        axes.set_title(plain_label(row, 24))
        axes.set_xlabel("steps")
        axes.set_ylim(0, 100)
    for axes in panels[::columns]:
        axes.set_ylabel("validation words, %")
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    return np.asarray(panels[: len(curves)])
