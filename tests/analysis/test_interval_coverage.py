"""How often intervals contain the true value: simulations of accuracies and of differences.

`analysis/README.md` has the measured coverages as a table.
"""

import numpy as np
import pytest
from simulated_differences import EQUAL_WEIGHTS, simulate_differences, true_difference

from analysis.tables.intervals import Estimate, bootstrap, mean_accuracy

pytestmark = pytest.mark.slow


def contains(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_the_interval_of_an_average_contains_the_truth_in_95_of_100_cases() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.9, 0.5, 0.2])
    images = np.array([300, 80, 150])
    estimates = [mean_accuracy(random.binomial(images, shares), images) for _ in range(2000)]
    coverage = np.mean([contains(estimate, float(shares.mean())) for estimate in estimates])
    assert 0.93 <= coverage <= 0.97


@pytest.mark.parametrize(
    ("images", "shares"),
    [(16, (0.9, 0.2)), (16, (0.9, 0.5)), (100, (0.9, 0.2)), (50, (0.98, 0.95))],
)
def test_intervals_of_large_differences_cover_at_least_as_often(
    images: int, shares: tuple[float, float]
) -> None:
    """The pseudo-observations make the intervals of few images wider."""
    random = np.random.default_rng(0)
    covered = []
    for trial in range(600):
        drawn = random.random((2, 7, 1, images)) < np.array(shares)[:, None, None, None]
        correct = drawn.astype(int)
        values = list(correct[0] - correct[1])
        (estimate,) = bootstrap(values, np.full(7, 1 / 7), paired=True, resamples=1000, seed=trial)
        covered.append(contains(estimate, shares[0] - shares[1]))
    assert 0.93 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize(
    ("seeds", "images", "between"),
    [(1, 60, 0.0), (1, 400, 0.0), (2, 150, 0.2), (3, 150, 0.0), (3, 150, 0.2), (5, 100, 0.2)],
)
def test_paired_intervals_contain_the_truth_in_95_of_100_cases(
    seeds: int, images: int, between: float
) -> None:
    random = np.random.default_rng(seeds)
    truth = true_difference(between)
    covered = []
    for trial in range(1500):
        values = simulate_differences(random, seeds, images, between)
        (estimate,) = bootstrap(values, EQUAL_WEIGHTS, paired=True, resamples=1000, seed=trial)
        covered.append(contains(estimate, truth))
    assert 0.93 <= np.mean(covered) <= 0.97


def test_an_interval_over_images_only_misses_the_variance_between_seeds() -> None:
    """The reason for the hierarchical bootstrap: seeds are averaged here as if they were images."""
    random = np.random.default_rng(0)
    truth = true_difference(0.5)
    covered = []
    for trial in range(300):
        values = simulate_differences(random, 3, 150, 0.5)
        averaged = [subset.mean(0, keepdims=True) for subset in values]
        (estimate,) = bootstrap(averaged, EQUAL_WEIGHTS, paired=True, resamples=1000, seed=trial)
        covered.append(contains(estimate, truth))
    assert np.mean(covered) < 0.7


def test_percentiles_of_resampled_seeds_are_too_narrow() -> None:
    """The reason for Student's t distribution in the seeds' part of the interval."""
    random = np.random.default_rng(0)
    truth = true_difference(0.5)
    covered = []
    for _ in range(400):
        values = simulate_differences(random, 3, 150, 0.5)
        seed_means = np.mean([subset.mean(1) for subset in values], axis=0)
        resampled = random.choice(seed_means, (1000, 3)).mean(1)
        low, high = np.quantile(resampled, (0.025, 0.975))
        covered.append(low <= truth <= high)
    assert np.mean(covered) < 0.85
