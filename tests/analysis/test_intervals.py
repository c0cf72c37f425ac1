"""Intervals against closed forms and SciPy, and their bounds."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats
from simulated_differences import EQUAL_WEIGHTS, simulate_differences

from analysis.tables.intervals import (
    IMAGES,
    IMAGES_AND_SEEDS,
    Estimate,
    average_weights,
    bootstrap,
    mean_accuracy,
    mean_value,
    pooled_accuracy,
    wilson,
)
from analysis.tables.power import minimum_detectable_difference


def test_wilsons_interval_is_its_closed_form_and_scipys() -> None:
    share = 81 / 100
    z = stats.norm.ppf(0.975)
    center = share + z**2 / 200
    half = z * sqrt(share * (1 - share) / 100 + z**2 / 40000)
    estimate = wilson(81, 100)
    expected = (center - half) / (1 + z**2 / 100), (center + half) / (1 + z**2 / 100)
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    scipys = stats.binomtest(81, 100).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((scipys.low, scipys.high))


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)]
)
def test_wilsons_interval_agrees_with_printed_examples(
    correct: int, images: int, low: float, high: float
) -> None:
    """Newcombe (1998), Table I, method 3."""
    estimate = wilson(correct, images)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_wilsons_interval_of_an_extreme_share_reaches_it_and_is_no_point() -> None:
    assert (wilson(0, 20).low, wilson(20, 20).high) == pytest.approx((0, 1))
    assert wilson(0, 20).high > 0.1


def test_averages_weigh_subsets_equally_or_by_their_images() -> None:
    values = [np.array([[1, 1, 0, 0]]), np.array([[1, 1, 1, 1, 1, 1, 0, 0]])]
    weightings = (average_weights([4, 8], pooled=pooled) for pooled in (False, True))
    average, pooled = bootstrap(values, *weightings, paired=False)
    assert average.value == pytest.approx((0.5 + 0.75) / 2)
    assert pooled.value == pytest.approx(8 / 12) == pooled_accuracy([2, 6], [4, 8])


def test_the_interval_of_one_subset_is_wilsons() -> None:
    assert mean_accuracy([12], [16]) == wilson(12, 16)


def test_the_interval_of_an_average_of_zeros_is_no_point() -> None:
    assert mean_accuracy([0, 0], [10, 10]).high > 0


def test_an_interval_contains_its_value() -> None:
    for images in (1, 16, 400):
        (estimate,) = bootstrap([np.ones((1, images))] * 7, np.full(7, 1 / 7), paired=True)
        assert (estimate.value, estimate.high) == pytest.approx((1, 1))
        assert estimate.low < 1


def test_drawing_counts_gives_the_interval_of_drawing_images() -> None:
    """SciPy's bootstrap draws every image."""
    values = simulate_differences(np.random.default_rng(3), 1, 400, 0)
    (ours,) = bootstrap(values, EQUAL_WEIGHTS, paired=True)

    def mean_of_means(*subsets: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.mean([subset.mean(axis=axis) for subset in subsets], axis=0))

    data = tuple(value[0] for value in values)
    scipys = stats.bootstrap(
        data, mean_of_means, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    )
    assert ours.value == pytest.approx(mean_of_means(*data))
    assert ours.standard_error == pytest.approx(scipys.standard_error, rel=0.04)
    interval = (scipys.confidence_interval.low, scipys.confidence_interval.high)
    assert (ours.low, ours.high) == pytest.approx(interval, abs=0.1 * (ours.high - ours.low))
    exact = sqrt(sum(value.var(ddof=1) / value.size for value in values)) / 3
    assert ours.standard_error == pytest.approx(exact, rel=0.04)


def test_a_bootstrap_of_many_images_is_deterministic() -> None:
    values = simulate_differences(np.random.default_rng(3), 2, 400, 0.1)
    many = [np.tile(value, (1, 1000)) for value in values]
    first = bootstrap(many, EQUAL_WEIGHTS, paired=True)
    assert bootstrap(many, EQUAL_WEIGHTS, paired=True) == first


def test_an_estimate_names_the_variance_that_it_covers() -> None:
    random = np.random.default_rng(0)
    for seeds, covers in ((1, IMAGES), (3, IMAGES_AND_SEEDS)):
        values = simulate_differences(random, seeds, 100, 0.1)
        assert bootstrap(values, EQUAL_WEIGHTS, paired=True)[0].covers == covers
    assert wilson(3, 5).covers == IMAGES
    assert mean_value([1, 2]).covers == "words"


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_no_difference_in_a_few_images_is_no_point(seeds: int) -> None:
    (estimate,) = bootstrap([np.zeros((seeds, 16))] * 3, EQUAL_WEIGHTS, paired=True)
    assert estimate.low < -0.01 < 0.01 < estimate.high
    assert minimum_detectable_difference(estimate) > 0.02


def test_the_interval_over_seeds_of_equal_means_is_no_point() -> None:
    """The two seeds have equal means, but predict other images correctly."""
    values = np.array([[1, 1, 0, 0] * 25, [0, 1, 1, 0] * 25])
    (estimate,) = bootstrap([values], np.ones(1), paired=True)
    assert estimate.high - estimate.low > 0.05
    assert minimum_detectable_difference(estimate) > 0.05


def test_intervals_stay_within_the_range_of_their_values() -> None:
    values = [np.array([[1] * (390 + 4 * seed) + [0] * (10 - 4 * seed) for seed in range(2)])]
    (accuracy,) = bootstrap(values, np.ones(1), paired=False)
    (difference,) = bootstrap(values, np.ones(1), paired=True)
    assert 0 <= accuracy.low < accuracy.high <= 1
    assert -1 <= difference.low < difference.high <= 1


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    random = np.random.default_rng(0)
    hard = random.random(400) < 0.5
    first, second = (
        np.where(hard, 0, random.random(400) < share).astype(int) for share in (0.9, 0.8)
    )
    (paired,) = bootstrap([(first - second)[None]], np.ones(1), paired=True)
    shuffled_values = first - random.permutation(second)
    (shuffled,) = bootstrap([shuffled_values[None]], np.ones(1), paired=True)
    assert paired.high - paired.low < shuffled.high - shuffled.low
    assert paired.value == pytest.approx(shuffled.value)


def test_an_estimate_is_printed_with_its_interval() -> None:
    estimate = Estimate(0.5, 0.25, 0.75, 0.1)
    assert estimate.format(times=100) == "50.0 (25.0 to 75.0)"
    assert estimate.format(digits=2, sign="+") == "+0.50 (+0.25 to +0.75)"


@pytest.mark.parametrize(
    "subsets", [[np.zeros((1, 0))], [np.zeros((1, 3)), np.zeros((2, 3))]], ids=["images", "seeds"]
)
def test_a_bootstrap_refuses_empty_subsets_and_unequal_seeds(subsets: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        bootstrap(subsets, np.ones(len(subsets)), paired=True)


def test_a_bootstrap_refuses_values_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="every image needs a value"):
        bootstrap([np.array([[1, np.nan]])], np.ones(1), paired=True)


@pytest.mark.parametrize(("correct", "images"), [(0, 0), (5, 3), (-1, 3)])
def test_wilsons_interval_refuses_impossible_counts(correct: int, images: int) -> None:
    with pytest.raises(ValueError, match=f"{correct} correct of {images} images"):
        wilson(correct, images)


def test_an_average_refuses_an_empty_subset() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        mean_accuracy([0], [0])
