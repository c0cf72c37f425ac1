"""McNemar's test and Holm's correction against closed forms, SciPy and statsmodels."""

from math import comb

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from analysis.tables.significance import holm, mcnemar_exact


def test_mcnemar_is_the_binomial_test_on_images_correct_under_one_of_two() -> None:
    first = np.array([1] * 50 + [1] * 9 + [0] * 2 + [0] * 30)
    second = np.array([1] * 50 + [0] * 9 + [1] * 2 + [0] * 30)
    expected = 2 * sum(comb(11, k) for k in range(3)) / 2**11
    assert mcnemar_exact(first, second) == pytest.approx(expected)
    assert mcnemar_exact(second, first) == pytest.approx(expected)
    statsmodels_result = mcnemar([[50, 9], [2, 30]], exact=True)
    assert mcnemar_exact(first, second) == pytest.approx(statsmodels_result.pvalue)


def test_mcnemar_is_exact_for_many_images() -> None:
    first = np.array([1] * 90_000 + [0] * 91_000)
    expected = stats.binomtest(90_000, 181_000).pvalue
    assert mcnemar_exact(first, 1 - first) == pytest.approx(expected)


def test_mcnemar_of_equal_accuracies_is_1() -> None:
    values = np.array([1, 0])
    assert mcnemar_exact(values, values) == 1
    assert mcnemar_exact(values, values[::-1]) == 1


def test_mcnemar_detects_an_absent_difference_in_at_most_one_case_of_twenty() -> None:
    random = np.random.default_rng(0)
    detected = [
        mcnemar_exact(*(random.random((2, 200)) < 0.7).astype(int)) < 0.05 for _ in range(1000)
    ]
    assert np.mean(detected) <= 0.06


def test_mcnemar_refuses_unequal_numbers_of_images() -> None:
    with pytest.raises(ValueError, match="3 and 1 images cannot be paired"):
        mcnemar_exact(np.zeros(3), np.ones(1))


def test_holms_correction_is_its_closed_form_and_that_of_statsmodels() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    p_values = np.random.default_rng(0).random(7) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])
