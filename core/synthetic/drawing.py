"""Words as masks, and masks as images: used for English and Chinese words.

A mask is a gray image (mode L) of the word's ink, 255 where ink covers a pixel fully.
"""

from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Random = np.random.Generator
Effect = Literal["none", "outline", "shadow"]
MARGIN = 4  # pixels around the word
GRAY = (0.299, 0.587, 0.114)  # gray of (red, green, blue)
MIN_CONTRAST = 60  # gray levels between ink and background
FREE = (6, 4)  # pixels of width and height that a word leaves free on its image


def draw_text(text: str, face: ImageFont.FreeTypeFont, effect: Effect = "none") -> Image.Image:
    """The word as a mask with a margin."""
    left, top, right, bottom = face.getbbox(text)
    mask = Image.new("L", (int(right - left) + 2 * MARGIN, int(bottom - top) + 2 * MARGIN))
    x = MARGIN - left
    y = MARGIN - top
    draw = ImageDraw.Draw(mask)
    if effect == "outline":
        draw.text((x, y), text, fill=90, font=face, stroke_width=2, stroke_fill=255)
        return mask
    if effect == "shadow":
        draw.text((x + 2, y + 2), text, fill=110, font=face)
    draw.text((x, y), text, fill=255, font=face)
    return mask


def slant(mask: Image.Image, share: float) -> Image.Image:
    """Shear the word: its upper edge moves by `share` of its height."""
    shear = (1, share, -share * mask.height / 2, 0, 1, 0)
    return mask.transform(mask.size, Image.Transform.AFFINE, shear)


def crop_to_ink(mask: Image.Image) -> Image.Image:
    """The mask without empty edges; one empty pixel if there is no ink."""
    return mask.crop(mask.getbbox() or (0, 0, 1, 1))


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


def place_on_canvas(mask: Image.Image, size: tuple[int, int], random: Random) -> Image.Image:
    """The word on a mask of (height, width) `size`: at the left, shifted slightly at random.

    A word that does not fit is downscaled."""
    height, width = size
    scale = min(1.0, (width - FREE[0]) / mask.width, (height - FREE[1]) / mask.height)
    if scale < 1.0:
        scaled = (max(1, round(mask.width * scale)), max(1, round(mask.height * scale)))
        mask = mask.resize(scaled, Image.Resampling.BILINEAR)
    canvas = Image.new("L", (width, height))
    free = height - mask.height
    y = min(max(round(free / 2 + random.normal(0, 1.2)), 0), free)
    x = min(2 + int(random.integers(0, 3)), width - mask.width)
    canvas.paste(mask, (x, y))
    return canvas


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
