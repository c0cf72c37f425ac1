"""Measures and figures of [cls] after pre-training: does it encode the word, or collapse?

Shapes: B words, D feature values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from analysis.figures.models import PretrainedModel, untrained_encoder
from analysis.figures.probe_words import ProbeWords
from analysis.style import (
    COLORS,
    COLUMN,
    GRAY,
    PAGE,
    grid,
    legend_below,
    palette,
    plain_label,
    styled,
)
from analysis.tables.intervals import Estimate, wilson
from core.model.vit import VisionTransformer

CLS = "[cls]"
PATCH_MEAN = "mean of patches"
RECALLS = ("recall@1", "recall@5")
NORM_FLOOR = 1e-12


@dataclass(frozen=True)
class TwoViews:
    """Features of the same B words in two views, (B, D) each. In retrieval, `first` queries."""

    first: np.ndarray
    second: np.ndarray


Features = Mapping[str, Mapping[str, TwoViews]]  # row -> kind of feature -> features


@torch.inference_mode()
def encoder_features(
    encoder: VisionTransformer, first: ProbeWords, second: ProbeWords
) -> dict[str, TwoViews]:
    """Features of two views of the same words, by kind (CLS, PATCH_MEAN).

    No patch is hidden.
    Raises ValueError if the two views do not show the same words."""
    if first.labels != second.labels:
        raise ValueError("the two views do not show the same words")
    outputs = [encoder(words.inputs) for words in (first, second)]  # (B, 1 + N, D) each
    kinds: dict[str, list[Tensor]] = {
        CLS: [output[:, 0] for output in outputs],
        PATCH_MEAN: [output[:, 1:].mean(1) for output in outputs],
    }
    return {
        kind: TwoViews(*(values.double().numpy() for values in views))
        for kind, views in kinds.items()
    }


def model_features(
    models: Sequence[PretrainedModel], first: ProbeWords, second: ProbeWords
) -> dict[str, dict[str, TwoViews]]:
    """Row -> kind -> features of all models and two baselines (untrained encoder, pixels)."""
    features = {model.name: encoder_features(model.encoder, first, second) for model in models}
    untrained = untrained_encoder(models[0].config.encoder)
    features["untrained"] = encoder_features(untrained, first, second)
    images = (words.inputs.flatten(1).double().numpy() for words in (first, second))
    features["the image itself"] = {"pixels": TwoViews(*images)}
    return features


def singular_values(values: np.ndarray) -> np.ndarray:
    """Singular values of centered features (B, D), relative to the uncentered norm.

    They are in descending order.
    All are 0 if all words have the same feature."""
    centered = values - values.mean(0)
    norm = max(float(np.linalg.norm(values)), NORM_FLOOR)
    return np.linalg.svd(centered, compute_uv=False) / norm


def effective_rank(values: np.ndarray) -> float:
    """Effective rank of features (B, D) (Roy and Vetterli, 2007), from 1 to min(B - 1, D).

    It is the exponential of the entropy of the normalized singular values."""
    spectrum = singular_values(values)
    shares = spectrum[spectrum > 1e-12] / spectrum.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def normalize_rows(values: np.ndarray) -> np.ndarray:
    """Divide each row of (B, D) by its Euclidean norm."""
    norms = np.linalg.norm(values, axis=1, keepdims=True).clip(min=NORM_FLOOR)
    normalized: np.ndarray = values / norms
    return normalized


def uniformity(values: np.ndarray) -> float:
    """Log of the mean Gaussian potential of all pairs of features (B, D).

    Definition: Wang and Isola (2020).
    0 if all features are equal. Lower values mean features that are spread more evenly: about -4
    for many features on a sphere of many dimensions."""
    similarity = normalize_rows(values) @ normalize_rows(values).T
    squared_distance = 2 - 2 * similarity[~np.eye(len(values), dtype=bool)]
    return float(np.log(np.exp(-2 * squared_distance).mean()))


def relative_variance(values: np.ndarray) -> float:
    """Variance of features (B, D) over words, divided by their mean square.

    It is 0 if all words have the same feature."""
    return float(values.var(0).sum() / (values**2).mean(0).sum())


def recall(views: TwoViews, count: int) -> Estimate:
    """Share of words whose second view is among the `count` nearest to their first view.

    The similarity is the cosine of centered features. Centering removes what all words share, so a
    collapsed feature is judged by its remaining differences."""
    first = normalize_rows(views.first - views.first.mean(0))
    second = normalize_rows(views.second - views.second.mean(0))
    similarity = first @ second.T  # (B, B)
    true_pair = np.diag(similarity)[:, None]
    closer = (similarity > true_pair).sum(1)
    ties = (similarity == true_pair).sum(1) - 1
    ranks = closer + ties / 2  # a tie counts half, so that equal features retrieve nothing
    return wilson(int((ranks < count).sum()), len(ranks))


def alignment_measures(features: Features) -> pd.DataFrame:
    """Variance, rank, uniformity, distances and recalls, one line per row and kind of feature.

    features: row -> kind -> features."""
    lines = []
    for name, kinds in features.items():
        for kind, views in kinds.items():
            similarity = normalize_rows(views.first) @ normalize_rows(views.second).T
            other_words = similarity[~np.eye(len(similarity), dtype=bool)]
            lines.append(
                {
                    "row": name,
                    "features": kind,
                    "variance / mean square": relative_variance(views.first),
                    "effective rank": effective_rank(views.first),
                    "uniformity": uniformity(views.first),
                    "1 − cosine, same word": 1 - float(np.diag(similarity).mean()),
                    "1 − cosine, other words": 1 - float(other_words.mean()),
                    "recall@1": recall(views, 1),
                    "recall@5": recall(views, 5),
                }
            )
    return pd.DataFrame(lines)


def format_measures(measures: pd.DataFrame) -> pd.DataFrame:
    """`alignment_measures` as text, with intervals over words and recalls in percent."""
    recalls = {
        f"{name} (%)": measures[name].map(lambda estimate: estimate.format(times=100))
        for name in RECALLS
    }
    numbers = measures.drop(columns=list(RECALLS))
    texts = numbers.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value)
    return texts.assign(**recalls)


def measures_over_seeds(measures: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Mean, lowest and highest value of each measure over seeds, one line per row and feature.

    Columns: `row`, `features`, `measure`, `mean`, `low`, `high`, `seeds`. Recalls are in percent.

    measures: seed -> `alignment_measures`."""
    frames = []
    for seed, frame in measures.items():
        recalls = {name: frame[name].map(lambda estimate: 100 * estimate.value) for name in RECALLS}
        frames.append(frame.assign(seed=seed, **recalls))
    long = pd.concat(frames).melt(["row", "features", "seed"], var_name="measure")
    values = long.groupby(["row", "features", "measure"], sort=False)["value"]
    return values.agg(mean="mean", low="min", high="max", seeds="size").reset_index()


def format_measures_over_seeds(summary: pd.DataFrame) -> pd.DataFrame:
    """`measures_over_seeds` as text: a line per row and feature, a column per measure.

    A cell is the mean and the range over seeds."""

    def text(line: pd.Series) -> str:
        return f"{line['mean']:.3g} ({line['low']:.3g} to {line['high']:.3g})"

    names = {name: f"{name} (%)" for name in RECALLS}
    texts = summary.assign(
        text=summary.apply(text, axis=1), measure=summary["measure"].replace(names)
    )
    keys = ["row", "features", "seeds"]
    wide = texts.pivot_table("text", keys, "measure", aggfunc="first", sort=False)
    return wide.reset_index().rename_axis(columns=None)


@styled()
def seeds_figure(summary: pd.DataFrame) -> np.ndarray:
    """Variance, effective rank and recall@1 of [cls]: mean and range over seeds, for each row.

    summary: `measures_over_seeds`.
    Returns the axes, one for each measure."""
    of_cls = summary[summary["features"] == CLS]
    names = list(dict.fromkeys(of_cls["row"]))
    panels = {
        "variance / mean square": "variance / mean square",
        "effective rank": "effective rank",
        "recall@1": "recall@1 (%)",
    }
    axes: np.ndarray = grid(1, len(panels), PAGE, 0.9 + 0.22 * len(names))[0]
    for number, (measure, label) in enumerate(panels.items()):
        lines = of_cls[of_cls["measure"] == measure].set_index("row").loc[names]
        errors = [lines["mean"] - lines["low"], lines["high"] - lines["mean"]]
        errors = [error.clip(lower=0) for error in errors]  # equal values, by rounding
        axes[number].errorbar(lines["mean"], range(len(names)), xerr=errors, fmt="o")
        axes[number].set(xlabel=label, yticks=range(len(names)))
        axes[number].set_yticklabels(
            [plain_label(name, 24) for name in names] if not number else []
        )
        axes[number].set_ylim(len(names) - 0.5, -0.5)
        axes[number].grid(axis="y", alpha=0.3)
    axes[0].set_xscale("log")
    axes[2].set_xlim(left=0)
    return axes


@styled()
def recall_figure(measures: pd.DataFrame, words: int) -> Axes:
    """Recall@1 of each row and kind of feature, with intervals. The dashed line is chance level.

    words: how many words were compared."""
    names = list(dict.fromkeys(measures["row"]))
    axes: Axes = grid(1, 1, COLUMN, 0.9 + 0.32 * len(names))[0, 0]
    for number, (kind, lines) in enumerate(measures.groupby("features", sort=False)):
        positions = np.array([names.index(name) for name in lines["row"]]) + 0.16 * (number - 0.5)
        estimates = list(lines["recall@1"])
        axes.errorbar(
            [100 * estimate.value for estimate in estimates],
            positions,
            xerr=[  # at least 0: an end may equal the value except for rounding
                [100 * max(estimate.value - estimate.low, 0) for estimate in estimates],
                [100 * max(estimate.high - estimate.value, 0) for estimate in estimates],
            ],
            fmt="osD"[number % 3],
            color=COLORS[number],
            label=str(kind),
        )
    axes.axvline(100 / words, color=GRAY, linestyle="--", linewidth=0.8, label="chance")
    axes.set(yticks=range(len(names)), xlabel="recall@1 (%)")
    axes.set_yticklabels([plain_label(name, 20) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    legend_below(axes, 3)
    return axes


@styled()
def spectrum_figure(features: Features) -> Axes:
    """Singular values of [cls] over words, one curve per row.

    A low curve shows a collapse to a point. A steep curve shows a collapse to few directions."""
    axes: Axes = grid(1, 1, COLUMN, 2.3)[0, 0]
    rows = {name: kinds[CLS] for name, kinds in features.items() if CLS in kinds}
    colors = palette(len(rows))
    for number, (name, views) in enumerate(rows.items()):
        values = singular_values(views.first)
        style = "-" if number < len(COLORS) else "--"
        label = plain_label(name)
        axes.plot(np.arange(1, len(values) + 1), values, style, color=colors[number], label=label)
    axes.set(xscale="log", yscale="log", xlabel="direction", ylabel="singular value / norm")
    axes.set_ylim(bottom=1e-7)
    legend_below(axes, 2)
    return axes
