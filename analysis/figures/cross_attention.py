"""Where recognizers look while they read: the last decoder layer's cross-attention, as pictures and as numbers.

Shapes: B images, N patches, H heads, T characters. Keys have [cls] first: 1 + N.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.figures.attention import as_shares, centers, draw_map, overlap
from analysis.figures.probe_words import Words
from analysis.style import COLUMN, PAGE, bare, grid, plain, styled
from analysis.tables.intervals import mean_value
from core.model.kernels.attention import split_qkv
from core.model.recognizer import Attention, Recognizer

MOST = 10  # characters of a reading that are drawn


@torch.inference_mode()
def cross_attention(recognizer: Recognizer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the last decoder layer looks at while it reads greedily: tokens (B, T), weights (B, T, H, 1 + N)."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        queries, keys = split_qkv([module._split(module.query(arguments[0])), arguments[1]])  # type: ignore[operator]
        caught.append(
            (queries @ keys.transpose(-2, -1) / keys.shape[-1] ** 0.5).softmax(-1)[:, :, 0]
        )

    layer = recognizer.layers[-1].cross_attention
    assert isinstance(layer, Attention)
    hook = layer.register_forward_pre_hook(catch)
    try:
        tokens, _ = recognizer.read(inputs)
    finally:
        hook.remove()
    return tokens, torch.stack(caught, dim=1)


@styled()
def by_character(recognizers: Mapping[str, Recognizer], words: Words, number: int) -> np.ndarray:
    """What each recognizer (across) looks at while it writes each character (down), the first ten of a reading; its last layer,
    mean over heads."""
    read = {
        name: cross_attention(reader, words[[number]].inputs)
        for name, reader in recognizers.items()
    }
    texts = {
        name: recognizers[name].charset.decode(tokens[0].tolist())
        for name, (tokens, _) in read.items()
    }
    rows = min(MOST, max(1, *(len(text) for text in texts.values())))
    axes = grid(
        rows, len(recognizers), min(PAGE, COLUMN / 2 * max(2, len(recognizers))), 0.5 + 0.36 * rows
    )
    for column, (name, (_, weights)) in enumerate(read.items()):
        axes[0, column].set_title(f"{plain(name, 18)}\n“{plain(texts[name], 18)}”", fontsize=7)
        for step in range(rows):
            bare(axes[step, column])
            if step < len(texts[name]):
                config = recognizers[name].encoder.config
                draw_map(
                    axes[step, column],
                    words.images[number],
                    weights[0, step].mean(0)[1:].numpy(),
                    config,
                )
                axes[step, column].set_ylabel(
                    plain(texts[name][step]), rotation=0, ha="right", va="center"
                )
    return axes


def reading_localities(recognizer: Recognizer, words: Words) -> pd.DataFrame:
    """A line for each word that is read with the right number of characters: how much of the cross-attention to patches lies
    within the character that is being written (%), and how far its middle is from that character's (pixels)."""
    assert words.spans is not None
    config = recognizer.encoder.config
    tokens, weights = cross_attention(recognizer, words.inputs)
    x = centers(config)[:, 0]
    lines = []
    for word, spans in enumerate(words.spans):
        if len(recognizer.charset.decode(tokens[word].tolist())) != len(spans):
            continue
        to_patches = as_shares(weights[word, : len(spans), :, 1:].mean(1).numpy())
        inside = (to_patches * overlap(spans, config)).sum(1).mean()
        lines.append(
            {"character": 100 * inside, "off": np.abs(to_patches @ x - spans.mean(1)).mean()}
        )
    return pd.DataFrame(lines, columns=["character", "off"])


def compare_readers(recognizers: Mapping[str, Recognizer], words: Words) -> pd.DataFrame:
    """Means of `reading_localities` with their 95 % intervals over words, and how many words they are of."""
    lines = []
    for name, reader in recognizers.items():
        frame = reading_localities(reader, words)
        told = {column: mean_value(frame[column]).told() if len(frame) else "–" for column in frame}
        inside, off = told["character"], told["off"]
        lines.append(
            {
                "row": name,
                "words": len(frame),
                "on the character written (%)": inside,
                "off its middle (pixels)": off,
            }
        )
    return pd.DataFrame(lines)
