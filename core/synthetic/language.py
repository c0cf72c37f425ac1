"""Words and random letters of equal look: do features know which letters go together?

`language_train` and `language_words` show words that training shows too, in the plain style, and
share no word. Image i of `random_letters` has the draws of image i of `language_words` (font, size,
colors, noise, blur), but other letters. Only one letter is the same: the one that is to be hidden
(`core/data/hidden_letter.py`). So its frequency, its place and its box are those of the words, and
only its neighbors differ.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from core.data.hidden_letter import hidden_place
from core.runtime.errors import UserError
from core.synthetic.config import Synthetic
from core.synthetic.drawing import Random
from core.synthetic.vocabulary import make_vocabulary

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
TEST_SHARE = 5  # one of this many seen words is a test word
# Purposes of the draws. Numbers of splits are below them.
DIVISION = 1000
LOOK = 1001
TEXT = 1002
REPLACEMENT = 1003
TRAIN = 0
TEST = 1


class WordPart(NamedTuple):
    """Words, and how likely each of them is drawn."""

    words: tuple[str, ...]
    probabilities: np.ndarray


class Division(NamedTuple):
    """The seen words of a vocabulary in two parts.

    letters: probability of each of `LETTERS`, as the seen words have them.
    known: all words of the vocabulary.
    """

    train: WordPart
    test: WordPart
    letters: np.ndarray
    known: frozenset[str]


@cache
def divide_words(config: Synthetic) -> Division:
    """The words of each part. Raises UserError for fewer than two words of several letters."""
    vocabulary = make_vocabulary(config)
    weights = np.diff(vocabulary.cumulative, prepend=0)
    rows = [row for row, word in enumerate(vocabulary.seen) if len(word) > 1]
    if len(rows) < 2:
        raise UserError(
            "synthetic: fewer than 2 words have several letters, so none can be hidden; "
            "increase synthetic.vocabulary or widen synthetic.letters"
        )
    order = np.random.default_rng([config.seed, DIVISION]).permutation(rows)
    count = max(1, len(rows) // TEST_SHARE)

    def part(chosen: list[int]) -> WordPart:
        chosen_weights = weights[chosen]
        words = tuple(vocabulary.seen[row] for row in chosen)
        return WordPart(words, chosen_weights / chosen_weights.sum())

    return Division(
        train=part(sorted(order[count:].tolist())),
        test=part(sorted(order[:count].tolist())),
        letters=_letter_frequencies(vocabulary.seen, weights),
        known=frozenset([*vocabulary.seen, *vocabulary.unseen]),
    )


def _letter_frequencies(words: list[str], weights: np.ndarray) -> np.ndarray:
    """(26,) probability of each letter in words; none is 0. weights: of the words."""
    counts = np.full(len(LETTERS), 1e-3)
    for word, weight in zip(words, weights.tolist(), strict=True):
        for letter in word:
            counts[LETTERS.index(letter)] += weight
    frequencies: np.ndarray = counts / counts.sum()
    return frequencies


def look_draws(config: Synthetic, split: str, index: int) -> Random:
    """The source of all that an image shows but its text. Equal for both test splits.

    split: of the language splits. index: of the image."""
    return np.random.default_rng([config.seed, LOOK, _part_of(split), index])


def language_text(config: Synthetic, split: str, index: int) -> str:
    """The text of image number `index` of a language split."""
    division = divide_words(config)
    part = _part_of(split)
    words, probabilities = division.train if part == TRAIN else division.test
    random = np.random.default_rng([config.seed, TEXT, part, index])
    word = words[int(random.choice(len(words), p=probabilities))]
    return _with_other_letters(config, word, index) if split == "random_letters" else word


def _part_of(split: str) -> int:
    return TRAIN if split == "language_train" else TEST


def _with_other_letters(config: Synthetic, word: str, index: int) -> str:
    """The word with other letters at all places but the hidden one; no word of the vocabulary.

    word: of image number `index`."""
    division = divide_words(config)
    random = np.random.default_rng([config.seed, REPLACEMENT, TEST, index])
    kept = hidden_place(index, len(word))
    while True:
        letters = [
            letter if place == kept else _other_letter(letter, division.letters, random)
            for place, letter in enumerate(word)
        ]
        text = "".join(letters)
        if text not in division.known:
            return text


def _other_letter(letter: str, frequencies: np.ndarray, random: Random) -> str:
    """Another letter, drawn by its frequency in words."""
    others = frequencies.copy()
    others[LETTERS.index(letter)] = 0
    return LETTERS[int(random.choice(len(LETTERS), p=others / others.sum()))]
