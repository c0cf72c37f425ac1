"""The smallest difference that a comparison detects with a given power."""

from dataclasses import replace
from functools import cache

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
    from scipy import optimize, stats

    if not degrees:
        return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    quantiles = stats.chi2.ppf((np.arange(500) + 0.5) / 500, degrees)
    seed_errors = seed_share * np.sqrt(quantiles / degrees)
    image_error = np.sqrt(1 - seed_share**2)
    angles = np.arctan2(seed_errors, image_error)
    half_widths = np.hypot(image_error, seed_errors) * np.interp(
        angles, *_half_widths(degrees, level)
    )

    def missing_power(difference: float) -> float:
        return float(stats.norm.sf(half_widths - difference).mean()) - power

    return float(optimize.brentq(missing_power, 0, half_widths.max() + 5))


@cache
def _half_widths(degrees: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Angles, and half the width of the interval at each of them for a standard error of 1.

    The angle is 0 if all variance comes from images, and pi / 2 if all comes from seeds.
    """
    from scipy import stats

    angles = np.linspace(0, np.pi / 2, 33)
    of_images = stats.norm.ppf((np.arange(64) + 0.5) / 64)[:, None]
    of_seeds = student_quantiles(RESAMPLES, degrees)
    draws = (np.cos(angle) * of_images + np.sin(angle) * of_seeds for angle in angles)
    return angles, np.array([np.quantile(drawn, (1 + level) / 2) for drawn in draws])


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

    if detectable(MOST_SEEDS) > difference:
        return None
    few, many = 1, MOST_SEEDS  # too few, enough
    while many - few > 1:
        middle = (few + many) // 2
        if detectable(middle) > difference:
            few = middle
        else:
            many = middle
    return many
