"""Edits between predictions and labels."""

import pytest

from core.text.edit_distance import compare
from core.text.protocols import PROTOCOLS


@pytest.mark.parametrize(
    ("label", "prediction", "edits", "kept"),
    [
        ("", "", 0, 0),
        ("house", "house", 0, 5),
        ("house", "", 5, 0),
        ("house", "mouse", 1, 4),
        ("house", "hose", 1, 4),
        ("house", "houses", 1, 5),
        ("abc", "xyzabc", 3, 3),
    ],
)
def test_edits_and_kept_characters(label: str, prediction: str, edits: int, kept: int) -> None:
    comparison = compare(label, prediction, str)
    assert comparison == (edits, len(label), kept)


def test_texts_are_normalized_before_they_are_compared() -> None:
    assert compare("It's", "its", PROTOCOLS["waics"].normalize) == (0, 3, 3)
    assert compare("It's", "its", str).edits == 2
