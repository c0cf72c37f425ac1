"""The smallest difference that a comparison detects with a given power."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import ceil, floor

import numpy as np

from analysis.tables.intervals import RESAMPLES, Estimate, student_quantiles


def minimum_detectable_difference(
    estimate: Estimate, power: float = 0.8, level: float = 0.95
) -> float:
    """The true difference whose interval excludes 0 with probability `power`.

    It is 2.8 standard errors for one seed. With few seeds it is larger, because their variance is
    itself estimated: up to 5.6 standard errors for three seeds if all variance is between seeds.
    A result above 1 means that no difference of accuracies would be detected.

    estimate: of the comparison; only its standard errors, its number of seeds and
        its degrees of freedom are used.
    power: the probability.
    level: of the interval.
    """
    error = estimate.standard_error
    seed_share = min(1.0, estimate.seed_error / error) if error else 0.0
    degrees = round(estimate.degrees or estimate.seeds - 1, 1)
    return _in_standard_errors(power, degrees, round(seed_share, 2), level) * error


@cache
def _in_standard_errors(power: float, degrees: float, seed_share: float, level: float) -> float:
    """The detectable difference in units of the standard error.

    degrees: degrees of freedom of the variance between seeds; 0 with one seed.
    seed_share: the standard error due to seeds, as a share of the whole standard error. It is
    estimated from few seeds, so the interval's width varies (chi-squared); the mean is taken over
    this variation.
    """
    from scipy import optimize, special  # scipy.stats, which has the same, is slow to import

    if not degrees:
        return _of_images_only(power, level)
    quantiles = special.chdtri(degrees, 1 - (np.arange(500) + 0.5) / 500)
    seed_errors = seed_share * np.sqrt(quantiles / degrees)
    image_error = np.sqrt(1 - seed_share**2)
    angles = np.arctan2(seed_errors, image_error)
    half_widths = np.hypot(image_error, seed_errors) * np.interp(
        angles, *_half_widths(degrees, level)
    )

    def missing_power(difference: float) -> float:
        return float(special.ndtr(difference - half_widths).mean()) - power

    return float(optimize.brentq(missing_power, 0, half_widths.max() + 5))


def _of_images_only(power: float, level: float) -> float:
    """The detectable difference in standard errors if all variance comes from images."""
    from scipy import special

    return float(special.ndtri((1 + level) / 2) + special.ndtri(power))


@cache
def _half_widths(degrees: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Angles, and half the width of the interval at each of them for a standard error of 1.

    The angle is 0 if all variance comes from images, and pi / 2 if all comes from seeds.
    """
    from scipy import special

    angles = np.linspace(0, np.pi / 2, 33)
    of_images = special.ndtri((np.arange(64) + 0.5) / 64)
    of_seeds = student_quantiles(RESAMPLES, degrees)
    # The position of the interval's upper end among all sums, counted from the largest one.
    position = (len(of_images) * len(of_seeds) - 1) * (1 - level) / 2
    ranks = [floor(position), ceil(position)]
    pairs = _pairs_of_largest_sums(len(of_images), len(of_seeds), ranks[1] + 1)
    half_widths = []
    for angle in angles:
        sums = np.cos(angle) * of_images[pairs[0]] + np.sin(angle) * of_seeds[pairs[1]]
        largest = -np.partition(-sums, ranks)
        half_widths.append(np.interp(position, ranks, largest[ranks]))
    return angles, np.array(half_widths)


@cache
def _pairs_of_largest_sums(first: int, second: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (i, j) of the pairs whose sum can be among the `count` largest.

    They are an eighth of all pairs for a level of 95 %. All other pairs have `count` pairs that are
    at least as large in both parts.

    first, second: the numbers of values, which are sorted, the smallest first.
    """
    larger_or_equal = np.outer(first - np.arange(first), second - np.arange(second))
    pairs = np.nonzero(larger_or_equal <= count)
    return pairs[0], pairs[1]


MOST_SEEDS = 1000


def seeds_needed(
    estimate: Estimate, difference: float, power: float = 0.8, level: float = 0.95
) -> int | None:
    """The number of seeds that detects a true difference; None if no number of seeds does.

    The variance between seeds is taken as measured. More seeds lower its part of the standard
    error; the part due to test images stays.

    estimate: a comparison with at least two seeds.
    difference: in the unit of the estimate.
    power, level: as in `minimum_detectable_difference`.
    """
    variance_of_seeds = estimate.seed_error**2 * estimate.seeds
    variance_of_images = max(0.0, estimate.standard_error**2 - estimate.seed_error**2)

    def detectable(seeds: int) -> float:
        seed_error = (variance_of_seeds / seeds) ** 0.5
        error = (variance_of_images + variance_of_seeds / seeds) ** 0.5
        degrees = estimate.degrees * (seeds - 1) / (estimate.seeds - 1)  # 1 or 2 for each seed
        planned = replace(
            estimate, seeds=seeds, seed_error=seed_error, standard_error=error, degrees=degrees
        )
        return minimum_detectable_difference(planned, power, level)

    # With known variances this many seeds would do; the search starts there, because each try of
    # another number takes milliseconds.
    largest_error = difference / _of_images_only(power, level)
    left_for_seeds = largest_error**2 - variance_of_images
    start = MOST_SEEDS
    if left_for_seeds > 0:
        start = max(2, min(MOST_SEEDS, ceil(variance_of_seeds / left_for_seeds)))
    return _smallest(cache(lambda seeds: detectable(seeds) <= difference), start)


def _smallest(is_enough: Callable[[int], bool], start: int) -> int | None:
    """The smallest number from 2 to MOST_SEEDS that is enough; None if there is none.

    is_enough: false up to some number, true above it.
    start: a number near the result.
    """
    step = 1
    low = start
    while low > 2 and is_enough(low):
        low = max(2, low - step)
        step *= 2
    step = 1
    high = start
    while high < MOST_SEEDS and not is_enough(high):
        high = min(MOST_SEEDS, high + step)
        step *= 2
    found = bisect_left(range(MOST_SEEDS + 1), True, low, high, key=is_enough)
    return found if is_enough(found) else None
