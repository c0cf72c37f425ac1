"""Intervals, tests and power against closed forms, SciPy and simulation."""

from math import comb, sqrt

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from analysis.tables.intervals import (
    IMAGES,
    SEEDS_TOO,
    Estimate,
    average_weights,
    bootstrap,
    holm,
    mcnemar_exact,
    mean_accuracy,
    minimum_detectable_difference,
    pooled_accuracy,
    wilson,
)

EVEN = average_weights([1, 1, 1], pooled=False)


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def simulated(
    random: np.random.Generator,
    seeds: int,
    images: int,
    between: float,
    subsets: int = 3,
    advantage: float = 0.3,
) -> list[np.ndarray]:
    """Paired differences (S, n) of two recognizers: images of any difficulty, seeds that move a whole recognizer by `between`
    (logits), and chance in every reading."""
    found = []
    first, second = random.normal(0, between, (2, seeds, 1))
    for _ in range(subsets):
        hard = random.normal(0, 2, images)
        chance = random.normal(0, 0.5, (2, seeds, images))
        shares = sigmoid(hard + first + advantage + chance[0]), sigmoid(hard + second + chance[1])
        found.append(
            (random.random((seeds, images)) < shares[0]).astype(int)
            - (random.random((seeds, images)) < shares[1])
        )
    return found


def true_difference(between: float, advantage: float = 0.3) -> float:
    random = np.random.default_rng(99)
    hard, first, second = random.normal(0, 2, 10**6), *random.normal(0, between, (2, 10**6))
    chance = random.normal(0, 0.5, (2, 10**6))
    return float(
        (sigmoid(hard + first + advantage + chance[0]) - sigmoid(hard + second + chance[1])).mean()
    )


def test_wilsons_interval_is_its_closed_form_and_scipys() -> None:
    share, z = 81 / 100, stats.norm.ppf(0.975)
    center, half = share + z**2 / 200, z * sqrt(share * (1 - share) / 100 + z**2 / 40000)
    estimate = wilson(81, 100)
    assert (estimate.low, estimate.high) == pytest.approx(
        ((center - half) / (1 + z**2 / 100), (center + half) / (1 + z**2 / 100))
    )
    theirs = stats.binomtest(81, 100).proportion_ci(method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((theirs.low, theirs.high))
    assert (wilson(0, 20).low, wilson(20, 20).high) == pytest.approx((0, 1))
    assert wilson(0, 20).high > 0.1


def test_mcnemar_is_the_binomial_test_on_images_that_one_of_two_reads() -> None:
    first = np.array([1] * 50 + [1] * 9 + [0] * 2 + [0] * 30)
    second = np.array([1] * 50 + [0] * 9 + [1] * 2 + [0] * 30)
    expected = 2 * sum(comb(11, k) for k in range(3)) / 2**11
    assert mcnemar_exact(first, second) == pytest.approx(expected)
    assert mcnemar_exact(second, first) == pytest.approx(expected)
    theirs = mcnemar([[50, 9], [2, 30]], exact=True).pvalue
    assert mcnemar_exact(first, second) == pytest.approx(theirs)
    assert mcnemar_exact(
        np.array([1] * 90_000 + [0] * 91_000), np.array([0] * 90_000 + [1] * 91_000)
    ) == pytest.approx(stats.binomtest(90_000, 181_000).pvalue)
    assert mcnemar_exact(first, first) == 1
    assert mcnemar_exact(np.array([1, 0]), np.array([0, 1])) == 1


def test_mcnemar_finds_a_difference_that_is_not_there_in_at_most_one_case_of_twenty() -> None:
    random = np.random.default_rng(0)
    found = [
        mcnemar_exact(*(random.random((2, 200)) < 0.7).astype(int)) < 0.05 for _ in range(1000)
    ]
    assert np.mean(found) <= 0.06


def test_holms_correction_is_its_closed_form() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    p_values = np.random.default_rng(0).random(7) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_averages_weigh_subsets_evenly_or_by_their_images() -> None:
    values = [np.array([[1, 1, 0, 0]]), np.array([[1, 1, 1, 1, 1, 1, 0, 0]])]
    weightings = (average_weights([4, 8], pooled=kind) for kind in (False, True))
    even, pooled = (estimate.value for estimate in bootstrap(values, *weightings, paired=False))
    assert even == pytest.approx((0.5 + 0.75) / 2)
    assert pooled == pytest.approx(8 / 12) == pooled_accuracy([2, 6], [4, 8])


def test_the_averages_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    shares, images = np.array([0.9, 0.5, 0.2]), np.array([300, 80, 150])
    estimates = [mean_accuracy(random.binomial(images, shares), images) for _ in range(2000)]
    covered = np.mean([one.low <= shares.mean() <= one.high for one in estimates])
    assert 0.93 <= covered <= 0.97
    assert mean_accuracy([0, 0], [10, 10]).high > 0
    with pytest.raises(ValueError, match="at least one image"):
        mean_accuracy([0], [0])


@pytest.mark.parametrize(
    ("images", "shares"),
    [(16, (0.9, 0.2)), (16, (0.9, 0.5)), (100, (0.9, 0.2)), (50, (0.98, 0.95))],
)
def test_intervals_of_large_differences_cover_the_truth_too(
    images: int, shares: tuple[float, float]
) -> None:
    random, covered = np.random.default_rng(0), []
    for trial in range(600):
        read = (random.random((2, 7, 1, images)) < np.array(shares)[:, None, None, None]).astype(
            int
        )
        estimate = bootstrap(
            list(read[0] - read[1]), np.full(7, 1 / 7), paired=True, resamples=1000, seed=trial
        )[0]
        covered.append(estimate.low <= shares[0] - shares[1] <= estimate.high)
    assert 0.93 <= np.mean(covered) <= 0.985  # a few images are made up, to the safe side


def test_an_interval_holds_its_value() -> None:
    for images in (1, 16, 400):
        estimate = bootstrap([np.ones((1, images))] * 7, np.full(7, 1 / 7), paired=True)[0]
        assert (estimate.value, estimate.high) == pytest.approx((1, 1))
        assert estimate.low < 1


def test_one_subset_has_one_interval() -> None:
    assert mean_accuracy([12], [16]) == wilson(12, 16)


def test_drawing_counts_is_drawing_images() -> None:
    """The same interval as SciPy's bootstrap, which draws every image."""
    values = simulated(np.random.default_rng(3), 1, 400, 0)
    ours = bootstrap(values, EVEN, paired=True)[0]

    def mean_of_means(*subsets: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([subset.mean(axis=axis) for subset in subsets], axis=0)

    data = tuple(value[0] for value in values)
    theirs = stats.bootstrap(
        data, mean_of_means, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    )
    assert ours.value == pytest.approx(mean_of_means(*data))
    assert ours.error == pytest.approx(theirs.standard_error, rel=0.04)
    interval = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert (ours.low, ours.high) == pytest.approx(interval, abs=0.1 * (ours.high - ours.low))
    exact = sqrt(sum(value.var(ddof=1) / value.size for value in values)) / 3
    assert ours.error == pytest.approx(exact, rel=0.04)


def test_a_bootstrap_is_the_same_again_and_takes_as_long_for_many_images() -> None:
    many = [np.tile(value, (1, 1000)) for value in simulated(np.random.default_rng(3), 2, 400, 0.1)]
    assert bootstrap(many, EVEN, paired=True) == bootstrap(many, EVEN, paired=True)


@pytest.mark.parametrize(
    ("seeds", "images", "between"),
    [(1, 60, 0.0), (1, 400, 0.0), (2, 150, 0.2), (3, 150, 0.0), (3, 150, 0.2), (5, 100, 0.2)],
)
def test_paired_intervals_cover_the_truth_as_often_as_they_say(
    seeds: int, images: int, between: float
) -> None:
    random, truth = np.random.default_rng(seeds), true_difference(between)
    covered = []
    for trial in range(1500):
        estimate = bootstrap(
            simulated(random, seeds, images, between), EVEN, paired=True, resamples=1000, seed=trial
        )[0]
        covered.append(estimate.low <= truth <= estimate.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_an_interval_over_images_alone_misses_the_variance_between_seeds() -> None:
    """What the hierarchical bootstrap is for: seeds that differ, taken for images, cover far too seldom."""
    random, truth = np.random.default_rng(0), true_difference(0.5)
    covered = []
    for trial in range(300):
        averaged = [values.mean(0, keepdims=True) for values in simulated(random, 3, 150, 0.5)]
        estimate = bootstrap(averaged, EVEN, paired=True, resamples=1000, seed=trial)[0]
        covered.append(estimate.low <= truth <= estimate.high)
    assert np.mean(covered) < 0.7


def test_percentiles_of_resampled_seeds_are_too_narrow() -> None:
    """Why the seeds' part of the interval is Student's."""
    random, truth, covered = np.random.default_rng(0), true_difference(0.5), []
    for _ in range(400):
        of_seeds = np.mean([values.mean(1) for values in simulated(random, 3, 150, 0.5)], axis=0)
        low, high = np.quantile(random.choice(of_seeds, (1000, 3)).mean(1), (0.025, 0.975))
        covered.append(low <= truth <= high)
    assert np.mean(covered) < 0.85


def test_an_estimate_says_which_variance_it_covers() -> None:
    random = np.random.default_rng(0)
    one, several = (
        bootstrap(simulated(random, seeds, 100, 0.1), EVEN, paired=True)[0] for seeds in (1, 3)
    )
    assert (one.covers, several.covers) == (IMAGES, SEEDS_TOO)
    assert wilson(3, 5).covers == IMAGES


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_difference_in_a_few_images_does_not_pass_for_certain(seeds: int) -> None:
    estimate = bootstrap([np.zeros((seeds, 16))] * 3, EVEN, paired=True)[0]
    assert estimate.low < -0.01 < 0.01 < estimate.high
    assert minimum_detectable_difference(estimate) > 0.02


def test_seeds_that_happen_to_tie_do_not_pass_for_certain() -> None:
    """Two seeds of equal means that read other images: the interval is no point."""
    values = np.array([[1, 1, 0, 0] * 25, [0, 1, 1, 0] * 25])
    estimate = bootstrap([values], np.ones(1), paired=True)[0]
    assert estimate.high - estimate.low > 0.05
    assert minimum_detectable_difference(estimate) > 0.05


def test_intervals_of_accuracies_stay_between_0_and_1() -> None:
    values = [np.array([[1] * (390 + 4 * seed) + [0] * (10 - 4 * seed) for seed in range(2)])]
    single, difference = (bootstrap(values, np.ones(1), paired=kind)[0] for kind in (False, True))
    assert 0 <= single.low < single.high <= 1
    assert -1 <= difference.low < difference.high <= 1


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    random = np.random.default_rng(0)
    hard = random.random(400) < 0.5
    first, second = (
        np.where(hard, 0, random.random(400) < share).astype(int) for share in (0.9, 0.8)
    )
    paired = bootstrap([(first - second)[None]], np.ones(1), paired=True)[0]
    shuffled = bootstrap([(first - random.permutation(second))[None]], np.ones(1), paired=True)[0]
    assert paired.high - paired.low < shuffled.high - shuffled.low
    assert paired.value == pytest.approx(shuffled.value)


def test_the_minimum_detectable_difference_is_2_8_standard_errors_and_more_with_few_seeds() -> None:
    assert minimum_detectable_difference(Estimate(0, 0, 0, 1)) == pytest.approx(
        1.959964 + 0.841621, rel=1e-5
    )
    for seeds in (2, 3, 5):
        alone = minimum_detectable_difference(Estimate(0, 0, 0, 1, SEEDS_TOO, seeds, of_seeds=1))
        bound = stats.t.ppf(0.975, seeds - 1)
        assert stats.nct.sf(bound, seeds - 1, alone) == pytest.approx(0.8, abs=0.012)
        none = minimum_detectable_difference(Estimate(0, 0, 0, 1, SEEDS_TOO, seeds, of_seeds=0))
        assert none == pytest.approx(2.8, rel=0.02)


@pytest.mark.parametrize(("seeds", "share"), [(2, 0.9), (3, 0.5), (5, 0.7)])
def test_the_detectable_difference_is_that_of_the_interval_in_use(seeds: int, share: float) -> None:
    """Errors by images and by seeds drawn with their true sizes, the interval made of what one experiment knows of them."""
    random, images = np.random.default_rng(0), sqrt(1 - share**2)
    true = minimum_detectable_difference(Estimate(0, 0, 0, 1, SEEDS_TOO, seeds, of_seeds=share))
    places = (np.arange(2000) + 0.5) / 2000
    normal, student = random.permutation(stats.norm.ppf(places)), stats.t.ppf(places, seeds - 1)
    found = []
    for _ in range(2000):
        effects = random.normal(true, share * sqrt(seeds), seeds)
        estimate, spread = (
            effects.mean() + random.normal(0, images),
            effects.std(ddof=1) / sqrt(seeds),
        )
        found.append(estimate > np.quantile(images * normal + spread * student, 0.975))
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("seeds", "between", "advantage"),
    [(1, 0.0, 0.45), (3, 0.3, 1.55), (3, 0.05, 0.6), (5, 0.3, 0.72)],
)
def test_a_difference_as_large_as_the_detectable_one_is_found_in_80_of_100_cases(
    seeds: int, between: float, advantage: float
) -> None:
    """The advantages are chosen so that the true difference is about the detectable one, which is tested as well."""
    random = np.random.default_rng(1)
    cases = [simulated(random, seeds, 200, between, advantage=advantage) for _ in range(600)]
    estimates = [bootstrap(case, EVEN, paired=True, resamples=1000)[0] for case in cases]
    error = float(np.std([estimate.value for estimate in estimates]))  # over repeated experiments
    assert np.mean([estimate.error**2 for estimate in estimates]) == pytest.approx(
        error**2, rel=0.25
    )
    of_seeds = float(np.sqrt(np.mean([estimate.of_seeds**2 for estimate in estimates])))
    detectable = minimum_detectable_difference(
        Estimate(0, 0, 0, error, SEEDS_TOO, seeds, min(of_seeds, error))
    )
    assert true_difference(between, advantage) == pytest.approx(detectable, rel=0.1)
    assert np.mean([estimate.low > 0 for estimate in estimates]) == pytest.approx(0.8, abs=0.08)


def test_what_cannot_be_counted_is_refused() -> None:
    for subsets in ([np.zeros((1, 0))], [np.zeros((1, 3)), np.zeros((2, 3))]):
        with pytest.raises(ValueError, match="at least one image, and all of them the same seeds"):
            bootstrap(subsets, np.ones(len(subsets)), paired=True)
    with pytest.raises(ValueError, match="every image needs a value"):
        bootstrap([np.array([[1, np.nan]])], np.ones(1), paired=True)
    for correct, images in ((0, 0), (5, 3), (-1, 3)):
        with pytest.raises(ValueError, match=f"{correct} correct of {images} images is no share"):
            wilson(correct, images)
    with pytest.raises(ValueError, match="3 and 1 images cannot be paired"):
        mcnemar_exact(np.zeros(3), np.ones(1))
