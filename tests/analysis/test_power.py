"""The minimum detectable difference against closed forms and simulation."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats
from simulated_differences import EQUAL_WEIGHTS, simulate_differences, true_difference

from analysis.tables.intervals import IMAGES_AND_SEEDS, Estimate, bootstrap
from analysis.tables.power import minimum_detectable_difference


def unit_estimate(seeds: int, seed_error: float) -> Estimate:
    """An estimate of 0 with a standard error of 1."""
    return Estimate(0, 0, 0, 1, IMAGES_AND_SEEDS, seeds, seed_error)


def test_one_seed_detects_2_8_standard_errors() -> None:
    detectable = minimum_detectable_difference(Estimate(0, 0, 0, 1))
    assert detectable == pytest.approx(1.959964 + 0.841621, rel=1e-5)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_if_all_variance_is_between_seeds_power_is_that_of_the_t_test(seeds: int) -> None:
    detectable = minimum_detectable_difference(unit_estimate(seeds, 1))
    bound = stats.t.ppf(0.975, seeds - 1)
    assert stats.nct.sf(bound, seeds - 1, detectable) == pytest.approx(0.8, abs=0.012)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_if_no_variance_is_between_seeds_their_number_does_not_matter(seeds: int) -> None:
    assert minimum_detectable_difference(unit_estimate(seeds, 0)) == pytest.approx(2.8, rel=0.02)


@pytest.mark.parametrize(("seeds", "share"), [(2, 0.9), (3, 0.5), (5, 0.7)])
def test_the_detectable_difference_has_80_percent_power_if_errors_are_known(
    seeds: int, share: float
) -> None:
    """Errors have their true sizes; the interval uses what one experiment measures of them."""
    random = np.random.default_rng(0)
    image_error = sqrt(1 - share**2)
    true = minimum_detectable_difference(unit_estimate(seeds, share))
    quantiles = (np.arange(2000) + 0.5) / 2000
    normal = random.permutation(stats.norm.ppf(quantiles))
    student = stats.t.ppf(quantiles, seeds - 1)
    detected = []
    for _ in range(2000):
        effects = random.normal(true, share * sqrt(seeds), seeds)
        estimate = effects.mean() + random.normal(0, image_error)
        spread = effects.std(ddof=1) / sqrt(seeds)
        half_width = np.quantile(image_error * normal + spread * student, 0.975)
        detected.append(estimate > half_width)
    assert np.mean(detected) == pytest.approx(0.8, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "between", "advantage"),
    [(1, 0.0, 0.45), (3, 0.3, 1.55), (3, 0.05, 0.6), (5, 0.3, 0.72)],
)
def test_simulated_differences_of_that_size_are_detected_in_80_of_100_cases(
    seeds: int, between: float, advantage: float
) -> None:
    """The advantages make the true difference about the detectable one, which is tested too."""
    random = np.random.default_rng(1)
    cases = [
        simulate_differences(random, seeds, 200, between, advantage=advantage) for _ in range(600)
    ]
    estimates = [bootstrap(case, EQUAL_WEIGHTS, paired=True, resamples=1000)[0] for case in cases]
    error = float(np.std([estimate.value for estimate in estimates]))  # over experiments
    squared_errors = [estimate.standard_error**2 for estimate in estimates]
    assert np.mean(squared_errors) == pytest.approx(error**2, rel=0.25)
    seed_error = float(np.sqrt(np.mean([estimate.seed_error**2 for estimate in estimates])))
    measured = Estimate(0, 0, 0, error, IMAGES_AND_SEEDS, seeds, min(seed_error, error))
    detectable = minimum_detectable_difference(measured)
    assert true_difference(between, advantage) == pytest.approx(detectable, rel=0.1)
    assert np.mean([estimate.low > 0 for estimate in estimates]) == pytest.approx(0.8, abs=0.08)
