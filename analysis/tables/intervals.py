"""Intervals, tests and power from counts and per-image rows: pure functions of arrays. Each says which variance it covers.

Shapes: S seeds, K subsets, n images of a subset. Values are 0 or 1 (was the image read?) or differences of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

IMAGES, SEEDS_TOO = "test images", "test images and seeds"
RESAMPLES = 1_000
Z95 = 1.959964  # of the normal distribution, two-sided


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, its standard error, and the variance that these cover: `test images`, or seeds too."""

    value: float
    low: float
    high: float
    error: float
    covers: str = IMAGES
    seeds: int = 1
    of_seeds: float = (
        0.0  # the part of `error` that comes from the seeds' spread; parts add as squares
    )

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def told(self, digits: int = 1, sign: str = "", times: float = 1.0) -> str:
        """Value and interval as text; `times` 100 is percent of a share."""
        value, low, high = (
            f"{times * one:{sign}.{digits}f}" for one in (self.value, self.low, self.high)
        )
        return f"{value} ({low} to {high})"


def percent(estimate: Estimate) -> dict[str, float | str]:
    """An estimate in percent, as a table's content has it."""
    values = {
        "accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "error": estimate.error,
    }
    return {
        **{name: round(100 * value, 4) for name, value in values.items()},
        "covers": estimate.covers,
    }


def wilson(correct: int, images: int) -> Estimate:
    """The share `correct / images` with its interval (Wilson, 1927), in [0, 1]. It covers test images.

    Raises ValueError unless 0 <= correct <= images and there are images."""
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= correct <= images or not images:
        raise ValueError(f"{correct} correct of {images} images is no share")
    low, high = proportion_confint(correct, images, method="wilson")
    share = correct / images
    return Estimate(share, float(low), float(high), float(np.sqrt(share * (1 - share) / images)))


def mean_accuracy(
    correct: ArrayLike, images: ArrayLike, weights: ArrayLike | None = None
) -> Estimate:
    """Weighted mean of the subsets' accuracies of one recognizer, from counts (K,) per subset; without weights Avg.

    The subsets are independent strata; each one's variance is that of Agresti and Coull's share (two more hits, two more
    misses), so that 0 of n does not pass for certain; of one subset the interval is Wilson's. It covers test images.
    Raises ValueError if a subset is empty."""
    hits, sizes = np.asarray(correct, float), np.asarray(images, float)
    if not len(sizes) or (sizes < 1).any():
        raise ValueError("every subset needs at least one image")
    if len(sizes) == 1:
        return wilson(int(hits[0]), int(sizes[0]))
    share = (hits + 2) / (sizes + 4)
    parts = average_weights(sizes, pooled=False) if weights is None else np.asarray(weights, float)
    error = float(np.sqrt((parts**2 * share * (1 - share) / sizes).sum()))
    value, half = float(parts @ (hits / sizes)), Z95 * error
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), error)


def mean_value(values: ArrayLike, covers: str = "words") -> Estimate:
    """Mean of one value for each word (n,), with its normal interval. It covers the choice of words, of one model.

    Raises ValueError if there are none."""
    found = np.asarray(values, float)
    if not len(found):
        raise ValueError("there is nothing to average")
    value = float(found.mean())
    error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else float("nan")
    return Estimate(value, value - Z95 * error, value + Z95 * error, error, covers)


def pooled_accuracy(correct: Sequence[int], images: Sequence[int]) -> float:
    """Accuracy over all images (W-Avg)."""
    return sum(correct) / sum(images)


def average_weights(images: ArrayLike, *, pooled: bool) -> np.ndarray:
    """Weight of each subset (K,) in Avg, or in W-Avg where `pooled`. images: (K,) of each subset."""
    sizes = np.asarray(images, float)
    return sizes / sizes.sum() if pooled else np.full(len(sizes), 1 / len(sizes))


def bootstrap(
    subsets: Sequence[np.ndarray],
    *weightings: np.ndarray,
    paired: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """Weighted means of subset means, one for each weighting, with intervals by resampling stratified by subset.

    subsets: for each subset the values (S, n) of the same n images under S seeds; `paired`: differences of two recognizers'.
    weightings: (K,) each, of sum 1. One seed: percentiles over resampled images. Several: `_over_seeds`. To draw images with
    replacement is to draw how often each of their values occurs, which takes no longer for 400,000 images than for 400. A few
    made-up images widen the draws, and do not move them, so that no difference in 16 images does not pass for certain: half a
    one in each cell of a pair's table (Agresti and Min, 2005), two right and two wrong ones for accuracies (Agresti and Coull,
    1998). Raises ValueError if a subset is empty, numbers of seeds differ or a value is not finite."""
    if len({values.shape[0] for values in subsets}) != 1 or not all(
        values.size for values in subsets
    ):
        raise ValueError("every subset needs at least one image, and all of them the same seeds")
    of_seeds = np.array([values.mean(1) for values in subsets])  # (K, S)
    if not np.isfinite(of_seeds).all():
        raise ValueError("every image needs a value")
    random = np.random.default_rng(seed)
    made_up, each = ([-1, 0, 0, 1], 0.5) if paired else ([0, 0, 1, 1], 1.0)
    drawn = np.empty((len(subsets), resamples))  # resampled means, around their expectation
    for number, values in enumerate(subsets):
        images = values.shape[1]
        means, place = np.unique(np.append(values.mean(0), made_up), return_inverse=True)
        share = np.bincount(place, weights=np.append(np.ones(images), [each] * 4)) / (
            images + 4 * each
        )
        drawn[number] = (
            random.multinomial(images, share, size=resamples) @ means / images - share @ means
        )
    chosen, twice = np.array([_variances(values) for values in subsets]).T
    estimates = []
    for weights in weightings:
        around, seeds = weights @ drawn, weights @ of_seeds
        if len(seeds) > 1:
            estimate = _over_seeds(
                seeds, around, float(weights**2 @ chosen), float(weights**2 @ twice), random
            )
        else:
            low, high = np.quantile(around, (0.025, 0.975))
            estimate = Estimate(float(seeds[0]), float(low), float(high), float(around.std()))
        least = -1.0 if paired else 0.0
        low, high = (
            max(least, estimate.value + estimate.low),
            min(1.0, estimate.value + estimate.high),
        )
        estimates.append(replace(estimate, low=low, high=high))
    return estimates


def _variances(values: np.ndarray) -> tuple[float, float]:
    """Of a subset's mean (S, n): by the choice of images, and that part of it which is in the seeds' spread too."""
    seeds, images = values.shape
    if seeds == 1:
        return 0.0, 0.0
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    twice = float((rest**2).sum()) / ((seeds - 1) * max(images - 1, 1)) / images / seeds
    return float(values.mean(0).var()) / images, twice


def _over_seeds(
    of_seeds: np.ndarray,
    around: np.ndarray,
    chosen: float,
    twice: float,
    random: np.random.Generator,
) -> Estimate:
    """Seeds drawn besides images: a hierarchical bootstrap over the crossed design, every seed having read every image.

    of_seeds: (S,) each seed's mean. around: resampled images' means around their expectation. The interval is around 0.
    Seeds are too few to be resampled (percentiles of three seeds cover in 3 cases of 4), so the mean of their effects is drawn
    from Student's distribution with their own spread. Images that are read one way under one seed and another way under the
    next spread both; that share (`twice` of `chosen`) is taken out of the images' draws, so that it counts once. Seeds whose
    means happen to tie would then leave next to nothing: the interval is never narrower than half of that over images."""
    seeds = len(of_seeds)
    between = float(of_seeds.var(ddof=1)) / seeds
    once = max(0.0, 1 - twice / chosen) if chosen else 1.0
    of_both = around * np.sqrt(once) + random.permutation(
        _student(len(around), seeds - 1)
    ) * np.sqrt(between)
    quantiles = np.quantile(of_both, (0.025, 0.975)), np.quantile(around, (0.025, 0.975)) / 2
    low, high = float(min(pair[0] for pair in quantiles)), float(max(pair[1] for pair in quantiles))
    variance = max(around.var() * once, around.var() / 4) + between
    return Estimate(
        float(of_seeds.mean()),
        low,
        high,
        float(np.sqrt(variance)),
        SEEDS_TOO,
        seeds,
        float(np.sqrt(between)),
    )


@cache
def _student(points: int, freedom: int) -> np.ndarray:
    """Evenly spaced quantiles of Student's distribution: a sample of it without its noise."""
    from scipy import stats

    return stats.t.ppf((np.arange(points) + 0.5) / points, freedom)


@cache
def _half_widths(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles from 0 (error by images alone) to a right one (by seeds alone), and half of the interval at each, of error 1."""
    from scipy import stats

    angles = np.linspace(0, np.pi / 2, 33)
    images = stats.norm.ppf((np.arange(64) + 0.5) / 64)[:, None]
    drawn = (
        np.cos(angle) * images + np.sin(angle) * _student(RESAMPLES, seeds - 1) for angle in angles
    )
    return angles, np.array([np.quantile(both, 0.975) for both in drawn])


@cache
def _detectable(power: float, seeds: int, share: float) -> float:
    """In standard errors: the true value whose interval excludes 0 with that power, `share` of the error being the seeds'.

    The seeds' spread is known from a few seeds only, so the interval's width varies (chi squared); it is averaged over."""
    from scipy import optimize, stats

    if seeds == 1:
        return float(stats.norm.ppf(0.975) + stats.norm.ppf(power))
    spreads = share * np.sqrt(stats.chi2.ppf((np.arange(500) + 0.5) / 500, seeds - 1) / (seeds - 1))
    of_images = np.sqrt(1 - share**2)
    halves = np.hypot(of_images, spreads) * np.interp(
        np.arctan2(spreads, of_images), *_half_widths(seeds)
    )
    return float(
        optimize.brentq(
            lambda true: stats.norm.sf(halves - true).mean() - power, 0, halves.max() + 5
        )
    )


def minimum_detectable_difference(estimate: Estimate, power: float = 0.8) -> float:
    """The true difference that a comparison with this standard error finds (95 % interval without 0) with that power.

    2.8 standard errors for one seed; up to 5.9 for three, who know their own spread badly, where that spread is all there is.
    Above 1 where no difference of accuracies would be found."""
    share = min(1.0, estimate.of_seeds / estimate.error) if estimate.error else 0.0
    return _detectable(power, estimate.seeds, round(share, 2)) * estimate.error


def mcnemar_exact(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided exact p-value that two recognizers read a subset's images (n,) equally often (McNemar, 1947): the binomial test
    on the images that one of the two read. It covers test images. 1 where there are none.

    Raises ValueError if the two are not of the same images."""
    from scipy.special import bdtr

    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} images cannot be paired")
    won, lost = int((first > second).sum()), int((second > first).sum())
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm, 1979), in their order.

    As statsmodels' `multipletests`, which would collect garbage at every call (0.1 s)."""
    order = np.argsort(p_values)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(
        np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    ).clip(max=1)
    return corrected.tolist()
