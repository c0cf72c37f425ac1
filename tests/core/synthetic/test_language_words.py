"""Words and random letters of equal look: their letters, their draws, and the hidden letter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageChops

from core.config import Encoder
from core.data.character_boxes import CharacterBoxes
from core.data.hidden_letter import hidden_columns, hidden_place
from core.data.word_images import WordImages
from core.runtime.errors import UserError
from core.synthetic import words as rendering
from core.synthetic.config import LANGUAGE_SPLITS, Synthetic, language_sizes, split_sizes
from core.synthetic.dataset import dataset_fingerprint, write_splits
from core.synthetic.drawing import paint
from core.synthetic.ink import WordInk
from core.synthetic.language import divide_words, language_text, look_draws
from core.synthetic.vocabulary import make_vocabulary

WORDS = Synthetic(train=8, validation=2, test=4, vocabulary=2000, letters=(3, 5), image=(32, 64))
BOXED = WORDS.model_copy(update={"boxes": True})
ENCODER = Encoder(image=(32, 64), patch=(16, 8), width=16, depth=1, heads=2, positions="grid")
COUNT = 150


def _texts(split: str, count: int = COUNT) -> list[str]:
    return [language_text(WORDS, split, index) for index in range(count)]


def test_training_and_test_words_are_seen_words_without_a_common_one() -> None:
    division = divide_words(WORDS)
    seen = set(make_vocabulary(WORDS).seen)
    assert set(division.train.words) | set(division.test.words) == seen
    assert not set(division.train.words) & set(division.test.words)
    assert not set(_texts("language_train", 1000)) & set(_texts("language_words", 1000))
    assert set(_texts("language_words")) <= set(division.test.words)


def test_random_letters_keep_length_and_hidden_letter_and_no_other_letter() -> None:
    known = divide_words(WORDS).known
    for index, (word, letters) in enumerate(
        zip(_texts("language_words"), _texts("random_letters"), strict=True)
    ):
        assert len(word) == len(letters)
        assert letters not in known
        kept = hidden_place(index, len(word))
        equal = [place for place in range(len(word)) if word[place] == letters[place]]
        assert equal == [kept]


def test_random_letters_are_as_frequent_as_in_words() -> None:
    words = "".join(_texts("language_words", 2000))
    letters = "".join(_texts("random_letters", 2000))
    for letter in "eatq":
        shares = [text.count(letter) / len(text) for text in (words, letters)]
        assert abs(shares[0] - shares[1]) < 0.03


def test_texts_do_not_depend_on_the_order_in_which_they_are_drawn() -> None:
    backwards = [language_text(WORDS, "random_letters", index) for index in range(20, -1, -1)]
    assert backwards[::-1] == _texts("random_letters", 21)


def test_both_test_splits_draw_the_same_look(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [
        look_draws(WORDS, split, 7).random(5).tolist()
        for split in ("language_words", "random_letters", "language_train")
    ]
    assert pairs[0] == pairs[1] != pairs[2]
    same = "house"  # with one text for both, all bytes are equal
    monkeypatch.setattr(rendering, "language_text", lambda *_: same)
    images = [
        rendering.render_word(WORDS, split, 7)[0].tobytes()
        for split in ("language_words", "random_letters")
    ]
    assert images[0] == images[1]


def _hidden(ink: WordInk, place: int) -> tuple[int, int]:
    box = ink.boxes()[place]
    assert box is not None
    return hidden_columns(box[0] / 64, box[2] / 64, ENCODER, margin=2)


def test_no_ink_of_the_hidden_letter_is_left_outside_the_hidden_columns() -> None:
    """Paint the word with and without the letter: only hidden pixels differ, blur included."""
    for split in ("language_words", "random_letters"):
        for index in range(40):
            _, text, ink = rendering._render(BOXED, split, index)
            place = hidden_place(index, len(text))
            left, right = _hidden(ink, place)
            without = replace(ink, mask=ImageChops.subtract(ink.mask, ink.characters[place]))
            both = [
                np.asarray(paint(of_one.mask, False, np.random.default_rng(index)), np.int64)
                for of_one in (ink, without)
            ]
            difference = np.abs(both[0] - both[1]).max((0, 2))  # of each column
            assert difference[left:right].max() > 20
            outside = np.concatenate([difference[:left], difference[right:]])
            assert outside.max() <= 2


def test_language_splits_are_rendered_alone_and_always_have_boxes(tmp_path: Path) -> None:
    small = WORDS.model_copy(update={"test": 1})
    sizes = language_sizes(small)
    assert list(sizes) == list(LANGUAGE_SPLITS)
    *_, last = write_splits(small, tmp_path / "a", 1, lambda: False, for_language=True)
    assert last == (sum(sizes.values()),) * 2
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(sizes)
    assert list(write_splits(small, tmp_path / "b", 1, lambda: False, for_language=True))
    for split, size in sizes.items():
        images = [WordImages([str(tmp_path / name / split)]) for name in "ab"]
        assert len(images[0]) == size
        for number in range(size):
            first, second = (of_one.raw(number) for of_one in images)
            assert first == second
            boxes: CharacterBoxes | None = images[0].boxes(number)
            label = images[0].label(number)
            assert boxes is not None
            assert label == language_text(small, split, number)
            assert len(boxes) == len(label)
            assert None not in boxes
            stored = images[0].image(number, (32, 64))
            rendered = np.asarray(rendering.render_word(small, split, number)[0])
            assert stored is not None
            assert torch.equal(stored, torch.from_numpy(rendered.copy()).permute(2, 0, 1))


def test_language_splits_change_no_other_split_and_no_fingerprint() -> None:
    assert not set(split_sizes(WORDS)) & set(LANGUAGE_SPLITS)
    assert dataset_fingerprint(WORDS) != dataset_fingerprint(BOXED)
    scene = Synthetic(train=8, validation=2, vocabulary=100, look="scene")
    assert language_sizes(scene) == {}
    assert language_sizes(Synthetic(train=8, validation=2, vocabulary=100)) == {}


def test_words_of_one_letter_are_refused() -> None:
    single = Synthetic(train=8, validation=2, test=1, vocabulary=20, letters=(1, 1))
    with pytest.raises(UserError, match=r"synthetic\.letters"):
        language_text(single, "language_words", 0)
