"""Rendering of single words. An image is deterministic in (seed, split, index) of its config.

The test subsets have the styles that their names say. `core/synthetic/scene.py` renders the look
of photographs, `core/synthetic/chinese.py` Chinese words.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from core.data.character_boxes import CharacterBoxes
from core.synthetic.chinese import render_chinese
from core.synthetic.cjk_fonts import cjk_faces
from core.synthetic.config import (
    CHINESE_SUBSETS,
    ENGLISH_SUBSETS,
    LANGUAGE_SPLITS,
    Synthetic,
    split_sizes,
)
from core.synthetic.drawing import (
    Effect,
    Random,
    bend,
    crop_to_ink,
    draw_text,
    paint,
    place_on_canvas,
    rotate,
    slant,
)
from core.synthetic.fonts import faces, font
from core.synthetic.ink import WordInk
from core.synthetic.language import language_text, look_draws
from core.synthetic.scene import render_scene, scene_label
from core.synthetic.vocabulary import sample_word, vocabulary_characters

LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
SPECIAL_STYLES = ENGLISH_SUBSETS[:-1]  # all but general


class RenderedWord(NamedTuple):
    """An image and its label. boxes: of the characters; () if the config wants none."""

    image: Image.Image
    text: str
    boxes: CharacterBoxes


def render_word(config: Synthetic, split: str, index: int) -> tuple[Image.Image, str]:
    """Image number `index` of a split, and its label.

    Training and validation mix the styles of all subsets."""
    return render_with_boxes(config, split, index)[:2]


def render_with_boxes(config: Synthetic, split: str, index: int) -> RenderedWord:
    """As `render_word`, with the boxes of the characters if `config.boxes`."""
    image, text, ink = _render(config, split, index)
    return RenderedWord(image, text, ink.boxes())


def _render(config: Synthetic, split: str, index: int) -> tuple[Image.Image, str, WordInk]:
    """Image, label, and the ink on the image."""
    if split in LANGUAGE_SPLITS:
        text = language_text(config, split, index)
        image, ink = _render_english(config, text, "general", look_draws(config, split, index))
        return image, text, ink
    number = 1 + list(split_sizes(config)).index(split)
    random = np.random.default_rng([config.seed, number, index])
    if config.look == "scene":
        text = scene_label(sample_word(config, split, random), random)
        image, ink = render_scene(text, random, config.boxes)
        return image, text, ink
    if config.language == "zh":
        text = sample_word(config, split, random)
        style = split if split in CHINESE_SUBSETS else str(random.choice(CHINESE_SUBSETS))
        fonts = cjk_faces(vocabulary_characters(config))
        image, ink = render_chinese(text, style, config.image, fonts, random, config.boxes)
        return image, text, ink
    style = split if split in ENGLISH_SUBSETS else _sample_style(config, random)
    text = _sample_label(config, split, style, random)
    image, ink = _render_english(config, text, style, random)
    return image, text, ink


def _sample_style(config: Synthetic, random: Random) -> str:
    """A style for training and validation."""
    if random.random() < config.special:
        return SPECIAL_STYLES[random.integers(len(SPECIAL_STYLES))]
    return "general"


def _sample_label(config: Synthetic, split: str, style: str, random: Random) -> str:
    """A word; random letters for contextless, two words for multi_words."""
    least, most = config.letters
    if style == "contextless":
        return "".join(random.choice(LETTERS, random.integers(least, most + 1)))
    if style == "multi_words":
        while True:
            text = " ".join(sample_word(config, split, random) for _ in range(2))
            if len(text) <= most + least + 1:
                return text
    return sample_word(config, split, random)


def _render_english(
    config: Synthetic, text: str, style: str, random: Random
) -> tuple[Image.Image, WordInk]:
    """The text in one of the English styles, and its ink on the image."""
    ink = _draw_word(text, style, int(random.integers(19, 24)), random, config.boxes)
    if style == "curve":
        sag = random.choice((-1, 1)) * random.uniform(4, 10)
        ink = ink.transform(partial(bend, sag=sag))
    elif style == "multi_oriented":
        angle = random.choice((-1, 1)) * random.uniform(8, 30)
        ink = crop_to_ink(ink.transform(partial(rotate, angle=angle)))
    else:
        ink = ink.transform(partial(rotate, angle=random.normal(0, 1.0)))
    ink = place_on_canvas(ink, config.image, random)
    if style == "salient":
        ink = replace(ink, mask=_add_distractor(ink.mask, config, random))
    return paint(ink.mask, config.look == "coloured", random), ink


def _draw_word(text: str, style: str, size: int, random: Random, boxes: bool) -> WordInk:
    """The word's ink without empty edges.

    The artistic style has an outline, a shadow, a slant or none of these, equally likely.

    text: of the word.
    style: one of the English styles.
    size: of the font in pixels.
    random: source of all draws.
    boxes: whether the ink has masks of the characters."""
    table = faces("artistic" if style == "artistic" else "plain")
    face = font(*table[random.integers(len(table))], size)
    if style != "artistic":
        return crop_to_ink(draw_text(text, face, by_character=boxes))
    choice = int(random.integers(4))
    effects: dict[int, Effect] = {0: "outline", 1: "shadow"}
    ink = draw_text(text, face, effects.get(choice, "none"), boxes)
    if choice == 2:
        ink = ink.transform(partial(slant, share=random.uniform(-0.3, 0.3)))
    return crop_to_ink(ink)


def _add_distractor(canvas: Image.Image, config: Synthetic, random: Random) -> Image.Image:
    """Salient style: a part of another, fainter and smaller word above, below or at the right."""
    distractor = Image.new("L", canvas.size)
    table = faces("plain")
    face = font(*table[random.integers(len(table))], int(random.integers(10, 15)))
    text = sample_word(config, "train", random)
    _, _, right, _ = canvas.getbbox() or (0, 0, 0, 0)
    x = int(random.integers(0, 60))
    y = int(random.integers(2, 14))
    positions = [(x, -7), (x, canvas.height - 7), (right + 6, y)]
    position = positions[random.integers(len(positions))]
    fill = int(random.integers(90, 170))
    ImageDraw.Draw(distractor).text(position, text, fill=fill, font=face)
    return Image.fromarray(np.maximum(np.asarray(canvas), np.asarray(distractor)))
