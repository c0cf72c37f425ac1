"""Measures of single words, from predictions: accuracy, characters, edit distance, likelihood.

Each function returns one value for each word of a subset. Its mean over the words is the measure of
the subset. So the intervals and paired differences of `analysis/tables/intervals.py` hold for every
measure. A rate per character is a ratio of two sums; the value of a word is its count divided by
the mean length of the subset's labels, whose mean is that ratio.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from core.runtime.errors import UserError
from experiments.planning.endpoints import HIDDEN_LETTER_MEASURES, Measure

DESCRIPTIONS: dict[Measure, str] = {
    "words": "word accuracy",
    "characters": "character accuracy at the characters' true positions",
    "cer": "character error rate: edits per character of the labels",
    "nll": "negative log-likelihood of the labels (and of their ends, if a decoder predicts them) "
    "in nats per character",
    "in_words": "accuracy on the hidden letter of words",
    "in_random_letters": "accuracy on the hidden letter between random letters of equal look",
    "language_use": "accuracy on the hidden letter in words minus that between random letters",
}
LOWER_IS_BETTER: frozenset[Measure] = frozenset({"cer", "nll"})


@dataclass(frozen=True)
class PredictedWords:
    """The words of one subset with their predictions.

    labels, predictions: (n,) texts.
    scorable: (n,) false where the recognizer cannot express the label.
    nll: (n,) negative log-likelihood of each label in nats, NaN where there is none; None if the
        run did not compute it.
    """

    labels: Sequence[str]
    predictions: Sequence[str]
    scorable: Sequence[bool]
    nll: Sequence[float] | None = None


def word_values(
    words: PredictedWords, measure: Measure, normalize: Callable[[str], str]
) -> np.ndarray:
    """(n,) the value of each word. Raises UserError if the predictions lack what it needs.

    words: of one subset.
    measure: what to measure.
    normalize: the protocol's normalization, for `words` and `cer`.

    The value of `language_use` needs two subsets (`EndpointRecords`); here it is the
    accuracy in one of them."""
    if measure == "words":
        return _correct_words(words, normalize)
    if measure == "characters":
        return _correct_characters(words)
    if measure == "cer":
        return _edits(words, normalize)
    if measure in HIDDEN_LETTER_MEASURES:
        return _correct_letters(words)
    return _likelihoods(words)


def _correct_words(words: PredictedWords, normalize: Callable[[str], str]) -> np.ndarray:
    rows = zip(words.labels, words.predictions, words.scorable, strict=True)
    correct = [
        scorable and (label == predicted or normalize(label) == normalize(predicted))
        for label, predicted, scorable in rows
    ]
    return np.array(correct, dtype=float)


def _correct_characters(words: PredictedWords) -> np.ndarray:
    """A prediction has one character for each character of its label."""
    pairs = list(zip(words.labels, words.predictions, strict=True))
    if any(len(label) != len(predicted) for label, predicted in pairs):
        raise UserError("predictions of characters must be as long as their labels")
    correct = [
        sum(first == second for first, second in zip(label, predicted, strict=True))
        for label, predicted in pairs
    ]
    return _per_character(correct, [len(label) for label, _ in pairs])


def _correct_letters(words: PredictedWords) -> np.ndarray:
    """Labels and predictions are one letter each; a missing image has no prediction."""
    pairs = zip(words.labels, words.predictions, strict=True)
    return np.array([label == predicted for label, predicted in pairs], dtype=float)


def _edits(words: PredictedWords, normalize: Callable[[str], str]) -> np.ndarray:
    """A word that cannot be scored counts as if nothing was predicted."""
    labels = [normalize(label) for label in words.labels]
    edits = [
        Levenshtein.distance(label, normalize(predicted)) if scorable else len(label)
        for label, predicted, scorable in zip(
            labels, words.predictions, words.scorable, strict=True
        )
    ]
    return _per_character(edits, [len(label) for label in labels])


def _likelihoods(words: PredictedWords) -> np.ndarray:
    """NaN for a word without a likelihood."""
    if words.nll is None:
        raise UserError("these predictions have no likelihoods; evaluate the run again")
    values = np.asarray(words.nll, float)
    known = ~np.isnan(values)
    if not known.any():
        raise UserError("no label of these predictions has a likelihood")
    lengths = np.array([len(label) for label in words.labels], float)
    per_character: np.ndarray = values / lengths[known].mean()
    return per_character


def _per_character(counts: Sequence[int], lengths: Sequence[int]) -> np.ndarray:
    total = sum(lengths)
    if not total:
        raise UserError("the labels have no characters to count")
    return np.asarray(counts, float) / (total / len(lengths))
