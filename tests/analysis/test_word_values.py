"""Measures of single words, whose means are the measures of a subset."""

import math

import numpy as np
import pytest

from analysis.tables.word_values import DESCRIPTIONS, PredictedWords, word_values
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.planning.endpoints import MEASURES

LABELS = ["abc", "de", "fghij"]
NORMALIZE = PROTOCOLS["waics"].normalize


def words(predictions: list[str], **changes: object) -> PredictedWords:
    content = {"labels": LABELS, "predictions": predictions, "scorable": [True] * 3, "nll": None}
    return PredictedWords(**{**content, **changes})  # type: ignore[arg-type]


def test_the_mean_of_each_measure_is_the_measure_of_the_subset() -> None:
    predicted = words(["abc", "dx", "fghi"], nll=[0.4, 1.0, 3.6])
    means = {
        name: word_values(predicted, name, NORMALIZE).mean() for name in ("words", "cer", "nll")
    }
    assert means["words"] == pytest.approx(1 / 3)
    assert means["cer"] == pytest.approx(2 / 10)  # one substitution, one deletion; ten characters
    assert means["nll"] == pytest.approx(5.0 / 10)


def test_characters_are_compared_position_by_position() -> None:
    values = word_values(words(["abx", "ed", "fghij"]), "characters", NORMALIZE)
    assert values.mean() == pytest.approx(7 / 10)
    with pytest.raises(UserError, match="as long as"):
        word_values(words(["ab", "de", "fghij"]), "characters", NORMALIZE)


def test_a_word_that_cannot_be_scored_is_wrong_in_every_character() -> None:
    predicted = words(LABELS, scorable=[True, False, True])
    assert word_values(predicted, "words", NORMALIZE).tolist() == [1, 0, 1]
    assert word_values(predicted, "cer", NORMALIZE).mean() == pytest.approx(2 / 10)


def test_normalization_of_the_protocol_is_applied_to_both_texts() -> None:
    predicted = words(["A-B-C", "DE", "Fghij!"])
    assert word_values(predicted, "words", NORMALIZE).tolist() == [1, 1, 1]
    assert not word_values(predicted, "cer", NORMALIZE).any()


def test_words_without_a_likelihood_stay_out_of_the_mean() -> None:
    values = word_values(words(LABELS, nll=[0.4, math.nan, 3.6]), "nll", NORMALIZE)
    assert np.nanmean(values) == pytest.approx(4.0 / 8)
    assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize("nll", [None, [math.nan] * 3])
def test_likelihoods_that_were_not_computed_are_an_error(nll: list[float] | None) -> None:
    with pytest.raises(UserError, match="likelihood"):
        word_values(words(LABELS, nll=nll), "nll", NORMALIZE)


def test_labels_without_characters_are_an_error() -> None:
    empty = PredictedWords(["", "-"], ["a", ""], [True, True])
    with pytest.raises(UserError, match="no characters"):
        word_values(empty, "cer", NORMALIZE)
    assert set(DESCRIPTIONS) == set(MEASURES)
