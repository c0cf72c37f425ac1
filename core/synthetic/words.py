"""Rendering of single words. An image is deterministic in (seed, split, index) of its config.

The test subsets have the styles that their names say. `core/synthetic/scene.py` renders the look
of photographs, `core/synthetic/chinese.py` Chinese words.
"""

import numpy as np
from PIL import Image, ImageDraw

from core.synthetic.chinese import render_chinese
from core.synthetic.cjk_fonts import cjk_faces
from core.synthetic.config import CHINESE_SUBSETS, ENGLISH_SUBSETS, Synthetic, split_sizes
from core.synthetic.drawing import (
    Effect,
    Random,
    bend,
    crop_to_ink,
    draw_text,
    paint,
    place_on_canvas,
    slant,
)
from core.synthetic.fonts import faces, font
from core.synthetic.scene import render_scene, scene_label
from core.synthetic.vocabulary import sample_word, vocabulary_characters

LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
SPECIAL_STYLES = ENGLISH_SUBSETS[:-1]  # all but general


def render_word(config: Synthetic, split: str, index: int) -> tuple[Image.Image, str]:
    """Image number `index` of a split, and its label.

    Training and validation mix the styles of all subsets."""
    number = 1 + list(split_sizes(config)).index(split)
    random = np.random.default_rng([config.seed, number, index])
    if config.look == "scene":
        text = scene_label(sample_word(config, split, random), random)
        return render_scene(text, random), text
    if config.language == "zh":
        text = sample_word(config, split, random)
        style = split if split in CHINESE_SUBSETS else str(random.choice(CHINESE_SUBSETS))
        fonts = cjk_faces(vocabulary_characters(config))
        return render_chinese(text, style, config.image, fonts, random), text
    style = split if split in ENGLISH_SUBSETS else _sample_style(config, random)
    text = _sample_label(config, split, style, random)
    return _render_english(config, text, style, random), text


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


def _render_english(config: Synthetic, text: str, style: str, random: Random) -> Image.Image:
    """The text in one of the English styles."""
    mask = _draw_word(text, style, int(random.integers(19, 24)), random)
    if style == "curve":
        mask = bend(mask, random.choice((-1, 1)) * random.uniform(4, 10))
    elif style == "multi_oriented":
        angle = random.choice((-1, 1)) * random.uniform(8, 30)
        mask = mask.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        mask = mask.crop(mask.getbbox())
    else:
        mask = mask.rotate(random.normal(0, 1.0), Image.Resampling.BILINEAR, expand=True)
    canvas = place_on_canvas(mask, config.image, random)
    if style == "salient":
        canvas = _add_distractor(canvas, config, random)
    return paint(canvas, config.look == "coloured", random)


def _draw_word(text: str, style: str, size: int, random: Random) -> Image.Image:
    """The word as a mask without empty edges.

    The artistic style has an outline, a shadow, a slant or none of these, equally likely."""
    table = faces("artistic" if style == "artistic" else "plain")
    face = font(*table[random.integers(len(table))], size)
    if style != "artistic":
        return crop_to_ink(draw_text(text, face))
    choice = int(random.integers(4))
    effects: dict[int, Effect] = {0: "outline", 1: "shadow"}
    mask = draw_text(text, face, effects.get(choice, "none"))
    if choice == 2:
        mask = slant(mask, random.uniform(-0.3, 0.3))
    return crop_to_ink(mask)


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
