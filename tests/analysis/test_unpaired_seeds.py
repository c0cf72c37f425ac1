"""Differences from a control row, whose seeds are no pairs with those of the other rows."""

import numpy as np
import pytest
from scipy import stats

from analysis.tables.intervals import Estimate, bootstrap
from analysis.tables.power import minimum_detectable_difference, seeds_needed

ONE = np.array([1.0])
WORDS = 2000
FIRST = np.array([0.316, 0.345, 0.316])
CONTROL = np.array([0.276, 0.268, 0.284])


def values_of(means: np.ndarray) -> np.ndarray:
    """Words that all have the mean of their seed: no variance between words."""
    return np.repeat(means[:, None], WORDS, axis=1)


def compare(first: np.ndarray, second: np.ndarray, *, paired_seeds: bool = False) -> Estimate:
    both = (values_of(first), values_of(second))
    (estimate,) = bootstrap(
        [both[0] - both[1]],
        ONE,
        paired=True,
        resamples=4000,
        unpaired_seeds=None if paired_seeds else [both],
    )
    return estimate


def test_the_interval_is_that_of_welchs_test() -> None:
    welch = stats.ttest_ind(FIRST, CONTROL, equal_var=False)
    interval = welch.confidence_interval(0.95)
    estimate = compare(FIRST, CONTROL)
    assert estimate.value == pytest.approx(FIRST.mean() - CONTROL.mean())
    assert estimate.degrees == pytest.approx(welch.df)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), abs=2e-3)


def test_pairing_costs_degrees_of_freedom() -> None:
    unpaired = compare(FIRST, CONTROL)
    paired = compare(FIRST, CONTROL, paired_seeds=True)
    assert unpaired.value == pytest.approx(paired.value)
    assert paired.degrees == 2
    assert unpaired.degrees > 2
    assert unpaired.high - unpaired.low < paired.high - paired.low
    assert minimum_detectable_difference(unpaired) < minimum_detectable_difference(paired)


def test_more_seeds_detect_smaller_differences() -> None:
    estimate = compare(FIRST, CONTROL)
    one = seeds_needed(estimate, 0.01)
    two = seeds_needed(estimate, 0.02)
    assert one is not None
    assert two is not None
    assert 3 < two < one < 200


def test_equal_seeds_leave_the_interval_over_words() -> None:
    equal = np.array([0.3, 0.3, 0.3])
    estimate = compare(equal, equal)
    assert estimate.degrees == 2
    assert estimate.low < 0 < estimate.high


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_rows_differ_in_at_most_5_of_100_cases(shared: float, seeds: int) -> None:
    """Also where the spread of one row is twice that of the other.

    shared: the part of a seed's effect that raises or lowers both rows.
    """
    random = np.random.default_rng(seeds)
    trials = 3000
    false = 0
    for trial in range(trials):
        common = shared * random.normal(0, 0.01, seeds)
        rows = [
            values_of(0.3 + common + (1 - shared) * random.normal(0, spread, seeds))
            for spread in (0.01, 0.02)
        ]
        (estimate,) = bootstrap(
            [rows[0] - rows[1]],
            ONE,
            paired=True,
            seed=trial,
            unpaired_seeds=[(rows[0], rows[1])],
        )
        false += estimate.excludes_zero()
    assert false / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5
