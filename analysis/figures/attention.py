"""Where encoders look: the last block's self-attention (the paper's Figures 1(c) and 3), as pictures and as numbers.

Shapes: B images, N patches, H heads, T characters. Keys have [cls] first: 1 + N.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import seaborn
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from analysis.figures.models import Pretrained, untrained
from analysis.figures.probe_words import Words
from analysis.style import COLUMN, GRAY, bare, grid, legend_below, palette, plain, styled
from analysis.tables.intervals import mean_value
from core.config import Encoder
from core.model.vit import VisionTransformer

NAME = 18  # characters of a line of a row's name
Kept = TypeVar("Kept")
MEASURES = {
    "distance": "distance (pixels)",
    "character": "within its character (%)",
    "word": "within the word (%)",
    "covered": "characters covered (%)",
    "cls": "on [cls] (%)",
}


@torch.inference_mode()
def each_block(
    encoder: VisionTransformer, inputs: Tensor, measure: Callable[[Tensor], Kept]
) -> list[Kept]:
    """What is measured of every block's attention weights (B, H, 1 + N, 1 + N), in one pass over images (B, 3, h, w).

    Images are in [-1, 1], all patches visible; rows of weights are queries and sum to 1. Weights are let go once measured."""
    kept: list[Kept] = []
    with ExitStack() as stack:
        for block in encoder.blocks:
            layer: Any = block.attn
            stack.callback(setattr, layer, "fused_attn", layer.fused_attn)
            layer.fused_attn = False  # the fused operator does not make the weights
            hook = layer.attn_drop.register_forward_hook(
                lambda module, arguments, weights: kept.append(measure(weights))
            )
            stack.callback(hook.remove)
        encoder(inputs)
    return kept


def self_attention(encoder: VisionTransformer, inputs: Tensor) -> Tensor:
    """Attention weights of the last block: (B, 3, h, w) in [-1, 1] -> (B, H, 1 + N, 1 + N); see `each_block`."""
    last: dict[str, Tensor] = {}
    each_block(encoder, inputs, lambda weights: last.update(weights=weights))
    return last["weights"]


def as_shares(weights: np.ndarray) -> np.ndarray:
    """Weights (..., K) as shares of their sum over the last axis."""
    return weights / weights.sum(-1, keepdims=True).clip(min=1e-12)


def overlap(spans: np.ndarray, config: Encoder) -> np.ndarray:
    """Share of each patch's width that each character takes: (T, 2) pixels -> (T, N), in [0, 1]."""
    rows, columns = config.grid
    left = np.arange(columns) * config.patch[1]
    inner = np.minimum(spans[:, 1:], left + config.patch[1]) - np.maximum(spans[:, :1], left)
    return np.tile(inner.clip(min=0) / config.patch[1], (1, rows))


def centers(config: Encoder) -> np.ndarray:
    """Middle of each patch: (N, 2) pixels, x and y."""
    rows, columns = config.grid
    y, x = np.meshgrid(
        (np.arange(rows) + 0.5) * config.patch[0],
        (np.arange(columns) + 0.5) * config.patch[1],
        indexing="ij",
    )
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _apart(config: Encoder) -> np.ndarray:
    """Distance of every two patches' middles: (N, N) pixels."""
    where = centers(config)
    return np.linalg.norm(where[:, None] - where[None], axis=2)


def locality(weights: np.ndarray, spans: np.ndarray, config: Encoder) -> dict[str, float]:
    """How far one word's attention reaches: `weights` (1 + N, 1 + N), averaged over query patches that lie on a character.

    Of the attention to patches (that to [cls] is told apart): the mean distance of what is attended to, in pixels; the share
    within the query's own character and within the word, each patch counted by the part of its width that lies there; and the
    share of the word's characters that it covers: exp(entropy over characters) / T, from 1 / T (one alone) to 1 (all alike)."""
    on = overlap(spans, config)
    own = on.argmax(0)
    queries = np.flatnonzero(on.max(0) >= min(0.5, on.max()))
    to_patches = as_shares(weights[1 + queries, 1:])
    apart = _apart(config)[queries]
    by_character = to_patches @ on.T  # (queries, T)
    shares = as_shares(by_character)
    entropy = -(shares * np.log(shares.clip(min=1e-12))).sum(1)
    return {
        "distance": float((to_patches * apart).sum(1).mean()),
        "character": 100 * float(by_character[np.arange(len(queries)), own[queries]].mean()),
        "word": 100 * float(by_character.sum(1).mean()),
        "covered": 100 * float((np.exp(entropy) / len(spans)).mean()),
        "cls": 100 * float(weights[1 + queries, 0].mean()),
    }


def localities(maps: Iterable[np.ndarray], words: Words, config: Encoder) -> pd.DataFrame:
    """`locality` of every word, from a map (1 + N, 1 + N) for each: a line for each word.

    Raises ValueError if characters' places are not known."""
    if words.spans is None:
        raise ValueError("where characters lie is known of drawn words only")
    return pd.DataFrame(
        [locality(one, spans, config) for one, spans in zip(maps, words.spans, strict=False)]
    )


def mean_maps(encoder: VisionTransformer, words: Words) -> np.ndarray:
    """The last block's attention, mean over heads: (B, 1 + N, 1 + N)."""
    return self_attention(encoder, words.inputs).mean(1).numpy()


def head_distances(encoder: VisionTransformer, words: Words) -> pd.DataFrame:
    """Mean attention distance in pixels, by block and head, over all query patches (Dosovitskiy et al., 2021, appendix D.7)."""
    apart = _apart(encoder.config)

    def distances(weights: Tensor) -> np.ndarray:  # (H,)
        return (as_shares(weights[:, :, 1:, 1:].numpy()) * apart).sum(-1).mean((0, 2))

    lines = [
        {"block": block, "head": head, "distance": float(value)}
        for block, values in enumerate(each_block(encoder, words.inputs, distances), 1)
        for head, value in enumerate(values, 1)
    ]
    return pd.DataFrame(lines)


def compare(models: Sequence[Pretrained], words: Words) -> pd.DataFrame:
    """Mean of each measure of the last block with its 95 % interval over words, as text: of every model, and for each size of
    patches of an encoder that was never trained, of attention that chooses nothing, and of attention to the own patch alone."""
    measured = {
        model.name: localities(mean_maps(model.encoder, words), words, model.config.encoder)
        for model in models
    }
    configs = list(dict.fromkeys(model.config.encoder for model in models))
    for config in configs:
        where = f", patch {config.patch[0]} x {config.patch[1]}" if len(configs) > 1 else ""
        tokens = 1 + config.patches
        maps: dict[str, Iterable[np.ndarray]] = {
            "never trained": mean_maps(untrained(config), words),
            "even attention": repeat(np.full((tokens, tokens), 1 / tokens)),
            "own patch alone": repeat(np.eye(tokens)),  # as local as patches of this width can be
        }
        measured |= {f"{name}{where}": localities(one, words, config) for name, one in maps.items()}
    lines = {
        name: {title: mean_value(frame[measure]).told() for measure, title in MEASURES.items()}
        for name, frame in measured.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("row").reset_index()


def query_patches(spans: np.ndarray, config: Encoder, count: int) -> list[int]:
    """Patches to ask from: in the middle row, nearest to the middles of `count` characters, evenly chosen."""
    chosen = np.unique(np.linspace(0, len(spans) - 1, min(count, len(spans))).round().astype(int))
    columns = (spans[chosen].mean(1) // config.patch[1]).astype(int).clip(0, config.grid[1] - 1)
    row = config.grid[0] // 2 if config.grid[0] > 1 else 0
    return [row * config.grid[1] + int(column) for column in dict.fromkeys(columns.tolist())]


def draw_map(
    axes: Axes, image: Tensor, weights: np.ndarray, config: Encoder, query: int | None = None
) -> None:
    """Attention to patches (N,) as the tint of a gray image (3, h, w) uint8: the bluer, the more, from 0 to the map's own
    maximum; the query in a red box."""
    height, width = config.image
    share = weights.reshape(config.grid) / (weights.max() or 1.0)
    tint = colormaps["Blues"](0.8 * np.kron(share, np.ones(config.patch)))[..., :3]
    axes.imshow(
        tint * (0.15 + 0.85 * image.float().mean(0).numpy()[..., None] / 255),
        extent=(0, width, height, 0),
    )
    if query is not None:
        y, x = divmod(query, config.grid[1])
        box = (x * config.patch[1] + 0.5, y * config.patch[0] + 0.5)
        sides = (config.patch[1] - 1, config.patch[0] - 1)
        axes.add_patch(Rectangle(box, *sides, fill=False, edgecolor="#ff2d2d", linewidth=1.3))
    bare(axes)


@styled()
def by_method(
    models: Sequence[Pretrained], words: Words, number: int, count: int = 3
) -> np.ndarray:
    """Figure 3: one word's attention, mean over heads, from a few query patches (across) under each method (down)."""
    assert words.spans is not None
    spans = words.spans[number]
    axes = grid(len(models), min(count, len(spans)), COLUMN, 0.15 + 0.36 * len(models))
    for row, model in zip(axes, models, strict=True):
        config = model.config.encoder
        weights = self_attention(model.encoder, words[[number]].inputs)[0].mean(0).numpy()
        for place in row:
            bare(place)
        for place, query in zip(row, query_patches(spans, config, count), strict=False):
            draw_map(place, words.images[number], weights[1 + query, 1:], config, query)
        row[0].set_ylabel(plain(model.name, NAME), rotation=0, ha="right", va="center", fontsize=7)
    return axes


@styled()
def by_head(models: Sequence[Pretrained], words: Words, number: int) -> np.ndarray:
    """One word's attention from a patch in its middle: the heads' mean and each head (across), under each method (down)."""
    assert words.spans is not None
    heads = max(model.config.encoder.heads for model in models)
    axes = grid(len(models), 1 + heads, COLUMN, 0.3 + 0.3 * len(models))
    for row, model in zip(axes, models, strict=True):
        config = model.config.encoder
        (query,) = query_patches(words.spans[number][[len(words.spans[number]) // 2]], config, 1)
        weights = self_attention(model.encoder, words[[number]].inputs)[0][:, 1 + query, 1:].numpy()
        for place in row:
            bare(place)
        for place, one in zip(row, [weights.mean(0), *weights], strict=False):
            draw_map(place, words.images[number], one, config, query)
        row[0].set_ylabel(plain(model.name, NAME), rotation=0, ha="right", va="center", fontsize=7)
    for place, title in zip(
        axes[0], ["mean", "head 1", *map(str, range(2, heads + 1))], strict=True
    ):
        place.set_title(title, fontsize=7)
    return axes


@styled()
def distance_figure(models: Sequence[Pretrained], words: Words) -> Axes:
    """Attention distance of every head (points) by block, under each method; dashed: attention that chooses nothing."""
    axes: Axes = grid(1, 1, COLUMN, 2.3)[0, 0]
    frame = pd.concat(
        [head_distances(model.encoder, words).assign(row=plain(model.name)) for model in models]
    )
    colors = palette(len(models))
    seaborn.stripplot(
        frame,
        x="block",
        y="distance",
        hue="row",
        palette=colors,
        dodge=True,
        jitter=False,
        ax=axes,
    )
    evens = {_apart(model.config.encoder).mean() for model in models}
    for even in evens:
        axes.axhline(even, color=GRAY, linestyle="--", linewidth=0.8, label="even attention")
    axes.set(xlabel="block", ylabel="mean attention distance (pixels)")
    axes.set_ylim(0, 1.05 * max(frame["distance"].max(), *evens))
    legend_below(axes, 2)
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    return axes
