"""Every named protocol, the similarity, and both label policies, on single predictions."""

from typing import get_args

import pytest

from core.config import Evaluate
from core.text.charset import Charset
from core.text.protocols import (
    PROTOCOLS,
    Prediction,
    apply_released_policy,
    apply_strict_policy,
    count_correct,
    edit_similarity,
    is_correct,
)
from experiments.cli.models import PROTOCOL_NAMES

ASCII = Charset()
PREDICTIONS = [
    Prediction(0, "one", "one", 1.0),
    Prediction(1, "x" * 24, "nonsense", 1.0),
    Prediction(2, "café", "caf", 1.0),
    Prediction(3, "four", "", 0.0, scorable=False),  # its image is broken
    Prediction(4, "five", "five", 1.0),
    Prediction(5, "y" * 30, "yyy", 1.0),
]


def test_config_and_commands_know_the_same_protocols() -> None:
    names = get_args(Evaluate.model_fields["protocol"].annotation)
    assert names == PROTOCOL_NAMES == tuple(PROTOCOLS)


def test_every_protocol_has_a_statement_labels_and_an_average() -> None:
    for protocol in PROTOCOLS.values():
        assert protocol.statement
        assert protocol.labels
        assert protocol.averaging


@pytest.mark.parametrize(("name", "ic13", "ic15"), [("waics", 1015, 2077), ("openocr", 857, 1811)])
def test_protocols_differ_in_the_sizes_of_ic13_and_ic15(name: str, ic13: int, ic15: int) -> None:
    assert (PROTOCOLS[name].sizes["ic13"], PROTOCOLS[name].sizes["ic15"]) == (ic13, ic15)


@pytest.mark.parametrize(
    ("label", "prediction", "protocols"),
    [
        ("It's", "It's", {"waics", "case_sensitive", "alnum_case_sensitive", "chinese", "openocr"}),
        ("It's", "Its", {"waics", "alnum_case_sensitive", "openocr"}),
        ("It's", "its", {"waics", "openocr"}),
        ("It's", "IT'S", {"waics", "chinese", "openocr"}),
        ("two words", "twowords", {"waics", "case_sensitive", "alnum_case_sensitive", "openocr"}),
        ("ＡＢ１！", "ab1!", {"chinese"}),
        ("漢語　里", "汉语 里", {"chinese", "waics", "alnum_case_sensitive", "openocr"}),
        ("後面", "后面", {"chinese", "waics", "alnum_case_sensitive", "openocr"}),
        ("abc", "abd", set()),
    ],
)
def test_protocols_accept_a_prediction_as_their_statements_say(
    label: str, prediction: str, protocols: set[str]
) -> None:
    single = Prediction(0, label, prediction, 1.0)
    accepted = {name for name, protocol in PROTOCOLS.items() if is_correct(single, protocol)}
    assert accepted == protocols


def test_similarity_is_the_mean_over_images_of_one_minus_edits_by_length() -> None:
    pairs = [("abcd", "abcd"), ("abcd", "abxd"), ("ab", ""), ("!!", "")]
    predictions = [
        Prediction(number, label, text, 1.0) for number, (label, text) in enumerate(pairs)
    ]
    similarity = edit_similarity(predictions, PROTOCOLS["waics"])
    assert similarity == pytest.approx((1 + 0.75 + 0 + 1) / 4)


def test_strict_policy_counts_labels_that_cannot_be_expressed_as_wrong() -> None:
    strict = apply_strict_policy(PREDICTIONS, ASCII, 25)
    correct = [is_correct(prediction, PROTOCOLS["waics"]) for prediction in strict]
    assert correct == [True, False, False, False, True, False]


def test_released_policy_replaces_such_samples_by_the_next_that_fits() -> None:
    strict = apply_strict_policy(PREDICTIONS, ASCII, 25)
    released, replaced = apply_released_policy(strict, ASCII, 25)
    assert replaced == 3
    assert [prediction.index for prediction in released] == [0, 1, 2, 3, 4, 5]
    labels = [prediction.label for prediction in released]
    assert labels == ["one", "caf", "caf", "five", "five", "one"]  # the first follows the last
    assert count_correct(released, PROTOCOLS["waics"]).correct == 6
