"""Figures of self-attention: maps by method and by head, and attention distances."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from analysis.figures.attention import (
    head_distances,
    patch_distances,
    query_patches,
    self_attention,
)
from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords
from analysis.style import COLUMN, GRAY, grid, hide_axes, legend_below, palette, plain_label, styled
from core.config import Encoder

NAME_WIDTH = 18  # characters in a line of a row's name
QUERY_COLOR = "#ff2d2d"


def draw_attention_map(
    axes: Axes, image: Tensor, weights: np.ndarray, config: Encoder, query: int | None = None
) -> None:
    """Draw attention as a blue tint over the gray image.

    Args:
        axes: where to draw.
        image: (3, h, w) uint8.
        weights: (N,) attention to patches. The tint runs from 0 to their maximum.
        config: sizes of image and patches.
        query: the query patch, marked by a red box."""
    height, width = config.image
    share = weights.reshape(config.grid) / (weights.max() or 1.0)
    tint = colormaps["Blues"](0.8 * np.kron(share, np.ones(config.patch)))[..., :3]
    brightness = 0.15 + 0.85 * image.float().mean(0).numpy()[..., None] / 255
    axes.imshow(tint * brightness, extent=(0, width, height, 0))
    if query is not None:
        row, column = divmod(query, config.grid[1])
        corner = (column * config.patch[1] + 0.5, row * config.patch[0] + 0.5)
        sides = (config.patch[1] - 1, config.patch[0] - 1)
        box = Rectangle(corner, *sides, fill=False, edgecolor=QUERY_COLOR, linewidth=1.3)
        axes.add_patch(box)
    hide_axes(axes)


def _label_row(axes: Axes, name: str) -> None:
    label = plain_label(name, NAME_WIDTH)
    axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)


@styled()
def method_figure(
    models: Sequence[PretrainedModel], words: ProbeWords, number: int, count: int = 3
) -> np.ndarray:
    """Figure 3: attention of one word by method (rows) and query patch (columns), mean of heads.

    Args:
        models: one per row of axes.
        words: drawn words, whose characters' positions are known.
        number: index of the word.
        count: number of query patches."""
    assert words.spans is not None
    spans = words.spans[number]
    axes = grid(len(models), min(count, len(spans)), COLUMN, 0.15 + 0.36 * len(models))
    for row, model in zip(axes, models, strict=True):
        config = model.config.encoder
        weights = self_attention(model.encoder, words[[number]].inputs)[0].mean(0).numpy()
        for cell in row:
            hide_axes(cell)
        for cell, query in zip(row, query_patches(spans, config, count), strict=False):
            draw_attention_map(cell, words.images[number], weights[1 + query, 1:], config, query)
        _label_row(row[0], model.name)
    return axes


@styled()
def head_figure(models: Sequence[PretrainedModel], words: ProbeWords, number: int) -> np.ndarray:
    """Attention of one word from a query patch in its middle. Rows are methods.

    The first column is the mean over heads, the others are the heads."""
    assert words.spans is not None
    spans = words.spans[number]
    middle = spans[[len(spans) // 2]]
    heads = max(model.config.encoder.heads for model in models)
    axes = grid(len(models), 1 + heads, COLUMN, 0.3 + 0.3 * len(models))
    for row, model in zip(axes, models, strict=True):
        config = model.config.encoder
        (query,) = query_patches(middle, config, 1)
        weights = self_attention(model.encoder, words[[number]].inputs)[0]
        by_head = weights[:, 1 + query, 1:].numpy()  # (H, N)
        for cell in row:
            hide_axes(cell)
        for cell, attention in zip(row, [by_head.mean(0), *by_head], strict=False):
            draw_attention_map(cell, words.images[number], attention, config, query)
        _label_row(row[0], model.name)
    titles = ["mean", "head 1", *map(str, range(2, heads + 1))]
    for cell, title in zip(axes[0], titles, strict=True):
        cell.set_title(title, fontsize=7)
    return axes


@styled()
def distance_figure(models: Sequence[PretrainedModel], words: ProbeWords) -> Axes:
    """Mean attention distance of each head (points) by block and method. Dashed: even attention."""
    axes: Axes = grid(1, 1, COLUMN, 2.3)[0, 0]
    table = pd.concat(
        head_distances(model.encoder, words).assign(row=plain_label(model.name)) for model in models
    )
    colors = palette(len(models))
    columns = {"x": "block", "y": "distance", "hue": "row"}
    seaborn.stripplot(table, **columns, palette=colors, dodge=True, jitter=False, ax=axes)
    even_distances = {patch_distances(model.config.encoder).mean() for model in models}
    for distance in even_distances:
        axes.axhline(distance, color=GRAY, linestyle="--", linewidth=0.8, label="even attention")
    axes.set(xlabel="block", ylabel="mean attention distance (pixels)")
    axes.set_ylim(0, 1.05 * max(table["distance"].max(), *even_distances))
    legend_below(axes, 2)
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    return axes
