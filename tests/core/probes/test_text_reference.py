"""Guesses of a hidden letter from its neighbors, against examples counted by hand."""

from pathlib import Path

import pytest

from core.data.hidden_letter import HiddenColumns
from core.data.word_images import WordImages
from core.probes.text_reference import LetterCounts, TextReference, neighbors_of, text_reference
from core.probes.words import HiddenLetter, PlacedText, SelectedWords
from core.text.charset import Charset

WORDS = ["the", "the", "tie", "toe", "she"]


def test_neighbors_at_an_end_of_a_word_are_the_end() -> None:
    assert [neighbors_of("abc", place) for place in range(3)] == [("", "b"), ("a", "c"), ("b", "")]
    assert neighbors_of("a", 0) == ("", "")


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("t", "e", "h"),  # the, the; tie and toe are fewer
        ("", "h", "t"),  # the, the; she
        ("h", "", "e"),
        ("t", "x", "h"),  # t and x were not seen together: after t
        ("x", "e", "h"),  # x was not seen: before e
        ("x", "y", "e"),  # none was seen: of all, e is in each word
    ],
)
def test_the_guess_is_the_most_frequent_letter_between_the_neighbors(
    left: str, right: str, expected: str
) -> None:
    assert LetterCounts(WORDS).guess(left, right) == expected


def test_equal_counts_are_decided_by_all_words_then_by_the_alphabet() -> None:
    counts = LetterCounts(["axb", "ayb", "y"])
    assert counts.guess("a", "b") == "y"
    assert LetterCounts(["axb", "ayb"]).guess("a", "b") == "x"
    assert LetterCounts(["ba"]).most_frequent() == "a"


def test_right_guesses_of_a_subset_are_counted(tmp_path: Path) -> None:
    labels = {0: "The", 1: "toe", 2: "she", 3: "the"}
    places = {0: 1, 1: 1, 2: 2, 3: 0}
    hidden = {number: HiddenLetter(place, HiddenColumns(0, 8)) for number, place in places.items()}
    texts = {
        number: PlacedText(labels[number].lower()[place], (0.5,))
        for number, place in places.items()
    }
    images: WordImages = object.__new__(WordImages)  # not read
    words = SelectedWords(images, list(labels), labels, texts, {}, hidden)
    reference = text_reference(LetterCounts(WORDS), words, Charset("ehiost"))
    # h is right; o is taken for h; e is right; t is right. e is right once.
    assert reference == TextReference(words=4, neighbors=3, most_frequent=1)
