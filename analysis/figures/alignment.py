"""What pre-training does to [cls]: does it carry the word, or collapse? Shapes: B words, D features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from analysis.figures.models import Pretrained, untrained
from analysis.figures.probe_words import Words
from analysis.style import COLOURS, COLUMN, GRAY, grid, legend_below, palette, plain, styled
from analysis.tables.intervals import Estimate, wilson
from core.model.vit import VisionTransformer

KINDS = ("[cls]", "mean of patches")


@dataclass(frozen=True)
class TwoViews:
    """Features of the same B words in two looks, each (B, D); `first` asks, `second` answers."""

    first: np.ndarray
    second: np.ndarray


@torch.inference_mode()
def features(encoder: VisionTransformer, first: Words, second: Words) -> dict[str, TwoViews]:
    """By kind (`KINDS`), the encoder's features of two looks of the same words, all patches visible.

    Raises ValueError if the words are not the same."""
    if first.labels != second.labels:
        raise ValueError("the two looks are not of the same words")
    both = [encoder(words.inputs) for words in (first, second)]
    made: dict[str, list[Tensor]] = {
        KINDS[0]: [one[:, 0] for one in both],
        KINDS[1]: [one[:, 1:].mean(1) for one in both],
    }
    return {kind: TwoViews(*(one.double().numpy() for one in pair)) for kind, pair in made.items()}


def looks(
    models: Sequence[Pretrained], first: Words, second: Words
) -> dict[str, dict[str, TwoViews]]:
    """Row -> kind -> features, of every model, of an encoder that was never trained, and of the images themselves."""
    found = {model.name: features(model.encoder, first, second) for model in models}
    found["never trained"] = features(untrained(models[0].config.encoder), first, second)
    images = TwoViews(*(words.inputs.flatten(1).double().numpy() for words in (first, second)))
    return found | {"the image itself": {"pixels": images}}


def singular_values(values: np.ndarray) -> np.ndarray:
    """Of features (B, D) less their mean, largest first, as shares of the whole features' norm: 0 where all words are alike."""
    return np.linalg.svd(values - values.mean(0), compute_uv=False) / max(
        np.linalg.norm(values), 1e-12
    )


def effective_rank(values: np.ndarray) -> float:
    """Exponential of the entropy of the singular values' shares (Roy and Vetterli, 2007): from 1 to min(B - 1, D); (B, D)."""
    found = singular_values(values)
    shares = found[found > 1e-12] / found.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return values / np.linalg.norm(values, axis=1, keepdims=True).clip(min=1e-12)


def uniformity(values: np.ndarray) -> float:
    """Log of the mean Gaussian potential of pairs on the unit sphere (Wang and Isola, 2020): 0 if all are one; (B, D).

    The lower, the more evenly features are spread; near -4 where many of them fill a sphere of many dimensions."""
    similarity = unit(values) @ unit(values).T
    squared = 2 - 2 * similarity[~np.eye(len(values), dtype=bool)]
    return float(np.log(np.exp(-2 * squared).mean()))


def spread(values: np.ndarray) -> float:
    """Variance over words as a share of the features' mean square: 0 where all words have the same; (B, D)."""
    return float(values.var(0).sum() / (values**2).mean(0).sum())


def recall(pair: TwoViews, among: int) -> Estimate:
    """How often a word's other look is among the `among` nearest, by cosine of features less their mean; in [0, 1].

    Collapsed features are given their best chance: the mean, which is all that they share, is taken away."""
    first, second = pair.first - pair.first.mean(0), pair.second - pair.second.mean(0)
    similarity = unit(first) @ unit(second).T
    own = np.diag(similarity)[:, None]
    ranks = (similarity > own).sum(1) + (
        (similarity == own).sum(1) - 1
    ) / 2  # ties count half: equal features find nothing
    return wilson(int((ranks < among).sum()), len(ranks))


def measure(found: Mapping[str, Mapping[str, TwoViews]]) -> pd.DataFrame:
    """A line for each row and kind: spread, effective rank, uniformity, how alike two looks and two words are, recalls.

    found: row -> kind -> features."""
    lines = []
    for name, kinds in found.items():
        for kind, pair in kinds.items():
            first, second = unit(pair.first), unit(pair.second)
            similarity = first @ second.T
            other = similarity[~np.eye(len(similarity), dtype=bool)].mean()
            lines.append(
                {
                    "row": name,
                    "features": kind,
                    "variance / mean square": spread(pair.first),
                    "effective rank": effective_rank(pair.first),
                    "uniformity": uniformity(pair.first),
                    "1 − cosine, same word": 1 - float(np.diag(similarity).mean()),
                    "1 − cosine, other words": 1 - float(other),
                    "recall@1": recall(pair, 1),
                    "recall@5": recall(pair, 5),
                }
            )
    return pd.DataFrame(lines)


def shown(measured: pd.DataFrame) -> pd.DataFrame:
    """`measure` for people: rounded, with intervals of recalls (over words)."""
    recalls = {
        f"{name} (%)": measured[name].map(lambda one: one.told(times=100))
        for name in ("recall@1", "recall@5")
    }
    numbers = measured.drop(columns=["recall@1", "recall@5"])
    return numbers.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value).assign(
        **recalls
    )


@styled()
def recall_figure(measured: pd.DataFrame, words: int) -> Axes:
    """Recall@1 of every row with its interval, from [cls] and from the mean of patches; dashed: by chance."""
    names = list(dict.fromkeys(measured["row"]))
    axes: Axes = grid(1, 1, COLUMN, 0.9 + 0.32 * len(names))[0, 0]
    for number, (kind, lines) in enumerate(measured.groupby("features", sort=False)):
        places = np.array([names.index(name) for name in lines["row"]]) + 0.16 * (number - 0.5)
        found = list(lines["recall@1"])
        values = (
            100
            * np.array([[one.value, one.value - one.low, one.high - one.value] for one in found]).T
        )
        axes.errorbar(
            values[0],
            places,
            xerr=values[1:],
            fmt="osD"[number % 3],
            color=COLOURS[number],
            label=str(kind),
        )
    axes.axvline(100 / words, color=GRAY, linestyle="--", linewidth=0.8, label="chance")
    axes.set(
        yticks=range(len(names)),
        yticklabels=[plain(name, 20) for name in names],
        xlabel="recall@1 (%)",
    )
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    legend_below(axes, 3)
    return axes


@styled()
def spectrum_figure(found: Mapping[str, Mapping[str, TwoViews]]) -> Axes:
    """Singular values of [cls] over words, row by row: a low curve is a collapse to one point, a steep one to a few."""
    axes: Axes = grid(1, 1, COLUMN, 2.3)[0, 0]
    rows = {name: kinds[KINDS[0]] for name, kinds in found.items() if KINDS[0] in kinds}
    for number, (color, (name, pair)) in enumerate(
        zip(palette(len(rows)), rows.items(), strict=True)
    ):
        values = singular_values(pair.first)
        style = "-" if number < len(COLOURS) else "--"
        axes.plot(np.arange(1, len(values) + 1), values, style, color=color, label=plain(name))
    axes.set(xscale="log", yscale="log", xlabel="direction", ylabel="singular value / norm")
    axes.set_ylim(bottom=1e-7)
    legend_below(axes, 2)
    return axes
