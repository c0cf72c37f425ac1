"""Words in the look of photographs (`look: scene`), as a camera sees them on signs.

A word is drawn large, spaced, bent and transformed, then put on a background with texture and
edges. It is cropped tightly, as annotators crop it. Then it loses detail: blur, noise, few pixels,
JPEG. Each image keeps its own size, like crops of photographs.
"""

from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.synthetic.fonts import faces, font
from core.synthetic.ink import WordInk

Random = np.random.Generator
GRAY = np.array((0.299, 0.587, 0.114))  # gray of (red, green, blue)
SYMBOLS = "!&'-.,:/$#@%?()"
SEPARATORS = ".:-/$%"  # inside numbers
ENDINGS = ("'s", ".", ",", "!", ":", "-")
CODE_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def render_scene(text: str, random: Random, boxes: bool = False) -> tuple[Image.Image, WordInk]:
    """One word as a crop of a photograph, and its ink on it.

    text: of the word.
    random: source of all draws.
    boxes: whether the ink has masks of the characters. They have neither outline nor shadow."""
    ink = _annotated_crop(_transform(_draw_word(text, random, boxes), random), random)
    image = _degrade(_paint(ink.mask, random), random)
    return image, ink.transform(lambda mask: mask.resize(image.size, Image.Resampling.BOX))


def scene_label(word: str, random: Random) -> str:
    """A word as signs show it: upper case, capitalized or lower case.

    Sometimes it is replaced by a number or a code, or gets a symbol."""
    kind = random.random()
    if kind < 0.1:
        return _number(random)
    if kind < 0.17:
        return "".join(random.choice(list(CODE_CHARACTERS), random.integers(1, 8)))
    case = random.random()
    text = word
    if case < 0.45:
        text = word.upper()
    elif case < 0.75:
        text = word.capitalize()
    if kind < 0.2:
        text += str(random.choice(ENDINGS))
    elif kind < 0.21:
        text = str(random.choice(list(SYMBOLS))) + text
    return text


def _number(random: Random) -> str:
    """One to five digits, sometimes with a separator before the last one."""
    digits = "".join(map(str, random.integers(0, 10, random.integers(1, 6))))
    if random.random() < 0.7:
        return digits
    return f"{digits[:-1]}{random.choice(list(SEPARATORS))}{digits[-1]}"


def _draw_word(text: str, random: Random, boxes: bool) -> WordInk:
    """The word's ink with a margin. The arguments are those of `render_scene`."""
    table = faces("scene")
    size = int(random.integers(22, 34))
    face = font(*table[random.integers(len(table))], size)
    widely_spaced = random.random() < 0.2
    spacing = size * (random.uniform(0.05, 0.45) if widely_spaced else random.uniform(-0.04, 0.05))
    stroke = int(random.random() < 0.12)
    width = int(sum(face.getlength(letter) + spacing for letter in text)) + 4 * size
    mask = Image.new("L", (width, 3 * size))
    draw = ImageDraw.Draw(mask)
    sag = 0.0
    if random.random() < 0.15:  # along an arc
        sag = random.uniform(-0.8, 0.8) * size
    middle = width / 2
    half_span = width / 2 - 2 * size + 1
    characters: list[Image.Image] = []
    x = 2.0 * size
    for letter in text:
        advance = face.getlength(letter)
        offset = sag * (((x + advance / 2 - middle) / half_span) ** 2 - 0.5)
        position = (round(x), round(size * 0.8 + offset))
        draw.text(position, letter, fill=255, font=face, stroke_width=stroke)
        if boxes:
            character = Image.new("L", mask.size)
            pen = ImageDraw.Draw(character)
            pen.text(position, letter, fill=255, font=face, stroke_width=stroke)
            characters.append(character)
        x += advance + spacing
    return WordInk(mask, tuple(characters))


def _transform(ink: WordInk, random: Random) -> WordInk:
    """Slant, rotate, stretch and tilt by one projective map; the canvas grows to fit."""
    slant = random.normal(0, 0.15) if random.random() < 0.4 else 0.0
    rotated = random.random() < 0.15
    angle = np.deg2rad(random.normal(0, 12) if rotated else random.normal(0, 2.5))
    stretch = np.exp(random.normal(0, 0.25))
    tilt = random.normal(0, 0.12, 2) * (random.random() < 0.4)
    width, height = ink.mask.size
    cos = np.cos(angle)
    sin = np.sin(angle)
    center = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    affine = np.array(
        [[stretch * cos, stretch * (slant * cos - sin), 0], [sin, slant * sin + cos, 0], [0, 0, 1]]
    )
    perspective = np.array([[1, 0, 0], [0, 1, 0], [tilt[0] / width, tilt[1] / height, 1]])
    forward = perspective @ affine @ center
    corners = forward @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
    corners = corners[:2] / corners[2]
    low = corners.min(1)
    high = corners.max(1)
    forward = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]) @ forward
    inverse = np.linalg.inv(forward)
    coefficients = tuple((inverse / inverse[2, 2]).flatten()[:8])
    size = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    return ink.transform(partial(_project, size=size, coefficients=coefficients))


def _project(
    mask: Image.Image, size: tuple[int, int], coefficients: tuple[float, ...]
) -> Image.Image:
    """The mask by a projective map. size: (width, height). coefficients: Pillow's eight."""
    method = Image.Transform.PERSPECTIVE
    return mask.transform(size, method, coefficients, Image.Resampling.BILINEAR)


def _annotated_crop(ink: WordInk, random: Random) -> WordInk:
    """The box of an annotator: the ink with a small margin, sometimes slightly too small."""
    left, top, right, bottom = ink.mask.getbbox() or (0, 0, *ink.mask.size)
    height = bottom - top
    margins = height * random.uniform(-0.03, 0.22, 4) * (random.random(4) < 0.85)
    box = (
        round(left - margins[0]),
        round(top - margins[1]),
        round(right + margins[2]),
        round(bottom + margins[3]),
    )
    return ink.transform(lambda mask: mask.crop(box))


def _paint(mask: Image.Image, random: Random) -> np.ndarray:
    """(H, W, 3) ink on a background, sometimes with a shadow or an outline."""
    background, ink = _colors(random)
    pixels = _background(mask.size, background, random)
    cover = np.asarray(mask, np.float32)[..., None] / 255  # (H, W, 1)
    third_color = random.uniform(0, 255, 3)
    effect = random.random()
    if effect < 0.15:  # shadow
        x, y = (int(value) for value in random.integers(-4, 5, 2))
        shadow = np.roll(cover, (y, x), (0, 1)) * random.uniform(0.3, 0.9)
        shade = background * 0.3 if random.random() < 0.7 else third_color
        pixels = pixels * (1 - shadow) + shade * shadow
    elif effect < 0.27:  # outline
        wide = mask.filter(ImageFilter.MaxFilter(int(random.choice((3, 5, 7)))))
        outline = np.asarray(wide, np.float32)[..., None] / 255
        edge = 255 - ink if random.random() < 0.5 else third_color
        pixels = pixels * (1 - outline) + edge * outline
    slope = random.normal(0, 18)
    down = np.linspace(-1, 1, mask.height)[:, None, None]
    gradient = slope * down * (random.random() < 0.3)
    cover = cover * random.uniform(0.8, 1)
    painted: np.ndarray = pixels * (1 - cover) + (ink + gradient) * cover
    return painted


def _colors(random: Random) -> tuple[np.ndarray, np.ndarray]:
    """Background and ink (3,) with enough contrast; often gray, often black or white ink."""
    while True:
        background, ink = random.uniform(0, 255, (2, 3))
        is_gray = random.random(2) < (0.35, 0.45)
        if is_gray[0]:
            background = np.full(3, background.mean())
        dark = random.uniform(0, 50)
        light = random.uniform(200, 255)
        gray_ink = random.choice((dark, light))
        if is_gray[1]:
            ink = np.full(3, gray_ink)
        if abs((background - ink) @ GRAY) > random.uniform(25, 90):
            return background, ink


def _background(size: tuple[int, int], color: np.ndarray, random: Random) -> np.ndarray:
    """(H, W, 3) brightness gradient, often with soft texture, sometimes with bars or boxes."""
    width, height = size
    across = np.linspace(-1, 1, width)[None, :, None]
    down = np.linspace(-1, 1, height)[:, None, None]
    surface = color + random.normal(0, 14) * across + random.normal(0, 10) * down
    if random.random() < 0.5:
        deviation = random.uniform(2, 22)
        cells = (int(random.integers(2, 6)), int(random.integers(3, 14)))
        noise = Image.fromarray(random.normal(0, deviation, cells).astype(np.float32))
        surface = surface + np.asarray(noise.resize(size, Image.Resampling.BICUBIC))[..., None]
    if random.random() < 0.25:
        surface = _add_shapes(surface, color, random)
    return surface


def _add_shapes(surface: np.ndarray, color: np.ndarray, random: Random) -> np.ndarray:
    """(H, W, 3) with one to three lines or rectangles of similar colors."""
    image = Image.fromarray(np.clip(surface, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(1, 4))):
        shade = tuple(int(value) for value in np.clip(color + random.normal(0, 35, 3), 0, 255))
        x = random.uniform(-0.2, 1.2, 2) * image.width
        y = random.uniform(-0.2, 1.2, 2) * image.height
        if random.random() < 0.5:
            thickness = int(random.integers(1, 5))
            draw.line([(x[0], y[0]), (x[1], y[1])], fill=shade, width=thickness)
        else:
            draw.rectangle([x.min(), y.min(), x.max(), y.max()], fill=shade)
    return np.asarray(image, np.float32)


def _degrade(pixels: np.ndarray, random: Random) -> Image.Image:
    """(H, W, 3) -> an image with few pixels, often with blur, and with noise."""
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    # In pixels; the median of street crops is about 30.
    height = int(np.clip(np.exp(random.normal(3.4, 0.45)), 11, 64))
    stretch = np.exp(random.normal(0, 0.1))
    width = max(4, round(image.width * height / image.height * stretch))
    box = random.random() < 0.5
    resampling = Image.Resampling.BOX if box else Image.Resampling.BICUBIC
    image = image.resize((width, height), resampling)
    if random.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 0.045 * height)))
    deviation = random.uniform(0, 9)
    noise = random.normal(0, deviation, (height, width, 1))
    noisy = np.asarray(image, np.float32) + noise
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
