"""Edits between a predicted text and its label."""

from collections.abc import Callable
from typing import NamedTuple


class Comparison(NamedTuple):
    """A prediction compared with its label; sums over a subset give rates.

    Character error rate = edits / characters. Character accuracy = kept / characters.
    """

    edits: int  # Levenshtein distance
    characters: int  # of the label
    kept: int  # characters of the label that a shortest sequence of edits does not change


def compare(label: str, prediction: str, normalize: Callable[[str], str]) -> Comparison:
    """Compare two texts after normalization.

    Args:
        label: The correct text.
        prediction: The predicted text.
        normalize: Applied to both, as a protocol says.
    """
    from rapidfuzz.distance import Levenshtein

    reference = normalize(label)
    operations = Levenshtein.editops(reference, normalize(prediction))
    changed = sum(operation.tag != "insert" for operation in operations)
    return Comparison(len(operations), len(reference), len(reference) - changed)
