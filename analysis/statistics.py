"""Intervals from counts and per-image rows: pure functions of arrays. Each says which variance it covers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Z95 = 1.959964  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def mean_accuracy(correct: ArrayLike, images: ArrayLike) -> Estimate:
    """Arithmetic mean of the subsets' accuracies (Avg), with an interval for the sampling of test images.

    correct, images: counts per subset. The subsets are independent strata; each one's variance is Agresti and Coull's
    (two more hits, two more misses), so that 0 of n does not pass for certain. Training is taken as given: the interval does
    not cover the seed. Raises ValueError if a subset is empty."""
    hits, sizes = np.asarray(correct, float), np.asarray(images, float)
    if not len(sizes) or (sizes < 1).any():
        raise ValueError("every subset needs at least one image")
    share = (hits + 2) / (sizes + 4)
    error = Z95 * np.sqrt((share * (1 - share) / (sizes + 4)).sum()) / len(sizes)
    value = float((hits / sizes).mean())
    return Estimate(value, max(0.0, value - error), min(1.0, value + error))


def pooled_accuracy(correct: Sequence[int], images: Sequence[int]) -> float:
    """Accuracy over all images (W-Avg)."""
    return sum(correct) / sum(images)


def paired_difference(differences: Sequence[np.ndarray]) -> Estimate:
    """Mean over subsets of the mean paired difference, with an interval for the sampling of test images.

    differences: for each subset an array (images,) of correct(a) - correct(b) on the same image. The variance is that of the
    differences, so what both get right or wrong does not count. It does not cover the seed."""
    means = [values.mean() for values in differences]
    variance = sum(values.var(ddof=1) / len(values) if len(values) > 1 else 1.0 for values in differences)
    value, error = float(np.mean(means)), Z95 * float(np.sqrt(variance)) / len(means)
    return Estimate(value, value - error, value + error)


def wilson(correct: int, images: int) -> tuple[float, float]:
    """95 % interval of a share `correct / images`, in [0, 1] (Wilson, 1927). It covers the sampling of images only."""
    share, z = correct / images, Z95**2 / images
    centre, half = share + z / 2, Z95 * np.sqrt(share * (1 - share) / images + z / (4 * images))
    return float((centre - half) / (1 + z)), float((centre + half) / (1 + z))
