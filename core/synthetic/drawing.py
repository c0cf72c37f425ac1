"""Words as masks and masks as pictures: what both languages of the embedded data set are drawn with.

A mask (L) is the word's ink, 255 where it covers fully."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Random = np.random.Generator


def draw_text(text: str, face: ImageFont.FreeTypeFont, trick: int) -> Image.Image:
    """The word as a mask with a margin. trick: 0 draws an outline, 1 a shadow, anything else neither."""
    left, top, right, bottom = face.getbbox(text)
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    place = (4 - left, 4 - top)
    draw = ImageDraw.Draw(canvas)
    if trick == 0:
        draw.text(place, text, fill=90, font=face, stroke_width=2, stroke_fill=255)
    elif trick == 1:
        draw.text((place[0] + 2, place[1] + 2), text, fill=110, font=face)
        draw.text(place, text, fill=255, font=face)
    else:
        draw.text(place, text, fill=255, font=face)
    return canvas


def slant(mask: Image.Image, share: float) -> Image.Image:
    """Lean the word: its upper edge moves by `share` of its height."""
    return mask.transform(
        mask.size, Image.Transform.AFFINE, (1, share, -share * mask.height / 2, 0, 1, 0)
    )


def cut_to_ink(mask: Image.Image) -> Image.Image:
    """The mask without empty edges; one empty pixel where there is no ink."""
    return mask.crop(mask.getbbox() or (0, 0, 1, 1))


def bend(mask: Image.Image, sag: float) -> Image.Image:
    """Shift columns along a parabola whose ends lie `sag` pixels lower (higher if negative) than its middle."""
    pixels = np.asarray(mask)
    height, width = pixels.shape
    shift = np.rint(
        abs(sag)
        * (np.linspace(-1, 1, width) ** 2 if sag > 0 else 1 - np.linspace(-1, 1, width) ** 2)
    ).astype(int)
    bent = np.zeros((height + int(np.ceil(abs(sag))), width), np.uint8)
    rows = np.arange(height)[:, None] + shift
    bent[rows, np.arange(width)] = pixels
    return Image.fromarray(bent)


def place(mask: Image.Image, image: tuple[int, int], random: Random) -> Image.Image:
    """The word on a canvas of the image's size: left-aligned, a little off, smaller where it would not fit."""
    height, width = image
    room = (width - 6, height - 4)
    scale = min(1.0, room[0] / mask.width, room[1] / mask.height)
    if scale < 1.0:
        mask = mask.resize(
            (max(1, round(mask.width * scale)), max(1, round(mask.height * scale))),
            Image.Resampling.BILINEAR,
        )
    canvas = Image.new("L", (width, height))
    free = height - mask.height
    y = min(max(round(free / 2 + random.normal(0, 1.2)), 0), free)
    canvas.paste(mask, (min(2 + int(random.integers(0, 3)), width - mask.width), y))
    return canvas


def paint(mask: Image.Image, color: bool, random: Random) -> Image.Image:
    """Ink on ground: a light, sloping ground and dark ink, or any two colors that differ enough; then blur and noise."""
    cover = np.asarray(mask, np.float32)[..., None] / 255
    if color:
        ground, ink = random.uniform(0, 255, (2, 3))
        while abs((ground - ink) @ (0.299, 0.587, 0.114)) < 60:
            ground, ink = random.uniform(0, 255, (2, 3))
    else:
        ground, ink = (
            random.uniform(170, 250, 3) * 0.3 + random.uniform(170, 250) * 0.7,
            random.uniform(0, 90, 3),
        )
    slope = random.uniform(-20, 20) * np.linspace(-1, 1, mask.width, dtype=np.float32)
    picture = (ground + slope[None, :, None]) * (1 - cover) + ink * cover
    picture += random.normal(0, random.uniform(1, 8), (mask.height, mask.width, 1)).astype(
        np.float32
    )
    painted = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    sigma = random.uniform(0, 0.9)
    return painted.filter(ImageFilter.GaussianBlur(sigma)) if sigma > 0.3 else painted
