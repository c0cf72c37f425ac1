"""Self-attention of the encoder's last block, as numbers.

Shapes: B images, N patches, H heads, T characters. [cls] is the first of the 1 + N tokens.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.figures.models import PretrainedModel, untrained_encoder
from analysis.figures.probe_words import ProbeWords
from analysis.tables.intervals import mean_value
from core.config import Encoder
from core.model.vit import VisionTransformer

Result = TypeVar("Result")
MEASURES = {
    "distance": "distance (pixels)",
    "character": "within its character (%)",
    "word": "within the word (%)",
    "covered": "characters covered (%)",
    "cls": "on [cls] (%)",
}


@torch.inference_mode()
def measure_blocks(
    encoder: VisionTransformer, inputs: Tensor, measure: Callable[[Tensor], Result]
) -> list[Result]:
    """Apply `measure` to the attention weights of each block.

    One forward pass without hidden patches computes them.

    Args:
        encoder: in evaluation mode.
        inputs: (B, 3, h, w) images in [-1, 1].
        measure: gets weights (B, H, 1 + N, 1 + N), whose rows are queries and sum to 1. The weights
            of a block are freed before those of the next block are computed."""
    results: list[Result] = []
    with ExitStack() as stack:
        for block in encoder.blocks:
            layer: Any = block.attn
            stack.callback(setattr, layer, "fused_attn", layer.fused_attn)
            layer.fused_attn = False  # the fused operator does not return the weights
            hook = layer.attn_drop.register_forward_hook(
                lambda module, arguments, weights: results.append(measure(weights))
            )
            stack.callback(hook.remove)
        encoder(inputs)
    return results


def self_attention(encoder: VisionTransformer, inputs: Tensor) -> Tensor:
    """Attention weights of the last block: (B, 3, h, w) in [-1, 1] -> (B, H, 1 + N, 1 + N)."""
    last: dict[str, Tensor] = {}
    measure_blocks(encoder, inputs, lambda weights: last.update(weights=weights))
    return last["weights"]


def normalize_weights(weights: np.ndarray) -> np.ndarray:
    """Divide weights (..., K) by their sum over the last axis."""
    normalized: np.ndarray = weights / weights.sum(-1, keepdims=True).clip(min=1e-12)
    return normalized


def character_overlap(spans: np.ndarray, config: Encoder) -> np.ndarray:
    """Share of each patch's width that each character covers: (T, 2) pixels -> (T, N) in [0, 1]."""
    rows, columns = config.grid
    left = np.arange(columns) * config.patch[1]
    right = left + config.patch[1]
    inside = np.minimum(spans[:, 1:], right) - np.maximum(spans[:, :1], left)
    return np.tile(inside.clip(min=0) / config.patch[1], (1, rows))


def patch_centers(config: Encoder) -> np.ndarray:
    """Centers of all patches: (N, 2) pixels, x and y."""
    rows, columns = config.grid
    y = (np.arange(rows) + 0.5) * config.patch[0]
    x = (np.arange(columns) + 0.5) * config.patch[1]
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
    return np.stack([grid_x.ravel(), grid_y.ravel()], axis=1)


def patch_distances(config: Encoder) -> np.ndarray:
    """Distances between the centers of all patches: (N, N) pixels."""
    centers = patch_centers(config)
    distances: np.ndarray = np.linalg.norm(centers[:, None] - centers[None], axis=2)
    return distances


def locality(weights: np.ndarray, spans: np.ndarray, config: Encoder) -> dict[str, float]:
    """How local the attention of one word is, averaged over queries that lie on a character.

    Args:
        weights: (1 + N, 1 + N) attention, rows are queries.
        spans: (T, 2) left and right end of each character, in pixels.
        config: sizes of image and patches.

    Returns a value for each key of MEASURES. All but `cls` describe the attention to patches only:
        distance: mean distance between query and attended patch, in pixels.
        character: share on the query's own character (%). A patch counts by the part of its width.
        word: share on the word (%).
        covered: exp(entropy over characters) / T (%), from 100 / T (one character) to 100 (all
            equally).
        cls: share of all attention that goes to [cls] (%)."""
    overlap = character_overlap(spans, config)  # (T, N)
    nearest_character = overlap.argmax(0)
    queries = np.flatnonzero(overlap.max(0) >= min(0.5, overlap.max()))
    to_patches = normalize_weights(weights[1 + queries, 1:])  # (queries, N)
    distances = patch_distances(config)[queries]
    by_character = to_patches @ overlap.T  # (queries, T)
    shares = normalize_weights(by_character)
    entropy = -(shares * np.log(shares.clip(min=1e-12))).sum(1)
    within_character = by_character[np.arange(len(queries)), nearest_character[queries]]
    return {
        "distance": float((to_patches * distances).sum(1).mean()),
        "character": 100 * float(within_character.mean()),
        "word": 100 * float(by_character.sum(1).mean()),
        "covered": 100 * float((np.exp(entropy) / len(spans)).mean()),
        "cls": 100 * float(weights[1 + queries, 0].mean()),
    }


def locality_table(maps: Iterable[np.ndarray], words: ProbeWords, config: Encoder) -> pd.DataFrame:
    """`locality` of every word, one line per word. maps: one (1 + N, 1 + N) per word.

    Raises ValueError if the positions of characters are unknown."""
    if words.spans is None:
        raise ValueError("positions of characters are known for drawn words only")
    pairs = zip(maps, words.spans, strict=False)  # `maps` may be endless
    return pd.DataFrame([locality(weights, spans, config) for weights, spans in pairs])


def mean_attention_maps(encoder: VisionTransformer, words: ProbeWords) -> np.ndarray:
    """Attention of the last block, averaged over heads: (B, 1 + N, 1 + N)."""
    return self_attention(encoder, words.inputs).mean(1).numpy()


def head_distances(encoder: VisionTransformer, words: ProbeWords) -> pd.DataFrame:
    """Mean attention distance in pixels of each block and head.

    Definition: Dosovitskiy et al. (2021), appendix D.7.
    All patches are queries."""
    distances = patch_distances(encoder.config)

    def mean_distances(weights: Tensor) -> np.ndarray:  # (H,)
        to_patches = normalize_weights(weights[:, :, 1:, 1:].numpy())
        by_head: np.ndarray = (to_patches * distances).sum(-1).mean((0, 2))
        return by_head

    lines = [
        {"block": block, "head": head, "distance": float(value)}
        for block, values in enumerate(measure_blocks(encoder, words.inputs, mean_distances), 1)
        for head, value in enumerate(values, 1)
    ]
    return pd.DataFrame(lines)


def compare_attention(models: Sequence[PretrainedModel], words: ProbeWords) -> pd.DataFrame:
    """The mean of each measure of MEASURES with its 95 % interval over words, as text.

    The lines are all models, then three baselines for each patch size: an untrained encoder,
    attention that is equal for all tokens, and attention to the query patch only."""
    tables = {
        model.name: locality_table(
            mean_attention_maps(model.encoder, words), words, model.config.encoder
        )
        for model in models
    }
    configs = list(dict.fromkeys(model.config.encoder for model in models))
    for config in configs:
        suffix = f", patch {config.patch[0]} x {config.patch[1]}" if len(configs) > 1 else ""
        tables |= {
            f"{name}{suffix}": locality_table(maps, words, config)
            for name, maps in _baseline_maps(config, words).items()
        }
    lines = {
        name: {title: mean_value(table[key]).format() for key, title in MEASURES.items()}
        for name, table in tables.items()
    }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("row").reset_index()


def _baseline_maps(config: Encoder, words: ProbeWords) -> dict[str, Iterable[np.ndarray]]:
    """Baseline -> one attention map (1 + N, 1 + N) per word."""
    tokens = 1 + config.patches
    return {
        "untrained": mean_attention_maps(untrained_encoder(config), words),
        "even attention": repeat(np.full((tokens, tokens), 1 / tokens)),
        "query patch only": repeat(np.eye(tokens)),  # the most local attention at this patch size
    }


def query_patches(spans: np.ndarray, config: Encoder, count: int) -> list[int]:
    """Up to `count` patches of the middle row, at the centers of evenly spaced characters."""
    count = min(count, len(spans))
    characters = np.unique(np.linspace(0, len(spans) - 1, count).round().astype(int))
    columns = (spans[characters].mean(1) // config.patch[1]).astype(int)
    columns = columns.clip(0, config.grid[1] - 1)
    row = config.grid[0] // 2 if config.grid[0] > 1 else 0
    return [row * config.grid[1] + int(column) for column in dict.fromkeys(columns.tolist())]
