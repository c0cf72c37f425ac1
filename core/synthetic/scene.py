"""Words as a camera sees them on signs: the look `scene` of the embedded data set.

A word is drawn large, spaced, bent and turned, set on a ground with texture and edges, cut tightly as annotators cut it, and
then loses detail: blur, noise, few pixels, JPEG. Every image keeps its own size, as crops of photographs do.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.synthetic.fonts import faces, font

Random = np.random.Generator
GRAY = np.array((0.299, 0.587, 0.114))
SYMBOLS = "!&'-.,:/$#@%?()"


def scene_label(word: str, random: Random) -> str:
    """A word as signs write it: upper case, capitalized or lower case; at times a number, a code, or with a symbol."""
    kind = random.random()
    if kind < 0.1:
        digits = "".join(map(str, random.integers(0, 10, random.integers(1, 6))))
        return (
            digits
            if random.random() < 0.7
            else f"{digits[:-1]}{random.choice(list('.:-/$%'))}{digits[-1]}"
        )
    if kind < 0.17:
        letters = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        return "".join(random.choice(letters, random.integers(1, 8)))
    case = random.random()
    text = word.upper() if case < 0.45 else word.capitalize() if case < 0.75 else word
    if kind < 0.2:
        text += str(random.choice(["'s", ".", ",", "!", ":", "-"]))
    elif kind < 0.21:
        text = str(random.choice(list(SYMBOLS))) + text
    return text


def _draw_word(text: str, random: Random) -> tuple[Image.Image, int]:
    """The word as a mask (L) with room around it, and the height of its letters in pixels."""
    table = faces("scene")
    size = int(random.integers(22, 34))
    face = font(*table[random.integers(len(table))], size)
    spacing = (
        random.uniform(0.05, 0.45) * size
        if random.random() < 0.2
        else random.uniform(-0.04, 0.05) * size
    )
    stroke = int(random.random() < 0.12)
    width = int(sum(face.getlength(letter) + spacing for letter in text)) + 4 * size
    mask = Image.new("L", (width, 3 * size))
    draw = ImageDraw.Draw(mask)
    x, sag = 2.0 * size, 0.0
    if random.random() < 0.15:  # along an arc
        sag = random.uniform(-0.8, 0.8) * size
    middle, span = width / 2, width / 2 - 2 * size + 1
    for letter in text:
        advance = face.getlength(letter)
        offset = sag * (((x + advance / 2 - middle) / span) ** 2 - 0.5)
        draw.text(
            (round(x), round(size * 0.8 + offset)), letter, fill=255, font=face, stroke_width=stroke
        )
        x += advance + spacing
    return mask, size


def _turn(mask: Image.Image, size: int, random: Random) -> Image.Image:
    """Slant, rotation, stretch and perspective in one projective map."""
    slant = random.normal(0, 0.15) if random.random() < 0.4 else 0.0
    angle = np.deg2rad(random.normal(0, 12) if random.random() < 0.15 else random.normal(0, 2.5))
    stretch = np.exp(random.normal(0, 0.25))
    width, height = mask.size
    tilt = random.normal(0, 0.12, 2) * (random.random() < 0.4)
    cos, sin = np.cos(angle), np.sin(angle)
    about = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    affine = np.array(
        [[stretch * cos, stretch * (slant * cos - sin), 0], [sin, slant * sin + cos, 0], [0, 0, 1]]
    )
    perspective = np.array([[1, 0, 0], [0, 1, 0], [tilt[0] / width, tilt[1] / height, 1]])
    forward = perspective @ affine @ about
    corners = forward @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
    corners = corners[:2] / corners[2]
    low, high = corners.min(1), corners.max(1)
    forward = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]) @ forward
    inverse = np.linalg.inv(forward)
    coefficients = tuple((inverse / inverse[2, 2]).flatten()[:8])
    new = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    return mask.transform(new, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)


def _cut(mask: Image.Image, random: Random) -> Image.Image:
    """The annotator's box: the ink with a small margin, at times a little inside it."""
    left, top, right, bottom = mask.getbbox() or (0, 0, mask.width, mask.height)
    height = bottom - top
    margins = height * random.uniform(-0.03, 0.22, 4) * (random.random(4) < 0.85)
    box = (left - margins[0], top - margins[1], right + margins[2], bottom + margins[3])
    return mask.crop(tuple(round(side) for side in box))


def _ground(size: tuple[int, int], color: np.ndarray, random: Random) -> np.ndarray:
    """(H, W, 3) a surface: a slope of light, soft texture, at times bars or boxes of another color."""
    width, height = size
    across, down = (
        np.linspace(-1, 1, width)[None, :, None],
        np.linspace(-1, 1, height)[:, None, None],
    )
    surface = color + random.normal(0, 14) * across + random.normal(0, 10) * down
    if random.random() < 0.5:
        cells = random.normal(
            0, random.uniform(2, 22), (int(random.integers(2, 6)), int(random.integers(3, 14)))
        ).astype(np.float32)
        surface = (
            surface
            + np.asarray(Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC))[..., None]
        )
    if random.random() < 0.25:
        picture = Image.fromarray(np.clip(surface, 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        for _ in range(int(random.integers(1, 4))):
            shade = tuple(int(value) for value in np.clip(color + random.normal(0, 35, 3), 0, 255))
            x, y = random.uniform(-0.2, 1.2, 2) * width, random.uniform(-0.2, 1.2, 2) * height
            if random.random() < 0.5:
                draw.line(
                    [(x[0], y[0]), (x[1], y[1])], fill=shade, width=int(random.integers(1, 5))
                )
            else:
                draw.rectangle([x.min(), y.min(), x.max(), y.max()], fill=shade)
        surface = np.asarray(picture, np.float32)
    return surface


def _colors(random: Random) -> tuple[np.ndarray, np.ndarray]:
    """Ground and ink, different enough to be read; often gray, often black or white ink."""
    while True:
        ground, ink = random.uniform(0, 255, (2, 3))
        gray = random.random(2) < (0.35, 0.45)
        ground = np.where(gray[0], ground.mean(), ground)
        ink = np.where(
            gray[1], random.choice((random.uniform(0, 50), random.uniform(200, 255))), ink
        )
        if abs((ground - ink) @ GRAY) > random.uniform(25, 90):
            return ground, ink


def _shift(mask: np.ndarray, x: int, y: int) -> np.ndarray:
    return np.roll(mask, (y, x), (0, 1))


def _paint(mask: Image.Image, size: int, random: Random) -> np.ndarray:
    """(H, W, 3) ink on ground, with a shadow or an outline at times."""
    ground, ink = _colors(random)
    picture = _ground(mask.size, ground, random)
    cover = np.asarray(mask, np.float32)[..., None] / 255
    other = random.uniform(0, 255, 3)
    trick = random.random()
    if trick < 0.15:  # shadow
        x, y = (int(value) for value in random.integers(-4, 5, 2))
        behind = _shift(cover, x, y) * random.uniform(0.3, 0.9)
        picture = (
            picture * (1 - behind) + np.where(random.random() < 0.7, ground * 0.3, other) * behind
        )
    elif trick < 0.27:  # outline
        wide = mask.filter(ImageFilter.MaxFilter(int(random.choice((3, 5, 7)))))
        outline = np.asarray(wide, np.float32)[..., None] / 255
        edge = np.where(random.random() < 0.5, 255 - ink, other)
        picture = picture * (1 - outline) + edge * outline
    slope = (
        random.normal(0, 18)
        * np.linspace(-1, 1, mask.height)[:, None, None]
        * (random.random() < 0.3)
    )
    cover = cover * random.uniform(0.8, 1)
    return picture * (1 - cover) + (ink + slope) * cover


def _photograph(picture: np.ndarray, random: Random) -> Image.Image:
    """Few pixels, blur and noise."""
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    height = int(
        np.clip(np.exp(random.normal(3.4, 0.45)), 11, 64)
    )  # pixels; the median of street crops is about 30
    width = max(4, round(image.width * height / image.height * np.exp(random.normal(0, 0.1))))
    image = image.resize(
        (width, height), Image.Resampling.BOX if random.random() < 0.5 else Image.Resampling.BICUBIC
    )
    if random.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 0.045 * height)))
    pixels = np.asarray(image, np.float32) + random.normal(
        0, random.uniform(0, 9), (height, width, 1)
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def render_scene(text: str, random: Random) -> Image.Image:
    """One word as a crop of a photograph."""
    mask, size = _draw_word(text, random)
    mask = _cut(_turn(mask, size, random), random)
    return _photograph(_paint(mask, size, random), random)
