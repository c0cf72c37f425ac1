"""Where models look: the encoder's last self-attention (the paper's Figures 1(c) and 3), the recogniser's cross-attention.

Shapes: B images, N patches, H heads, T characters. Keys have [cls] first: 1 + N.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from analysis.models import Pretrained, untrained
from analysis.statistics import mean_value
from analysis.style import COLUMN, GREY, PAGE, grid, legend_below, palette, styled
from analysis.words import Words
from core.config import Encoder
from core.recognizer import Attention, Recognizer
from core.vit import VisionTransformer

MEASURES = {
    "distance": "distance (pixels)",
    "character": "within its character (%)",
    "word": "within the word (%)",
    "covered": "characters covered (%)",
    "cls": "on [cls] (%)",
}


@torch.inference_mode()
def self_attention(encoder: VisionTransformer, inputs: Tensor, block: int = -1) -> Tensor:
    """Attention weights of one block, the last unless another is named: (B, 3, h, w) in [-1, 1] -> (B, H, 1 + N, 1 + N).

    Rows are queries and sum to 1. All patches are visible."""
    layer: Any = encoder.blocks[block].attn
    caught: list[Tensor] = []
    hook = layer.attn_drop.register_forward_hook(lambda module, arguments, weights: caught.append(weights))
    fused, layer.fused_attn = layer.fused_attn, False  # the fused operator does not make the weights
    try:
        encoder(inputs)
    finally:
        layer.fused_attn = fused
        hook.remove()
    return caught[0]


@torch.inference_mode()
def cross_attention(recognizer: Recognizer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the last decoder layer looks at while it reads greedily: tokens (B, T), weights (B, T, H, 1 + N)."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        queries, keys = module._split(module.query(arguments[0])), arguments[1]  # type: ignore[operator]
        caught.append((queries @ keys.transpose(-2, -1) / keys.shape[-1] ** 0.5).softmax(-1)[:, :, 0])

    layer = recognizer.layers[-1].cross_attention
    assert isinstance(layer, Attention)
    hook = layer.register_forward_pre_hook(catch)
    try:
        tokens, _ = recognizer.read(inputs)
    finally:
        hook.remove()
    return tokens, torch.stack(caught, dim=1)


def overlap(spans: np.ndarray, config: Encoder) -> np.ndarray:
    """Share of each patch's width that each character takes: (T, 2) pixels -> (T, N), in [0, 1]."""
    rows, columns = config.grid
    left = np.arange(columns) * config.patch[1]
    inner = np.minimum(spans[:, 1:], left + config.patch[1]) - np.maximum(spans[:, :1], left)
    return np.tile(inner.clip(min=0) / config.patch[1], (1, rows))


def centres(config: Encoder) -> np.ndarray:
    """Middle of each patch: (N, 2) pixels, x and y."""
    rows, columns = config.grid
    y, x = np.meshgrid((np.arange(rows) + 0.5) * config.patch[0], (np.arange(columns) + 0.5) * config.patch[1], indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _apart(config: Encoder) -> np.ndarray:
    """Distance of every two patches' middles: (N, N) pixels."""
    where = centres(config)
    return np.linalg.norm(where[:, None] - where[None], axis=2)


def locality(weights: np.ndarray, spans: np.ndarray, config: Encoder) -> dict[str, float]:
    """How far one word's attention reaches: `weights` (1 + N, 1 + N), averaged over query patches that lie on a character.

    Of the attention to patches (that to [cls] is told apart): the mean distance of what is attended to, in pixels; the share
    within the query's own character and within the word, each patch counted by the part of its width that lies there; and the
    share of the word's characters that it covers: exp(entropy over characters) / T, from 1 / T (one alone) to 1 (all alike)."""
    on = overlap(spans, config)
    own = on.argmax(0)
    queries = np.flatnonzero(on.max(0) >= min(0.5, on.max()))
    to_patches = weights[1 + queries, 1:]
    to_patches = to_patches / to_patches.sum(1, keepdims=True).clip(min=1e-12)
    apart = _apart(config)[queries]
    by_character = to_patches @ on.T  # (queries, T)
    shares = by_character / by_character.sum(1, keepdims=True).clip(min=1e-12)
    entropy = -(shares * np.log(shares.clip(min=1e-12))).sum(1)
    return {
        "distance": float((to_patches * apart).sum(1).mean()),
        "character": 100 * float(by_character[np.arange(len(queries)), own[queries]].mean()),
        "word": 100 * float(by_character.sum(1).mean()),
        "covered": 100 * float((np.exp(entropy) / len(spans)).mean()),
        "cls": 100 * float(weights[1 + queries, 0].mean()),
    }


def localities(encoder: VisionTransformer, words: Words, block: int = -1) -> pd.DataFrame:
    """`locality` of every word, of the heads' mean: a line for each. Raises ValueError if characters' places are not known."""
    if words.spans is None:
        raise ValueError("where characters lie is known of drawn words only")
    mean = self_attention(encoder, words.inputs, block).mean(1).numpy()
    return pd.DataFrame([locality(one, spans, encoder.config) for one, spans in zip(mean, words.spans, strict=True)])


def even(words: Words, config: Encoder) -> pd.DataFrame:
    """`locality` of attention that is the same everywhere: what the measures are where nothing is chosen."""
    assert words.spans is not None
    flat = np.full((1 + config.patches,) * 2, 1 / (1 + config.patches))
    return pd.DataFrame([locality(flat, spans, config) for spans in words.spans])


def head_distances(encoder: VisionTransformer, words: Words) -> pd.DataFrame:
    """Mean attention distance in pixels, by block and head, over all query patches (Dosovitskiy et al., 2021, appendix D.7)."""
    apart = torch.from_numpy(_apart(encoder.config)).float()
    lines = []
    for block in range(encoder.config.depth):
        to_patches = self_attention(encoder, words.inputs, block)[:, :, 1:, 1:]
        to_patches = to_patches / to_patches.sum(-1, keepdim=True).clamp(min=1e-12)
        distances = (to_patches * apart).sum(-1).mean((0, 2))
        lines += [{"block": block + 1, "head": head, "distance": float(value)} for head, value in enumerate(distances, 1)]
    return pd.DataFrame(lines)


def compare(models: Sequence[Pretrained], words: Words) -> pd.DataFrame:
    """Mean of each measure of the last block with its 95 % interval over words, as text: of every model, of an encoder that was
    never trained, and of attention that chooses nothing."""
    config = models[0].config.encoder
    measured = {model.name: localities(model.encoder, words) for model in models}
    measured |= {"never trained": localities(untrained(config), words), "even attention": even(words, config)}
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


def draw_map(axes: Axes, image: Tensor, weights: np.ndarray, config: Encoder, query: int | None = None) -> None:
    """Attention to patches (N,) as the tint of a grey image (3, h, w) uint8: the bluer, the more, from 0 to the map's own
    maximum; the query in a red box."""
    height, width = config.image
    share = weights.reshape(config.grid) / (weights.max() or 1.0)
    tint = colormaps["Blues"](0.8 * np.kron(share, np.ones(config.patch)))[..., :3]
    axes.imshow(tint * (0.15 + 0.85 * image.float().mean(0).numpy()[..., None] / 255), extent=(0, width, height, 0))
    if query is not None:
        y, x = divmod(query, config.grid[1])
        box = (x * config.patch[1] + 0.5, y * config.patch[0] + 0.5)
        sides = (config.patch[1] - 1, config.patch[0] - 1)
        axes.add_patch(Rectangle(box, *sides, fill=False, edgecolor="#ff2d2d", linewidth=1.3))
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


@styled()
def by_method(models: Sequence[Pretrained], words: Words, number: int, count: int = 3) -> np.ndarray:
    """Figure 3: one word's attention, mean over heads, from a few query patches (across) under each method (down)."""
    assert words.spans is not None
    config = models[0].config.encoder
    queries = query_patches(words.spans[number], config, count)
    axes = grid(len(models), len(queries), PAGE, 0.25 + 0.62 * len(models))
    for row, model in zip(axes, models, strict=True):
        weights = self_attention(model.encoder, words[[number]].inputs)[0].mean(0).numpy()
        for place, query in zip(row, queries, strict=True):
            draw_map(place, words.images[number], weights[1 + query, 1:], config, query)
        row[0].set_ylabel(model.name, rotation=0, ha="right", va="center")
    return axes


@styled()
def by_head(models: Sequence[Pretrained], words: Words, number: int) -> np.ndarray:
    """One word's attention from a patch in its middle: the heads' mean and each head (across), under each method (down)."""
    assert words.spans is not None
    heads = max(model.config.encoder.heads for model in models)
    axes = grid(len(models), 1 + heads, PAGE, 0.3 + 0.42 * len(models))
    for row, model in zip(axes, models, strict=True):
        (query,) = query_patches(words.spans[number][[len(words.spans[number]) // 2]], model.config.encoder, 1)
        weights = self_attention(model.encoder, words[[number]].inputs)[0][:, 1 + query, 1:].numpy()
        for place, one in zip(row, [weights.mean(0), *weights], strict=False):
            draw_map(place, words.images[number], one, model.config.encoder, query)
        row[0].set_ylabel(model.name, rotation=0, ha="right", va="center")
    for place, title in zip(axes[0], ["mean", *(f"head {head}" for head in range(1, heads + 1))], strict=True):
        place.set_title(title)
    return axes


@styled()
def by_character(readers: Mapping[str, Recognizer], words: Words, number: int) -> np.ndarray:
    """What each recogniser (across) looks at while it writes each character (down); its last layer, mean over heads."""
    read = {name: cross_attention(reader, words[[number]].inputs) for name, reader in readers.items()}
    texts = {name: readers[name].charset.decode(tokens[0].tolist()) for name, (tokens, _) in read.items()}
    rows = max(1, *(len(text) for text in texts.values()))
    axes = grid(rows, len(readers), PAGE, 0.35 + 0.5 * rows)
    for column, (name, (_, weights)) in enumerate(read.items()):
        axes[0, column].set_title(f"{name}: “{texts[name]}”")
        for step in range(rows):
            if step < len(texts[name]):
                config = readers[name].encoder.config
                draw_map(axes[step, column], words.images[number], weights[0, step].mean(0)[1:].numpy(), config)
                axes[step, column].set_ylabel(texts[name][step], rotation=0, ha="right", va="center")
            else:
                axes[step, column].axis("off")
    return axes


def reading_localities(recognizer: Recognizer, words: Words) -> pd.DataFrame:
    """A line for each word that is read with the right number of characters: how much of the cross-attention to patches lies
    within the character that is being written (%), and how far its middle is from that character's (pixels)."""
    assert words.spans is not None
    config = recognizer.encoder.config
    tokens, weights = cross_attention(recognizer, words.inputs)
    x = centres(config)[:, 0]
    lines = []
    for word, spans in enumerate(words.spans):
        if len(recognizer.charset.decode(tokens[word].tolist())) != len(spans):
            continue
        to_patches = weights[word, : len(spans), :, 1:].mean(1).numpy()
        to_patches = to_patches / to_patches.sum(1, keepdims=True).clip(min=1e-12)
        inside = (to_patches * overlap(spans, config)).sum(1).mean()
        lines.append({"character": 100 * inside, "off": np.abs(to_patches @ x - spans.mean(1)).mean()})
    return pd.DataFrame(lines, columns=["character", "off"])


def compare_readers(readers: Mapping[str, Recognizer], words: Words) -> pd.DataFrame:
    """Means of `reading_localities` with their 95 % intervals over words, and how many words they are of."""
    lines = []
    for name, reader in readers.items():
        frame = reading_localities(reader, words)
        told = {column: mean_value(frame[column]).told() if len(frame) else "–" for column in frame}
        inside, off = told["character"], told["off"]
        lines.append({"row": name, "words": len(frame), "on the character written (%)": inside, "off its middle (pixels)": off})
    return pd.DataFrame(lines)


@styled()
def distance_figure(models: Sequence[Pretrained], words: Words) -> Axes:
    """Attention distance of every head (points) by block, under each method; dashed: attention that chooses nothing."""
    axes: Axes = grid(1, 1, COLUMN, 2.3)[0, 0]
    config = models[0].config.encoder
    frame = pd.concat([head_distances(model.encoder, words).assign(row=model.name) for model in models])
    colours = palette(len(models))
    seaborn.stripplot(frame, x="block", y="distance", hue="row", palette=colours, dodge=True, jitter=False, ax=axes)
    axes.axhline(_apart(config).mean(), color=GREY, linestyle="--", linewidth=0.8, label="even attention")
    axes.set(xlabel="block", ylabel="mean attention distance (pixels)")
    axes.set_ylim(0, 1.05 * max(frame["distance"].max(), _apart(config).mean()))
    legend_below(axes, 2)
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    return axes
