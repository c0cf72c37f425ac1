"""Synthetic Chinese words: vocabulary, charset and images."""

import hashlib

import numpy as np
import pytest
from chinese_fonts import WORDS, system_font

from core.synthetic.cjk_fonts import cjk_font
from core.synthetic.config import CHINESE_SUBSETS, split_sizes
from core.synthetic.vocabulary import chinese_words, make_vocabulary, vocabulary_characters
from core.synthetic.words import render_word


def test_words_are_frequent_chinese_ones_of_the_given_length() -> None:
    words = chinese_words(200, (2, 3))
    assert len(words) == 200
    for word in words:
        assert len(word) in (2, 3)
        assert all("\u4e00" <= mark <= "\u9fff" for mark in word)
    frequencies = list(words.values())
    assert frequencies[0] > 10 * frequencies[-1] > 0


def test_the_charset_has_the_characters_of_seen_and_unseen_words() -> None:
    words = make_vocabulary(WORDS)
    characters = vocabulary_characters(WORDS)
    assert set(characters) == set("".join([*words.seen, *words.unseen]))
    assert list(characters) == sorted(set(characters))
    assert not set(words.seen) & set(words.unseen)


def test_the_splits_are_those_of_the_chinese_benchmark() -> None:
    assert list(split_sizes(WORDS)) == ["train", "validation", *CHINESE_SUBSETS]


@pytest.mark.parametrize("split", split_sizes(WORDS))
def test_images_of_every_split_have_ink_and_are_deterministic(split: str) -> None:
    system_font()
    image, text = render_word(WORDS, split, 1)
    assert image.tobytes() == render_word(WORDS, split, 1)[0].tobytes()
    assert image.size == (128, 32)
    assert np.asarray(image).std() > 5
    assert text in chinese_words(60, (1, 3))


def test_characters_have_different_glyphs() -> None:
    """A font without a character renders the same box for each one."""
    face = cjk_font(system_font(), 24)
    glyphs = {
        hashlib.sha256(bytes(face.getmask(mark))).hexdigest()
        for mark in vocabulary_characters(WORDS)
    }
    assert len(glyphs) > 40
