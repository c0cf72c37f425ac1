"""Rendered Chinese words in the four manners of the Chinese benchmark's subsets: what its names say, no photographs.

scene: any two colors, turned or bent, at times outlined or with a shadow. web: any two colors, level. document: dark ink on
light ground. handwriting: every character turned, sized and placed by itself, strokes of any thickness, all leaning."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.synthetic.drawing import Random, bend, cut_to_ink, draw_text, paint, place, slant
from core.synthetic.fonts import cjk_font

Fonts = tuple[Path, ...]
MANNERS = ("scene", "web", "document", "handwriting")


@cache
def frequent_words(count: int, letters: tuple[int, int]) -> dict[str, float]:
    """The `count` most frequent Chinese words of wordfreq that are characters alone, with their frequency.

    letters: least and most characters of a word."""
    from wordfreq import get_frequency_dict, iter_wordlist

    frequencies = get_frequency_dict("zh")
    words: dict[str, float] = {}
    for word in iter_wordlist("zh"):
        if letters[0] <= len(word) <= letters[1] and all(
            "\u4e00" <= character <= "\u9fff" for character in word
        ):
            words[word] = frequencies[word]
        if len(words) == count:
            break
    return words


def _by_hand(text: str, size: int, fonts: Fonts, random: Random) -> Image.Image:
    """Characters drawn one by one, none quite like the last."""
    face = fonts[random.integers(len(fonts))]
    mask = Image.new("L", (int((len(text) + 1) * size * 1.4), 2 * size))
    x = size * 0.4
    for character in text:
        own = int(size * random.uniform(0.85, 1.12))
        tile = Image.new("L", (2 * size, 2 * size))
        ImageDraw.Draw(tile).text(
            (size, size), character, fill=255, font=cjk_font(face, own), anchor="mm"
        )
        tile = tile.rotate(random.normal(0, 6), Image.Resampling.BILINEAR)
        canvas = Image.new("L", mask.size)
        canvas.paste(tile, (round(x - size / 2), round(random.normal(0, 0.06 * size))))
        mask = Image.fromarray(np.maximum(np.asarray(mask), np.asarray(canvas)))
        x += own * random.uniform(0.92, 1.1)
    mask = Image.blend(mask, mask.filter(ImageFilter.MaxFilter(3)), random.uniform(0, 0.6))
    return slant(mask, random.uniform(-0.25, 0.25))


def render_chinese(
    text: str, manner: str, image: tuple[int, int], fonts: Fonts, random: Random
) -> Image.Image:
    """One word in one of the four manners and one of the fonts, as a picture of (height, width) `image` pixels."""
    size = int(random.integers(20, 26))
    if manner == "handwriting":
        mask = _by_hand(text, size, fonts, random)
    else:
        trick = int(random.integers(5)) if manner in ("scene", "web") else 2
        mask = draw_text(text, cjk_font(fonts[random.integers(len(fonts))], size), trick)
    angle = random.normal(0, 1.0)
    if manner == "scene":
        if random.random() < 0.3:
            mask = bend(cut_to_ink(mask), random.choice((-1, 1)) * random.uniform(2, 8))
        angle = random.normal(0, 7)
    mask = cut_to_ink(mask.rotate(angle, Image.Resampling.BILINEAR, expand=True))
    return paint(place(mask, image, random), manner in ("scene", "web"), random)
