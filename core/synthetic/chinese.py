"""Chinese words in the styles of the four subsets of the Chinese benchmark; no photographs.

- scene: any two colors, rotated or bent, sometimes with an outline or a shadow.
- web: any two colors, horizontal.
- document: dark ink on a light background.
- handwriting: each character is rotated, scaled and shifted separately; strokes vary in thickness.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.synthetic.cjk_fonts import cjk_font
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
from core.synthetic.ink import WordInk

Fonts = tuple[Path, ...]
EFFECTS: tuple[Effect, ...] = ("outline", "shadow", "none", "none", "none")  # equally likely


def render_chinese(
    text: str,
    style: str,
    size: tuple[int, int],
    fonts: Fonts,
    random: Random,
    boxes: bool = False,
) -> tuple[Image.Image, WordInk]:
    """One word as an image, and its ink on it.

    text: Chinese characters.
    style: one of the four subsets.
    size: (height, width) of the image.
    fonts: font files that have all characters; one is chosen.
    random: source of all draws.
    boxes: whether the ink has masks of the characters."""
    colored = style in ("scene", "web")
    font_size = int(random.integers(20, 26))
    if style == "handwriting":
        ink = _draw_handwriting(text, font_size, fonts, random, boxes)
    else:
        effect = EFFECTS[random.integers(len(EFFECTS))] if colored else "none"
        face = cjk_font(fonts[random.integers(len(fonts))], font_size)
        ink = draw_text(text, face, effect, boxes)
    angle = random.normal(0, 1.0)
    if style == "scene":
        if random.random() < 0.3:
            sag = random.choice((-1, 1)) * random.uniform(2, 8)
            ink = crop_to_ink(ink).transform(partial(bend, sag=sag))
        angle = random.normal(0, 7)
    ink = crop_to_ink(ink.transform(partial(rotate, angle=angle)))
    canvas = place_on_canvas(ink, size, random)
    return paint(canvas.mask, colored, random), canvas


def _draw_handwriting(text: str, size: int, fonts: Fonts, random: Random, boxes: bool) -> WordInk:
    """The ink of a word whose characters are drawn separately.

    size: mean height of the characters in pixels. The other arguments are those of
    `render_chinese`."""
    path = fonts[random.integers(len(fonts))]
    mask = Image.new("L", (int((len(text) + 1) * size * 1.4), 2 * size))
    characters: list[Image.Image] = []
    x = size * 0.4
    for character in text:
        character_size = int(size * random.uniform(0.85, 1.12))
        face = cjk_font(path, character_size)
        tile = Image.new("L", (2 * size, 2 * size))
        ImageDraw.Draw(tile).text((size, size), character, fill=255, font=face, anchor="mm")
        tile = tile.rotate(random.normal(0, 6), Image.Resampling.BILINEAR)
        canvas = Image.new("L", mask.size)
        canvas.paste(tile, (round(x - size / 2), round(random.normal(0, 0.06 * size))))
        mask = Image.fromarray(np.maximum(np.asarray(mask), np.asarray(canvas)))
        if boxes:
            characters.append(canvas)
        x += character_size * random.uniform(0.92, 1.1)
    thickness = random.uniform(0, 0.6)
    ink = WordInk(mask, tuple(characters)).transform(partial(_thicken, share=thickness))
    return ink.transform(partial(slant, share=random.uniform(-0.25, 0.25)))


def _thicken(mask: Image.Image, share: float) -> Image.Image:
    """The mask, blended with its strokes grown by one pixel. share: of the grown mask."""
    return Image.blend(mask, mask.filter(ImageFilter.MaxFilter(3)), share)
