"""Evaluation protocols on single predictions; `test_score.py` tests files of predictions."""

import pytest

from core.text.charset import make_charset
from core.text.protocols import PROTOCOLS, Prediction, count_correct, is_correct

ASCII = make_charset("ascii94")
WAICS = PROTOCOLS["waics"]


@pytest.mark.parametrize(
    ("label", "prediction", "correct"),
    [
        ("It's", "ITS", True),
        ("two words", "twowords", True),
        ("café", "caf", False),
        ("£5", "5", False),
        ("abc", "abd", False),
        ("x" * 25, "x" * 25, False),
    ],
)
def test_waics_ignores_case_and_symbols_but_no_letter(
    label: str, prediction: str, correct: bool
) -> None:
    scorable = ASCII.can_express(label, 25)
    assert is_correct(Prediction(0, label, prediction, 1.0, scorable), WAICS) is correct


def test_images_that_could_not_be_decoded_count_as_wrong() -> None:
    predictions = [Prediction(0, "a", "a", 1.0), Prediction(1, "", "", 0.0, scorable=False)]
    counts = count_correct(predictions, WAICS)
    assert counts == count_correct(predictions[::-1], WAICS)
    assert (counts.correct, counts.images) == (1, 2)
