"""Intervals and tests over photographs, against brute force, closed forms and independent words."""

from itertools import product

import numpy as np
import pytest

from analysis.tables.clusters import Clusters, design_effect, photo_clusters
from analysis.tables.intervals import Estimate, bootstrap, mean_accuracy, wilson
from analysis.tables.significance import mcnemar_exact

ONE = np.array([1.0])


def _words_of_photos(
    icc: float, photos: int, seed: int, accuracy: float = 0.8
) -> tuple[np.ndarray, Clusters]:
    """(n,) 0 or 1 for words of photographs with 1 to 6 words, and (n,) their photographs.

    icc: correlation of words of a photograph.
    """
    random = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(photos), random.integers(1, 7, photos))
    shares = np.full(photos, accuracy)
    if icc:
        size = (1 - icc) / icc
        shares = random.beta(accuracy * size, (1 - accuracy) * size, photos)
    return (random.random(len(clusters)) < shares[clusters]).astype(float), clusters


def _bootstrap(values: np.ndarray, clusters: Clusters | None, paired: bool = False) -> Estimate:
    """values: (S, n) of one subset."""
    return bootstrap([values], ONE, paired=paired, clusters=[clusters], resamples=4000)[0]


def _drawn_photos(values: np.ndarray, clusters: Clusters, draws: int) -> np.ndarray:
    """(draws,) means of drawn photographs, one photograph after the other."""
    random = np.random.default_rng(1)
    photos = [values[clusters == number] for number in range(clusters.max() + 1)]
    return np.array(
        [
            np.concatenate([photos[k] for k in random.integers(0, len(photos), len(photos))]).mean()
            for _ in range(draws)
        ]
    )


def test_a_word_of_an_unknown_photo_is_a_cluster_of_its_own() -> None:
    clusters = photo_clusters(["a", "", "b", "a", ""])
    assert clusters is not None
    assert clusters.tolist() == [0, 1, 2, 0, 3]


@pytest.mark.parametrize("names", [["a", "b", "c"], ["", "", ""], []])
def test_photos_of_one_word_each_are_no_clusters(names: list[str]) -> None:
    assert photo_clusters(names) is None


def test_the_bootstrap_draws_photographs_as_brute_force_does() -> None:
    values, clusters = _words_of_photos(icc=0.4, photos=200, seed=2)
    ours = _bootstrap(values[None], clusters)
    drawn = _drawn_photos(values, clusters, 2000)
    width = ours.high - ours.low
    assert ours.value == pytest.approx(values.mean())
    assert ours.standard_error == pytest.approx(drawn.std(), rel=0.06)
    assert (ours.low, ours.high) == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]), abs=width / 10
    )


@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("paired", [False, True])
def test_photographs_of_one_word_give_the_interval_of_words(seeds: int, paired: bool) -> None:
    random = np.random.default_rng(seeds)
    values = random.integers(-1 if paired else 0, 2, (seeds, 400)).astype(float)
    of_photos = _bootstrap(values, np.arange(400), paired)
    of_words = _bootstrap(values, None, paired)
    for name, number in vars(of_words).items():
        assert getattr(of_photos, name) == pytest.approx(number), name


@pytest.mark.parametrize("seeds", [1, 3])
def test_photographs_whose_words_agree_widen_the_interval(seeds: int) -> None:
    values, clusters = _words_of_photos(icc=0.5, photos=300, seed=3)
    noise = np.random.default_rng(4).random((seeds, len(values))) < 0.02
    of_seeds = np.abs(values - noise)
    of_photos, of_words = (_bootstrap(of_seeds, photos) for photos in (clusters, None))
    assert of_photos.high - of_photos.low > 1.4 * (of_words.high - of_words.low)
    assert of_photos.value == pytest.approx(of_words.value)


def test_photographs_whose_words_are_copies_are_as_few_words() -> None:
    random = np.random.default_rng(5)
    one_word = (random.random(300) < 0.7).astype(float)
    copies = np.repeat(one_word, 4)
    clusters = np.repeat(np.arange(300), 4)
    effect = design_effect(copies, clusters)
    assert effect == pytest.approx(4, rel=0.01)
    of_copies = wilson(int(copies.sum()), 1200, effect)
    of_words = wilson(int(one_word.sum()), 300)
    assert (of_copies.low, of_copies.high) == pytest.approx((of_words.low, of_words.high), abs=1e-3)
    assert _bootstrap(copies[None], clusters).standard_error == pytest.approx(
        _bootstrap(one_word[None], None).standard_error, rel=0.05
    )


def test_the_design_effect_of_equal_photographs_is_kishs() -> None:
    values, _ = _words_of_photos(icc=0.3, photos=500, seed=6)
    values = values[:1000]
    clusters = np.repeat(np.arange(200), 5)
    within = values.reshape(200, 5)
    between = 5 * within.mean(1).var(ddof=1)  # mean squares of an analysis of variance
    assert design_effect(values, clusters) == pytest.approx(
        max(1.0, between / values.var(ddof=1)), rel=1e-9
    )


@pytest.mark.parametrize("values", [np.ones(6), np.zeros(6)])
def test_equal_words_have_no_design_effect(values: np.ndarray) -> None:
    assert design_effect(values, np.array([0, 0, 1, 1, 2, 2])) == 1


def test_one_photograph_counts_as_one_word() -> None:
    assert design_effect(np.array([0, 1, 1, 1]), np.zeros(4, int)) == 4


def test_an_average_takes_the_design_effect_of_each_subset() -> None:
    narrow = mean_accuracy([80, 90], [100, 100])
    wide = mean_accuracy([80, 90], [100, 100], design_effects=[4, 1])
    assert wide.value == narrow.value
    assert wide.standard_error > 1.3 * narrow.standard_error
    assert mean_accuracy([80], [100], design_effects=[2]) == wilson(80, 100, 2)


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.0, 0.3])
def test_intervals_over_photographs_cover_the_truth(icc: float) -> None:
    covered = np.zeros(3)
    trials = 200
    for trial in range(trials):
        values, clusters = _words_of_photos(icc, photos=150, seed=trial)
        correct = int(values.sum())
        words = len(values)
        estimates = [
            _bootstrap(values[None], clusters),
            wilson(correct, words, design_effect(values, clusters)),
            wilson(correct, words),
        ]
        covered += [estimate.low <= 0.8 <= estimate.high for estimate in estimates]
    assert (covered[:2] / trials > 0.92).all()
    assert (covered[2] / trials < 0.88) == bool(icc)


def _signed_sums(parts: np.ndarray) -> list[int]:
    return [abs(int(np.dot(signs, parts))) for signs in product((-1, 1), repeat=len(parts))]


@pytest.mark.parametrize("seed", range(6))
def test_mcnemars_test_of_photographs_counts_all_exchanges(seed: int) -> None:
    random = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(10), random.integers(1, 6, 10))
    first, second = random.integers(0, 2, (2, len(clusters)))
    parts = np.bincount(clusters, weights=first - second).astype(int)
    sums = _signed_sums(parts)
    expected = np.mean([total >= abs(int(parts.sum())) for total in sums])
    assert mcnemar_exact(first, second, clusters) == pytest.approx(expected)
    assert mcnemar_exact(second, first, clusters) == pytest.approx(expected)


def test_mcnemars_test_of_photographs_of_one_word_is_the_test_of_words() -> None:
    first, second = np.random.default_rng(7).integers(0, 2, (2, 900))
    for words in (10, 100, 900):
        of_photos = mcnemar_exact(first[:words], second[:words], np.arange(words))
        assert of_photos == pytest.approx(mcnemar_exact(first[:words], second[:words]))


def test_mcnemars_test_of_many_photographs_is_the_statistic_of_yang_sun_and_hardin() -> None:
    from scipy import stats

    random = np.random.default_rng(8)
    clusters = np.repeat(np.arange(2000), random.integers(1, 6, 2000))
    first = (random.random(len(clusters)) < 0.62).astype(int)
    second = (random.random(len(clusters)) < 0.6).astype(int)
    parts = np.bincount(clusters, weights=first - second)
    statistic = (abs(parts.sum()) - 1) ** 2 / (parts**2).sum()  # corrected for continuity
    assert mcnemar_exact(first, second, clusters) == pytest.approx(
        stats.chi2.sf(statistic, 1), abs=0.003
    )


def test_copies_of_words_add_no_evidence_to_mcnemars_test() -> None:
    first = np.array([1] * 9 + [0] * 2)
    second = np.array([0] * 9 + [1] * 2)
    copies = np.repeat(first, 5)
    others = np.repeat(second, 5)
    assert mcnemar_exact(copies, others, np.repeat(np.arange(11), 5)) == pytest.approx(
        mcnemar_exact(first, second)
    )
    assert mcnemar_exact(copies, others) < 0.001 < mcnemar_exact(first, second)
