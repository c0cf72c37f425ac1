"""What the text alone tells about a hidden letter: a reference for head `hidden_letter`.

The letter is guessed from its two true neighbors, by counts over the training words of the head. At
an end of a word, the end is one of them. Someone who knows whole words can guess more.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from core.probes.words import SelectedWords
from core.text.charset import Charset

END = ""  # the neighbor of a letter at an end of its word

Context = tuple[str | None, str | None]  # the neighbors at the left and right; None: any


class TextReference(NamedTuple):
    """How many hidden letters are guessed without the image.

    words: of the subset.
    neighbors: right guesses from the two neighbors.
    most_frequent: right guesses if the guess is always the most frequent letter.
    """

    words: int
    neighbors: int
    most_frequent: int


def neighbors_of(label: str, place: int) -> tuple[str, str]:
    """The characters at the left and right of a place of a label; END beyond its ends."""
    left = label[place - 1] if place else END
    right = label[place + 1] if place + 1 < len(label) else END
    return left, right


class LetterCounts:
    """Counts of letters between their neighbors."""

    def __init__(self, labels: Iterable[str]) -> None:
        """labels: of the training words; every character of each is counted."""
        self._counts: dict[Context, Counter[str]] = {}
        for label in labels:
            for place, letter in enumerate(label):
                left, right = neighbors_of(label, place)
                for context in ((left, right), (left, None), (None, right), (None, None)):
                    self._counts.setdefault(context, Counter())[letter] += 1

    def most_frequent(self) -> str:
        """The most frequent letter; the first of the alphabet among equal ones."""
        return self._best((None, None))

    def guess(self, left: str, right: str) -> str:
        """The letter that is most often between two neighbors.

        Neighbors that were never seen together: the letter that is most often after the left one;
        a left one that was never seen: the one most often before the right one, or of all."""
        for context in ((left, right), (left, None), (None, right)):
            if context in self._counts:
                return self._best(context)
        return self.most_frequent()

    def _best(self, context: Context) -> str:
        overall = self._counts[(None, None)]
        counts = self._counts[context]
        return min(counts, key=lambda letter: (-counts[letter], -overall[letter], letter))


def letter_counts(words: SelectedWords, charset: Charset) -> LetterCounts:
    """The counts of some words. charset: which gives the case."""
    return LetterCounts(charset.fold_case(words.labels[number]) for number in words.numbers)


def text_reference(counts: LetterCounts, words: SelectedWords, charset: Charset) -> TextReference:
    """The reference for the hidden letters of some words.

    counts: of the head's training words. words: of a subset. charset: which gives the case."""
    most_frequent = counts.most_frequent()
    guessed = 0
    frequent = 0
    for number, (place, _) in words.hidden.items():
        letter = words.reference(number)
        left, right = neighbors_of(charset.fold_case(words.labels[number]), place)
        guessed += counts.guess(left, right) == letter
        frequent += most_frequent == letter
    return TextReference(len(words.hidden), guessed, frequent)
