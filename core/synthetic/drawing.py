"""Words as masks of ink, and masks as images: used for English and Chinese words.

A mask is a gray image (mode L) of the word's ink, 255 where ink covers a pixel fully.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from core.synthetic.ink import WordInk

Random = np.random.Generator
Effect = Literal["none", "outline", "shadow"]
MARGIN = 4  # pixels around the word
OUTLINE = 2  # pixels
GRAY = (0.299, 0.587, 0.114)  # gray of (red, green, blue)
MIN_CONTRAST = 60  # gray levels between ink and background
FREE = (6, 4)  # pixels of width and height that a word leaves free on its image


def draw_text(
    text: str, face: ImageFont.FreeTypeFont, effect: Effect = "none", by_character: bool = False
) -> WordInk:
    """The word's ink with a margin.

    text: of the word.
    face: the font.
    effect: the masks of the characters include the outline, but not the shadow.
    by_character: whether the characters get masks, too."""
    left, top, right, bottom = face.getbbox(text)
    mask = Image.new("L", (int(right - left) + 2 * MARGIN, int(bottom - top) + 2 * MARGIN))
    x = MARGIN - left
    y = MARGIN - top
    characters: tuple[Image.Image, ...] = ()
    if by_character:
        characters = tuple(_character_masks(text, face, (x, y), mask.size))
    draw = ImageDraw.Draw(mask)
    if effect == "outline":
        draw.text((x, y), text, fill=90, font=face, stroke_width=OUTLINE, stroke_fill=255)
        grown = ImageFilter.MaxFilter(2 * OUTLINE + 1)
        return WordInk(mask, tuple(character.filter(grown) for character in characters))
    if effect == "shadow":
        draw.text((x + 2, y + 2), text, fill=110, font=face)
    draw.text((x, y), text, fill=255, font=face)
    return WordInk(mask, characters)


def _character_masks(
    text: str, face: ImageFont.FreeTypeFont, position: tuple[float, float], size: tuple[int, int]
) -> Iterator[Image.Image]:
    """The mask of each character: what it adds to the text before it.

    text: of the word.
    face: the font.
    position: at which the whole text is drawn.
    size: (width, height) of the masks."""
    previous = Image.new("L", size)
    for count in range(1, len(text) + 1):
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).text(position, text[:count], fill=255, font=face)
        yield ImageChops.difference(mask, previous)
        previous = mask


def rotate(mask: Image.Image, angle: float) -> Image.Image:
    """Rotate the word by `angle` degrees counterclockwise; the mask grows to fit."""
    return mask.rotate(angle, Image.Resampling.BILINEAR, expand=True)


def slant(mask: Image.Image, share: float) -> Image.Image:
    """Shear the word: its upper edge moves by `share` of its height."""
    shear = (1, share, -share * mask.height / 2, 0, 1, 0)
    return mask.transform(mask.size, Image.Transform.AFFINE, shear)


def crop_to_ink(ink: WordInk) -> WordInk:
    """The ink without empty edges; one empty pixel if there is no ink."""
    box = ink.mask.getbbox() or (0, 0, 1, 1)
    return ink.transform(lambda mask: mask.crop(box))


def bend(mask: Image.Image, sag: float) -> Image.Image:
    """Shift columns along a parabola.

    sag: pixels by which the ends lie lower than the middle; negative: higher."""
    pixels = np.asarray(mask)
    height, width = pixels.shape
    parabola = np.linspace(-1, 1, width) ** 2
    shift = np.rint(abs(sag) * (parabola if sag > 0 else 1 - parabola)).astype(int)
    bent = np.zeros((height + int(np.ceil(abs(sag))), width), np.uint8)
    rows = np.arange(height)[:, None] + shift
    bent[rows, np.arange(width)] = pixels
    return Image.fromarray(bent)


def place_on_canvas(ink: WordInk, size: tuple[int, int], random: Random) -> WordInk:
    """The word on masks of (height, width) `size`: at the left, shifted slightly at random.

    A word that does not fit is downscaled."""
    height, width = size
    word = ink.mask.size
    scale = min(1.0, (width - FREE[0]) / word[0], (height - FREE[1]) / word[1])
    if scale < 1.0:
        scaled = (max(1, round(word[0] * scale)), max(1, round(word[1] * scale)))
        ink = ink.transform(lambda mask: mask.resize(scaled, Image.Resampling.BILINEAR))
    free = height - ink.mask.height
    y = min(max(round(free / 2 + random.normal(0, 1.2)), 0), free)
    x = min(2 + int(random.integers(0, 3)), width - ink.mask.width)

    def on_canvas(mask: Image.Image) -> Image.Image:
        canvas = Image.new("L", (width, height))
        canvas.paste(mask, (x, y))
        return canvas

    return ink.transform(on_canvas)


def paint(mask: Image.Image, colored: bool, random: Random) -> Image.Image:
    """Ink on a background with a brightness gradient, then noise and often blur.

    colored: any two colors of enough contrast, else dark ink on a light background."""
    cover = np.asarray(mask, np.float32)[..., None] / 255  # (H, W, 1)
    background, ink = _any_colors(random) if colored else _page_colors(random)
    gradient = random.uniform(-20, 20) * np.linspace(-1, 1, mask.width, dtype=np.float32)
    pixels = (background + gradient[None, :, None]) * (1 - cover) + ink * cover  # (H, W, 3)
    deviation = random.uniform(1, 8)
    pixels += random.normal(0, deviation, (mask.height, mask.width, 1)).astype(np.float32)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    sigma = random.uniform(0, 0.9)
    return image.filter(ImageFilter.GaussianBlur(sigma)) if sigma > 0.3 else image


def _any_colors(random: Random) -> tuple[np.ndarray, np.ndarray]:
    """Background and ink (3,) with at least MIN_CONTRAST."""
    while True:
        background, ink = random.uniform(0, 255, (2, 3))
        if abs((background - ink) @ GRAY) >= MIN_CONTRAST:
            return background, ink


def _page_colors(random: Random) -> tuple[np.ndarray, np.ndarray]:
    """A light background and dark ink, (3,) each."""
    tint = random.uniform(170, 250, 3)
    background = tint * 0.3 + random.uniform(170, 250) * 0.7
    return background, random.uniform(0, 90, 3)
