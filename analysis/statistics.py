"""Intervals, tests and power from counts and per-image rows: pure functions of arrays. Each says which variance it covers.

Shapes: S seeds, K subsets, n images of a subset. Values are 0 or 1 (was the image read?) or differences of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf

import numpy as np
from numpy.typing import ArrayLike

IMAGES, SEEDS_TOO = "test images", "test images and seeds"
RESAMPLES = 2_500
Z95 = 1.959964  # of the normal distribution, two-sided


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, its standard error, and the variance that these cover: `test images`, or seeds too."""

    value: float
    low: float
    high: float
    error: float
    covers: str = IMAGES
    freedom: float = inf  # of the standard error: seeds - 1, where they are covered

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def percent(estimate: Estimate) -> dict[str, float | str]:
    """An estimate in percent, as a table's content has it."""
    values = {"accuracy": estimate.value, "low": estimate.low, "high": estimate.high, "error": estimate.error}
    return {**{name: round(100 * value, 4) for name, value in values.items()}, "covers": estimate.covers}


def wilson(correct: int, images: int) -> Estimate:
    """The share `correct / images` with its interval (Wilson, 1927), in [0, 1]. It covers test images. images: at least 1."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(correct, images, method="wilson")
    share = correct / images
    return Estimate(share, float(low), float(high), float(np.sqrt(share * (1 - share) / images)))


def mean_accuracy(correct: ArrayLike, images: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """Weighted mean of the subsets' accuracies of one recogniser, from counts (K,) per subset; without weights Avg.

    The subsets are independent strata; each one's variance is Agresti and Coull's (two more hits, two more misses), so that 0
    of n does not pass for certain. It covers test images. Raises ValueError if a subset is empty."""
    hits, sizes = np.asarray(correct, float), np.asarray(images, float)
    if not len(sizes) or (sizes < 1).any():
        raise ValueError("every subset needs at least one image")
    share = (hits + 2) / (sizes + 4)
    parts = np.full(len(sizes), 1 / len(sizes)) if weights is None else np.asarray(weights, float)
    error = float(np.sqrt((parts**2 * share * (1 - share) / (sizes + 4)).sum()))
    value, half = float(parts @ (hits / sizes)), Z95 * error
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), error)


def pooled_accuracy(correct: Sequence[int], images: Sequence[int]) -> float:
    """Accuracy over all images (W-Avg)."""
    return sum(correct) / sum(images)


def average_weights(images: ArrayLike, *, pooled: bool) -> np.ndarray:
    """Weight of each subset (K,) in Avg, or in W-Avg where `pooled`. images: (K,) of each subset."""
    sizes = np.asarray(images, float)
    return sizes / sizes.sum() if pooled else np.full(len(sizes), 1 / len(sizes))


def bootstrap(
    subsets: Sequence[np.ndarray], *weightings: np.ndarray, paired: bool, resamples: int = RESAMPLES, seed: int = 0
) -> list[Estimate]:
    """Weighted means of subset means, one for each weighting, with intervals by resampling stratified by subset.

    subsets: for each subset the values (S, n) of the same n images under S seeds; `paired`: differences of two recognisers'.
    weightings: (K,) each, of sum 1. One seed: percentiles over resampled images. Several: `_over_seeds`. To draw images with
    replacement is to draw how often each of their values occurs, which takes no longer for 400,000 images than for 400. A few
    made-up images are drawn from as well, so that no difference in 16 images does not pass for certain: half a one in each cell
    of a pair's table (Agresti and Min, 2005), two right and two wrong ones for accuracies (Agresti and Coull, 1998).
    Raises ValueError if a subset is empty or numbers of seeds differ."""
    if len({values.shape[0] for values in subsets}) != 1 or not all(values.size for values in subsets):
        raise ValueError("every subset needs at least one image, and all of them the same seeds")
    random = np.random.default_rng(seed)
    made_up, each = ([-1, 0, 0, 1], 0.5) if paired else ([0, 0, 1, 1], 1.0)
    drawn = np.empty((len(subsets), resamples))  # resampled means
    for number, values in enumerate(subsets):
        images = values.shape[1]
        means, place = np.unique(np.append(values.mean(0), made_up), return_inverse=True)
        share = np.bincount(place, weights=np.append(np.ones(images), [each] * 4)) / (images + 4 * each)
        drawn[number] = random.multinomial(images, share, size=resamples) @ means / images
    estimates = []
    for weights in weightings:
        draws = weights @ drawn
        if subsets[0].shape[0] > 1:
            estimate = _over_seeds(subsets, weights, draws, random)
        else:
            value = float(sum(weight * values.mean() for values, weight in zip(subsets, weights, strict=True)))
            low, high = np.quantile(draws, (0.025, 0.975))
            estimate = Estimate(value, float(low), float(high), float(draws.std()))
        least = -1.0 if paired else 0.0
        estimates.append(replace(estimate, low=max(least, estimate.low), high=min(1.0, estimate.high)))
    return estimates


def _over_seeds(subsets: Sequence[np.ndarray], weights: np.ndarray, draws: np.ndarray, random: np.random.Generator) -> Estimate:
    """Seeds drawn besides images: a hierarchical bootstrap over the crossed design, every seed having read every image.

    draws: resampled images' means. Seeds are too few to be resampled (percentiles of three seeds cover in 3 cases of 4), so
    the mean of their effects is drawn from Student's distribution with their own spread. Images that are read one way under one
    seed and another way under the next spread both; that share is taken out of the images' draws, so that it counts once. Seeds
    whose means happen to tie would then leave next to nothing: the interval is never narrower than half of that over images."""
    seeds = subsets[0].shape[0]
    of_seeds = sum(weight * values.mean(1) for values, weight in zip(subsets, weights, strict=True))  # (S,)
    value = float(np.mean(of_seeds))
    effects = of_seeds - value
    between = float(effects @ effects) / (seeds - 1) / seeds
    chosen, twice = 0.0, 0.0  # variance by the choice of images, and that part of it which is in the seeds' spread too
    for values, weight in zip(subsets, weights, strict=True):
        images = values.shape[1]
        chosen += weight**2 * values.mean(0).var() / images
        rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        twice += weight**2 * float((rest**2).sum()) / ((seeds - 1) * max(images - 1, 1)) / images / seeds
    once = max(0.0, 1 - twice / chosen) if chosen else 1.0
    around = draws - draws.mean()
    of_both = around * np.sqrt(once) + random.standard_t(seeds - 1, len(draws)) * np.sqrt(between)
    low, high = (float(np.quantile(of_both, share)) for share in (0.025, 0.975))
    low, high = min(low, float(np.quantile(around, 0.025)) / 2), max(high, float(np.quantile(around, 0.975)) / 2)
    variance = max(around.var() * once, around.var() / 4) + between
    return Estimate(value, value + low, value + high, float(np.sqrt(variance)), SEEDS_TOO, freedom=seeds - 1)


@cache
def _detectable(power: float, freedom: float) -> float:
    """In standard errors: the true value that a two-sided test at 5 % finds with that power (noncentral t)."""
    from scipy import optimize, stats

    if freedom == inf:
        return float(stats.norm.ppf(0.975) + stats.norm.ppf(power))
    bound = stats.t.ppf(0.975, freedom)
    return float(optimize.brentq(lambda true: stats.nct.sf(bound, freedom, true) - power, 0, 10 * bound))


def minimum_detectable_difference(estimate: Estimate, power: float = 0.8) -> float:
    """The true difference that a comparison with this standard error finds (95 % interval without 0) with that power.

    2.8 standard errors for one seed; 5.7 for three, which know their own spread badly."""
    return _detectable(power, estimate.freedom) * estimate.error


def mcnemar_exact(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided exact p-value that two recognisers read a subset's images (n,) equally often (McNemar, 1947): the binomial test
    on the images that one of the two read. It covers test images. 1 where there are none."""
    from scipy.special import bdtr

    won, lost = int((first > second).sum()), int((second > first).sum())
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm, 1979), in their order.

    As statsmodels' `multipletests`, which would collect garbage at every call (0.1 s)."""
    order = np.argsort(p_values)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return corrected.tolist()
