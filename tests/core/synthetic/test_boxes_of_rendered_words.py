"""Boxes of the characters of rendered words."""

from pathlib import Path

import numpy as np
import pytest
from chinese_fonts import system_font

from core.config import identity_fields
from core.data.character_boxes import BOXES, check_boxes
from core.data.lmdb_folder import fingerprint, root_irregularity
from core.data.word_images import WordImages
from core.data_tools.check import check_root
from core.synthetic.config import CHINESE_SUBSETS, ENGLISH_SUBSETS, Synthetic
from core.synthetic.dataset import dataset_fingerprint, write_splits
from core.synthetic.drawing import Effect, draw_text
from core.synthetic.fonts import faces, font
from core.synthetic.ink import ink_box
from core.synthetic.words import render_with_boxes, render_word
from core.text.charset import Charset

PLAIN = Synthetic(train=20, validation=4, test=4, vocabulary=300)
BOXED = PLAIN.model_copy(update={"boxes": True})
SCENE = Synthetic(train=20, validation=4, vocabulary=300, look="scene", boxes=True)
CHINESE = Synthetic(
    train=20, validation=4, test=4, vocabulary=300, language="zh", letters=(2, 5), boxes=True
)
STRAIGHT = ("artistic", "contextless", "salient", "multi_words", "general")


def _need_font(config: Synthetic) -> None:
    """Skip the test if the words are Chinese and the system has no Chinese font."""
    if config.language == "zh":
        system_font()


def _cases() -> list[tuple[Synthetic, str]]:
    looks = [BOXED, BOXED.model_copy(update={"look": "coloured"})]
    english = [(config, style) for config in looks for style in ENGLISH_SUBSETS]
    return [*english, (SCENE, "train"), *((CHINESE, style) for style in CHINESE_SUBSETS)]


@pytest.mark.parametrize(("config", "split"), _cases())
def test_images_and_labels_are_equal_with_and_without_boxes(config: Synthetic, split: str) -> None:
    _need_font(config)
    without = config.model_copy(update={"boxes": False})
    for index in range(6):
        word = render_with_boxes(config, split, index)
        plain = render_with_boxes(without, split, index)
        assert (word.image.tobytes(), word.text) == (plain.image.tobytes(), plain.text)
        assert plain.boxes == ()
        assert render_word(config, split, index)[1] == word.text


@pytest.mark.parametrize(("config", "split"), _cases())
def test_every_character_has_a_box_inside_the_image_but_spaces_have_none(
    config: Synthetic, split: str
) -> None:
    _need_font(config)
    for index in range(12):
        word = render_with_boxes(config, split, index)
        check_boxes(word.boxes, word.text, word.image.size)
        for character, box in zip(word.text, word.boxes, strict=True):
            assert (box is None) == character.isspace()


@pytest.mark.parametrize("split", STRAIGHT)
def test_boxes_of_straight_words_are_in_order_from_left_to_right(split: str) -> None:
    for index in range(15):
        boxes = [box for box in render_with_boxes(BOXED, split, index).boxes if box is not None]
        middles = [(box[0] + box[2]) / 2 for box in boxes]
        assert middles == sorted(middles)


@pytest.mark.parametrize("split", STRAIGHT)
def test_the_boxes_contain_the_ink_of_the_image(split: str) -> None:
    """Dark pixels of a page outside of all boxes are few; those inside are many."""
    if split == "salient":  # parts of other words are ink, too
        return
    for index in range(10):
        word = render_with_boxes(BOXED, split, index)
        gray = np.asarray(word.image.convert("L"), float)
        dark = gray < (np.percentile(gray, 90) + gray.min()) / 2
        inside = np.zeros_like(dark)
        for box in word.boxes:
            if box is not None:
                inside[max(box[1] - 1, 0) : box[3] + 1, max(box[0] - 1, 0) : box[2] + 1] = True
        assert (dark & ~inside).sum() <= 0.05 * dark.sum(), (split, index)


@pytest.mark.parametrize("effect", ["none", "outline"])
def test_the_masks_of_the_characters_cover_the_mask_of_the_word(effect: Effect) -> None:
    for number, face in enumerate([*faces("plain"), *faces("artistic")]):
        ink = draw_text("Wavy", font(*face, 19 + number % 4), effect, by_character=True)
        union = np.max([np.asarray(mask) for mask in ink.characters], axis=0)
        assert len(ink.characters) == 4
        assert not ((np.asarray(ink.mask) > 128) & (union < 64)).any(), face


def test_letters_drawn_apart_have_the_boxes_of_single_letters() -> None:
    face = font(*faces("plain")[0], 22)
    ink = draw_text("i m", face, by_character=True)
    boxes = ink.boxes()
    assert boxes[1] is None
    for position, letter in ((0, "i"), (2, "m")):
        (alone,) = draw_text(letter, face, by_character=True).boxes()
        box = boxes[position]
        assert box is not None
        assert alone is not None
        assert (box[2] - box[0], box[3] - box[1]) == (alone[2] - alone[0], alone[3] - alone[1])


def test_faint_pixels_at_the_edges_do_not_widen_a_box() -> None:
    mask = draw_text("l", font(*faces("plain")[0], 22)).mask
    faint = mask.copy()
    faint.putpixel((0, 0), 10)
    assert ink_box(faint) == ink_box(mask)


def test_a_character_without_ink_has_no_box() -> None:
    assert draw_text("a b", font(*faces("plain")[0], 20), by_character=True).boxes()[1] is None


def test_the_default_of_boxes_is_no_part_of_fingerprint_and_identity() -> None:
    assert "boxes" not in identity_fields(PLAIN)
    assert identity_fields(BOXED) == identity_fields(PLAIN) | {"boxes": True}
    assert dataset_fingerprint(PLAIN) != dataset_fingerprint(BOXED)


def test_written_splits_hold_the_boxes_beside_equal_images(tmp_path: Path) -> None:
    for config, name in ((PLAIN, "plain"), (BOXED, "boxed")):
        assert list(write_splits(config, tmp_path / name, 1, lambda: False))
    for split in ("train", "multi_words"):
        plain, boxed = (str(tmp_path / name / split) for name in ("plain", "boxed"))
        assert fingerprint(plain) == fingerprint(boxed)
        images = WordImages([boxed])
        assert [images.boxes(number) for number in range(4)] == [
            render_with_boxes(BOXED, split, number).boxes for number in range(4)
        ]
        assert WordImages([plain]).boxes(0) is None
        assert not root_irregularity(boxed)
        report = check_root(boxed, Charset(), 25, 1)
        assert not report.problems
        assert report.harmless_keys == {BOXES: len(images)}
