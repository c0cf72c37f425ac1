"""Figures of recognition errors, and images on which two recognizers disagree."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from PIL.Image import Image

from analysis.figures.confusions import KINDS, most_common
from analysis.figures.disagreements import recognized_only_by
from analysis.figures.predictions import (
    COLUMNS,
    NO_TEXT,
    CaptionedImage,
    evenly_spaced,
    image_grid,
)
from analysis.figures.recognition_errors import GROUPS, RecognitionErrors
from analysis.style import (
    COLORS,
    COLUMN,
    CORRECT_COLOR,
    WRONG_COLOR,
    grid,
    legend_below,
    monospace,
    palette,
    plain_label,
    styled,
)
from core.runtime.errors import UserError

MARKERS = "osD^v<>"


class ImageLookup(Protocol):
    """Images of a subset by index. The value is None if an image is not available."""

    def __getitem__(self, number: int) -> Image | None: ...


@styled()
def accuracy_figure(accuracies: pd.DataFrame) -> Axes:
    """Accuracy (%) of each row in each group, with intervals.

    Lengths are on the x axis, other groups on the y axis.
    accuracies: from `accuracy_by_group`."""
    by = str(accuracies.columns[0])
    groups = list(accuracies[by].unique())
    rows = list(accuracies["row"].unique())
    horizontal = by != "length"
    height = 0.75 + len(groups) * (0.12 + 0.085 * len(rows)) if horizontal else 2.2
    axes: Axes = grid(1, 1, COLUMN, height + 0.14 * len(rows))[0, 0]
    colors = palette(len(rows))
    for number, row in enumerate(rows):
        lines = accuracies[accuracies["row"] == row]
        shift = 0.7 * ((number + 0.5) / len(rows) - 0.5)
        positions = np.array([groups.index(group) for group in lines[by]]) + shift
        values = lines["accuracy"].to_numpy()
        errors = np.abs(lines[["low", "high"]].to_numpy().T - values)
        points: Any = {"x": positions, "y": values, "yerr": errors}
        if horizontal:
            points = {"x": values, "y": positions, "xerr": errors}
        axes.errorbar(
            **points,
            fmt=MARKERS[number % len(MARKERS)],
            color=colors[number],
            label=plain_label(str(row)),
            elinewidth=1,
            markersize=3.5,
        )
    if horizontal:
        images = accuracies.groupby(by, observed=True)["images"].max()
        axes.set(xlabel="accuracy (%)", ylabel=GROUPS[by], yticks=range(len(groups)))
        axes.set_yticklabels([f"{group} ({images[group]:,})" for group in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(0, 100)
    else:
        axes.set(xlabel=GROUPS[by], ylabel="accuracy (%)", xticks=range(len(groups)))
        axes.set_xticklabels(groups)
        axes.set_ylim(0, 100)
    axes.grid(axis="x" if horizontal else "y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    legend_below(axes, 1)
    return axes


@styled()
def confusion_figure(confusions: pd.DataFrame, count: int = 12) -> Axes:
    """Bars of the most common confusions, one bar per row of the table.

    confusions: from `count_confusions`. count: the largest number of confusions.
    Raises UserError if no prediction is wrong."""
    wide = most_common(confusions, count)
    if wide.empty:
        raise UserError("no prediction is wrong, so no characters are confused")
    rows = list(wide.columns[1:])
    height = 0.6 + len(wide) * (0.08 + 0.07 * len(rows)) + 0.14 * len(rows)
    axes: Axes = grid(1, 1, COLUMN, height)[0, 0]
    indexed = wide[rows].rename_axis(index="confusion").reset_index()
    long = indexed.melt("confusion", var_name="row", value_name="times")
    columns = {"x": "times", "y": "confusion", "hue": "row"}
    seaborn.barplot(long, **columns, palette=palette(len(rows)), ax=axes, legend=False)
    for bars, row in zip(axes.containers, rows, strict=True):
        bars.set_label(plain_label(row))
    axes.set(xlabel="times in wrong predictions", ylabel="label → prediction")
    for tick in axes.get_yticklabels():
        tick.set_fontfamily(monospace())
    legend_below(axes, 1)
    return axes


@styled()
def kinds_figure(kinds: pd.DataFrame) -> Axes:
    """Shares of the kinds of error (%), one bar per row. Kinds that do not occur are left out.

    kinds: from `error_kinds`."""
    axes: Axes = grid(1, 1, COLUMN, 0.95 + 0.28 * len(kinds))[0, 0]
    left = np.zeros(len(kinds))
    positions = range(len(kinds))
    for name, color in zip(KINDS, COLORS, strict=False):
        share = kinds[name].fillna(0).to_numpy()
        if share.any():
            look: Any = {"color": color, "edgecolor": "white", "linewidth": 0.5}
            axes.barh(positions, share, 0.62, left=left, label=name, **look)
        left += share
    axes.set(xlabel="share of wrong predictions (%)", xlim=(0, 100), yticks=positions)
    axes.set_yticklabels([plain_label(str(name), 16) for name in kinds.index])
    axes.invert_yaxis()
    if left.any():
        legend_below(axes, 2)
    return axes


def disagreement_figure(
    errors: RecognitionErrors, first: str, second: str, images: Mapping[str, ImageLookup]
) -> list[Axes]:
    """Images that row `first` recognizes and row `second` does not.

    Each subset has a row of evenly chosen images.

    Args:
        errors: the predictions of the table.
        first: row whose correct predictions are above the images, in blue.
        second: row whose wrong predictions are below the images, in vermilion.
        images: subset -> its images.

    Raises UserError if there are no such images, or none of them is available."""
    table = recognized_only_by(errors, first, second)
    if table.empty:
        raise UserError(f"{second} recognizes all images that {first} recognizes")
    items: list[CaptionedImage | None] = []
    subsets = []
    for subset, lines in table.groupby("subset", observed=True):
        subsets.append(str(subset))
        chosen = evenly_spaced(lines.to_dict("records"), COLUMNS)
        items += [_captioned(line, images.get(str(subset))) for line in chosen]
        items += [None] * (COLUMNS - len(chosen))
    if not any(item and item.image for item in items):
        raise UserError(f"the images of {errors.run_of(first)} are not available here")
    title = f"recognized by “{first}” (above), not by “{second}” (below)"
    return image_grid(items, title, subsets)


def _captioned(line: Mapping[Any, Any], images: ImageLookup | None) -> CaptionedImage:
    image = None if images is None else images[int(line["index"])]
    above = (line["first_prediction"] or NO_TEXT, CORRECT_COLOR)
    below = (line["second_prediction"] or NO_TEXT, WRONG_COLOR)
    return CaptionedImage(image, above, below)
