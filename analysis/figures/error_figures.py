"""Figures of what is read wrong, and pictures of what one recognizer reads and another does not (`errors.py` counts)."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from PIL.Image import Image

from analysis.figures.predictions import COLUMNS, Pictured, evenly, picture_grid
from analysis.figures.recognition_errors import GROUPS, KINDS, Errors, commonest, only_by
from analysis.style import (
    COLOURS,
    COLUMN,
    RIGHT,
    WRONG,
    grid,
    legend_below,
    monospace,
    palette,
    plain,
    styled,
)
from core.runtime.errors import UserError


class Pictures(Protocol):
    """Images of a subset by their numbers; None where one is not to be had."""

    def __getitem__(self, number: int) -> Image | None: ...


@styled()
def accuracy_figure(shares: pd.DataFrame) -> Axes:
    """Accuracy (%) of each row in each group, as points with their intervals; groups of words run down, lengths along."""
    by = str(shares.columns[0])
    groups, rows = list(shares[by].unique()), list(shares["row"].unique())
    down = by != "length"
    high = 2.2 if not down else 0.75 + len(groups) * (0.12 + 0.085 * len(rows))
    axes: Axes = grid(1, 1, COLUMN, high + 0.14 * len(rows))[0, 0]
    for number, (color, row) in enumerate(zip(palette(len(rows)), rows, strict=True)):
        own = shares[shares["row"] == row]
        places = np.array([groups.index(group) for group in own[by]]) + 0.7 * (
            (number + 0.5) / len(rows) - 0.5
        )
        values = own["accuracy"].to_numpy()
        ends = np.abs(own[["low", "high"]].to_numpy().T - values)
        where: Any = (
            {"x": values, "y": places, "xerr": ends}
            if down
            else {"x": places, "y": values, "yerr": ends}
        )
        axes.errorbar(
            **where,
            fmt="osD^v<>"[number % 7],
            color=color,
            label=plain(str(row)),
            elinewidth=1,
            markersize=3.5,
        )
    images = shares.groupby(by, observed=True)["images"].max()
    if down:
        axes.set(xlabel="accuracy (%)", ylabel=GROUPS[by], yticks=range(len(groups)))
        axes.set_yticklabels([f"{group} ({images[group]:,})" for group in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
    else:
        axes.set(
            xlabel=GROUPS[by],
            ylabel="accuracy (%)",
            xticks=range(len(groups)),
            xticklabels=groups,
            ylim=(0, 100),
        )
        axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    legend_below(axes, 1)
    return axes


@styled()
def confusion_figure(found: pd.DataFrame, most: int = 12) -> Axes:
    """Bars of the commonest confusions, one for each row of the table. Raises UserError where nothing is wrong."""
    wide = commonest(found, most)
    if wide.empty:
        raise UserError("no reading is wrong, so no characters are confused")
    rows = list(wide.columns[1:])
    axes: Axes = grid(1, 1, COLUMN, 0.6 + len(wide) * (0.08 + 0.07 * len(rows)) + 0.14 * len(rows))[
        0, 0
    ]
    long = (
        wide[rows]
        .rename_axis(index="confusion")
        .reset_index()
        .melt("confusion", var_name="row", value_name="times")
    )
    seaborn.barplot(
        long, x="times", y="confusion", hue="row", palette=palette(len(rows)), ax=axes, legend=False
    )
    for bars, row in zip(axes.containers, rows, strict=True):
        bars.set_label(plain(row))
    axes.set(xlabel="times in wrong readings", ylabel="label → reading")
    for tick in axes.get_yticklabels():
        tick.set_fontfamily(monospace())
    legend_below(axes, 1)
    return axes


@styled()
def kinds_figure(found: pd.DataFrame) -> Axes:
    """Shares of the kinds of error (%), a bar for each row of the table; kinds that do not occur are left out."""
    axes: Axes = grid(1, 1, COLUMN, 0.95 + 0.28 * len(found))[0, 0]
    left = np.zeros(len(found))
    for name, color in zip(KINDS, COLOURS, strict=False):
        share = found[name].fillna(0).to_numpy()
        if share.any():
            axes.barh(
                range(len(found)),
                share,
                0.62,
                left=left,
                color=color,
                edgecolor="white",
                linewidth=0.5,
                label=name,
            )
        left += share
    names = [plain(str(name), 16) for name in found.index]
    axes.set(
        xlabel="share of wrong readings (%)",
        xlim=(0, 100),
        yticks=range(len(found)),
        yticklabels=names,
    )
    axes.invert_yaxis()
    if left.any():
        legend_below(axes, 2)
    return axes


def only_figure(
    errors: Errors, reader: str, other: str, images: Mapping[str, Pictures]
) -> list[Axes]:
    """Images that `reader` (above, blue) reads and `other` (below, vermilion) does not: a row of each subset, evenly chosen.

    Raises UserError where there are none, or no picture is to be had."""
    found = only_by(errors, reader, other)
    if found.empty:
        raise UserError(f"whatever {reader} reads, {other} reads too")
    words: list[Pictured | None] = []
    sides = []
    for subset, own in found.groupby("subset", observed=True):
        sides.append(str(subset))
        chosen = evenly(own.to_dict("records"), COLUMNS)
        words += [_pictured(one, images.get(str(subset))) for one in chosen]
        words += [None] * (COLUMNS - len(chosen))
    if not any(word and word.picture for word in words):
        raise UserError(f"the images that {errors.run_of(reader)} read are not here")
    return picture_grid(words, f"read by “{reader}” (above), not by “{other}” (below)", sides)


def _pictured(one: Mapping[Any, Any], images: Pictures | None) -> Pictured:
    picture = None if images is None else images[int(one["index"])]
    return Pictured(
        picture, (one["by_reader"] or "(nothing)", RIGHT), (one["by_other"] or "(nothing)", WRONG)
    )
