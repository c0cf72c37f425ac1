"""The vocabulary: frequent words of wordfreq, some of which training never shows."""

from functools import cache
from itertools import islice
from typing import NamedTuple

import numpy as np

from core.runtime.errors import UserError
from core.synthetic.config import Synthetic


class Vocabulary(NamedTuple):
    """Words that training renders, and words that it does not."""

    seen: list[str]
    cumulative: np.ndarray  # cumulative probabilities of the seen words
    unseen: list[str]


def english_words(count: int, letters: tuple[int, int]) -> dict[str, float]:
    """The `count` most frequent English words of ASCII letters alone -> frequency.

    letters: least and most letters of a word."""
    from wordfreq import iter_wordlist, word_frequency

    least, most = letters
    words = (word for word in iter_wordlist("en") if word.isascii() and word.isalpha())
    fitting = (word for word in words if least <= len(word) <= most)
    return {word: word_frequency(word, "en") for word in islice(fitting, count)}


@cache
def chinese_words(count: int, letters: tuple[int, int]) -> dict[str, float]:
    """The `count` most frequent words of Chinese characters alone -> frequency.

    letters: least and most characters of a word."""
    from wordfreq import get_frequency_dict, iter_wordlist

    least, most = letters
    frequencies = get_frequency_dict("zh")
    words = (word for word in iter_wordlist("zh") if least <= len(word) <= most)
    fitting = (word for word in words if all("\u4e00" <= mark <= "\u9fff" for mark in word))
    return {word: frequencies[word] for word in islice(fitting, count)}


@cache
def make_vocabulary(config: Synthetic) -> Vocabulary:
    """The vocabulary that the config describes.

    A seen word's probability grows as the square root of its frequency, so that the most frequent
    words do not dominate. Raises UserError for fewer than two words."""
    find_words = chinese_words if config.language == "zh" else english_words
    frequencies = find_words(config.vocabulary, config.letters)
    words = list(frequencies)
    if len(words) < 2:
        least, most = config.letters
        raise UserError(
            f"synthetic: {len(words)} words have {least} to {most} letters; "
            "increase synthetic.vocabulary or widen synthetic.letters"
        )
    random = np.random.default_rng([config.seed, 0])
    count = max(1, round(config.unseen * len(words)))
    unseen = set(random.permutation(len(words))[:count].tolist())
    seen = [word for number, word in enumerate(words) if number not in unseen]
    weights = np.sqrt([frequencies[word] for word in seen])
    cumulative = np.cumsum(weights / weights.sum())
    return Vocabulary(seen, cumulative, [words[number] for number in sorted(unseen)])


@cache
def vocabulary_characters(config: Synthetic) -> str:
    """All characters of the vocabulary in code-point order: the charset of Chinese words."""
    words = make_vocabulary(config)
    return "".join(sorted(set("".join([*words.seen, *words.unseen]))))


def sample_word(config: Synthetic, split: str, random: np.random.Generator) -> str:
    """A word of a split: seen in training; elsewhere unseen with probability 0.5."""
    words = make_vocabulary(config)
    if split != "train" and random.random() < 0.5:
        return words.unseen[random.integers(len(words.unseen))]
    number = int(np.searchsorted(words.cumulative, random.random()))
    return words.seen[min(number, len(words.seen) - 1)]
