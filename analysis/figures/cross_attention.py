"""Cross-attention of the recognizer's last decoder layer, as figures and as numbers.

Shapes: B images, N patches, H heads, T characters. [cls] is the first of the 1 + N keys.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.figures.attention import character_overlap, normalize_weights, patch_centers
from analysis.figures.attention_figures import draw_attention_map
from analysis.figures.probe_words import ProbeWords
from analysis.style import COLUMN, PAGE, grid, hide_axes, plain_label, styled
from analysis.tables.intervals import mean_value
from core.model.kernels.attention import split_qkv
from core.model.recognizer import Recognizer, TextAttention

MAX_CHARACTERS = 10  # characters of a prediction that are drawn


@torch.inference_mode()
def cross_attention(recognizer: Recognizer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-attention of the last decoder layer during greedy decoding.

    inputs: (B, 3, h, w) images in [-1, 1]. Returns tokens (B, T) and weights (B, T, H, 1 + N)."""
    steps: list[Tensor] = []

    def record_weights(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        query = module.split_heads(module.query(arguments[0]))  # type: ignore[operator]
        queries, keys = split_qkv([query, arguments[1]])
        scores = queries @ keys.transpose(-2, -1) / keys.shape[-1] ** 0.5
        steps.append(scores.softmax(-1)[:, :, 0])  # (B, H, 1 + N)

    layer = recognizer.layers[-1].cross_attention
    assert isinstance(layer, TextAttention)
    hook = layer.register_forward_pre_hook(record_weights)
    try:
        tokens, _ = recognizer.greedy_decode(inputs)
    finally:
        hook.remove()
    return tokens, torch.stack(steps, dim=1)


@styled()
def character_figure(
    recognizers: Mapping[str, Recognizer], words: ProbeWords, number: int
) -> np.ndarray:
    """Cross-attention to one word by character (rows) and recognizer (columns), mean of heads.

    At most MAX_CHARACTERS characters of each prediction are drawn. number: index of the word."""
    inputs = words[[number]].inputs
    decoded = {name: cross_attention(model, inputs) for name, model in recognizers.items()}
    texts = {
        name: recognizers[name].charset.decode(tokens[0].tolist())
        for name, (tokens, _) in decoded.items()
    }
    rows = min(MAX_CHARACTERS, max(1, *(len(text) for text in texts.values())))
    width = min(PAGE, COLUMN / 2 * max(2, len(recognizers)))
    axes = grid(rows, len(recognizers), width, 0.5 + 0.36 * rows)
    for column, (name, (_, weights)) in enumerate(decoded.items()):
        config = recognizers[name].encoder.config
        title = f"{plain_label(name, 18)}\n“{plain_label(texts[name], 18)}”"
        axes[0, column].set_title(title, fontsize=7)
        for step, cell in enumerate(axes[:, column]):
            hide_axes(cell)
            if step < len(texts[name]):
                to_patches = weights[0, step].mean(0)[1:].numpy()
                draw_attention_map(cell, words.images[number], to_patches, config)
                character = plain_label(texts[name][step])
                cell.set_ylabel(character, rotation=0, ha="right", va="center")
    return axes


def cross_attention_locality(recognizer: Recognizer, words: ProbeWords) -> pd.DataFrame:
    """How well the cross-attention follows the predicted characters, one line per word.

    Words whose prediction has a wrong number of characters are left out. Columns:
        character: share of the attention to patches that lies on the predicted character (%).
        off: distance between the center of this attention and the character's center (pixels)."""
    assert words.spans is not None
    config = recognizer.encoder.config
    tokens, weights = cross_attention(recognizer, words.inputs)
    x = patch_centers(config)[:, 0]
    lines = []
    for word, spans in enumerate(words.spans):
        if len(recognizer.charset.decode(tokens[word].tolist())) != len(spans):
            continue
        to_patches = normalize_weights(weights[word, : len(spans), :, 1:].mean(1).numpy())
        inside = (to_patches * character_overlap(spans, config)).sum(1).mean()
        offset = np.abs(to_patches @ x - spans.mean(1)).mean()
        lines.append({"character": 100 * inside, "off": offset})
    return pd.DataFrame(lines, columns=["character", "off"])


def compare_recognizers(recognizers: Mapping[str, Recognizer], words: ProbeWords) -> pd.DataFrame:
    """Means of `cross_attention_locality` with 95 % intervals over words; number of words."""
    lines = []
    for name, recognizer in recognizers.items():
        table = cross_attention_locality(recognizer, words)
        texts = {key: mean_value(table[key]).format() if len(table) else "–" for key in table}
        lines.append(
            {
                "row": name,
                "words": len(table),
                "on the predicted character (%)": texts["character"],
                "distance to its center (pixels)": texts["off"],
            }
        )
    return pd.DataFrame(lines)
