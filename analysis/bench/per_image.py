"""A guidance view (medium) as one makes it without batching: image by image, at source size, in random order.

The yardstick for speed and statistics of `core/views/guidance.py`: the same facts of the released code, written anew with Pillow,
scipy and torchvision, and sharing with it no more than the names of what is drawn. Between operations pixels are whole numbers
of 0 to 255, as images of files are. Operations sample bilinearly and repeat the edge; the last resizing is bicubic.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage
from torch import Tensor

from core.runtime.torchvision_shim import declare_missing_operators

declare_missing_operators()
from torchvision.transforms.v2 import functional  # noqa: E402  (must follow the declaration above)

Picture = Image.Image
LEAST = 3
GRID = 4  # points along each side, of the piecewise affine map
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


class Drawn(TypedDict):
    """What is drawn for one image, named as in `core.views.guidance.Draws`."""

    chosen: dict[str, bool]
    crop: np.ndarray  # (2,) shares cut from top and bottom
    crop_sides: np.ndarray  # (2,) shares cut from left and right
    angle: float  # degrees
    inward: np.ndarray  # (4, 2) shares of (width, height), corners clockwise from the top left
    shifts: np.ndarray  # (2, 4, 4) shares of width, of height
    sigma: float  # pixels
    alpha: float
    lightness: float
    contrast: float
    threshold: float  # of a range of 1
    gray: float
    jittered: bool
    grayed: bool
    saturation: float
    hue: float  # turns
    jitter_contrast: float
    brightness: float


def draw_one(generator: np.random.Generator) -> Drawn:
    """Draw a guidance view for one image."""
    uniform = generator.uniform
    count = int(generator.integers(LEAST, len(OPERATIONS), endpoint=True))
    names = set(generator.permutation(list(OPERATIONS))[:count].tolist())
    return {
        "chosen": {name: name in names for name in OPERATIONS},
        "crop": uniform(0, 0.1, 2),
        "crop_sides": uniform(0, 0.02, 2),
        "angle": uniform(-15, 15),
        "inward": np.abs(generator.normal(0, uniform(0.02, 0.06), (4, 2))),
        "shifts": generator.normal(0, uniform(0.03, 0.05), (2, GRID, GRID)),
        "sigma": uniform(0.5, 1.5),
        "alpha": uniform(0, 0.5),
        "lightness": uniform(0, 0.5),
        "contrast": uniform(0.5, 1),
        "threshold": uniform(32, 128) / 255,
        "gray": uniform(0, 1),
        "jittered": bool(uniform() < 0.8),
        "grayed": bool(uniform() < 0.2),
        "saturation": uniform(0.8, 1.2),
        "hue": uniform(-0.1, 0.1),
        "jitter_contrast": uniform(0.6, 1.4),
        "brightness": uniform(0.6, 1.4),
    }


def _values(picture: Picture) -> np.ndarray:
    """(H, W, 3) float, 0 to 255."""
    return np.asarray(picture, np.float32)


def _picture(values: np.ndarray) -> Picture:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _cut(picture: Picture, left: float, top: float, right: float, bottom: float) -> Picture:
    """Cut shares away and stretch the rest to the size it had."""
    width, height = picture.size
    return picture.resize(
        picture.size,
        BILINEAR,
        box=(left * width, top * height, (1 - right) * width, (1 - bottom) * height),
    )


def _sharpen(picture: Picture, alpha: float, lightness: float) -> Picture:
    effect = np.full((3, 3), -1.0)
    effect[1, 1] = 8 + lightness
    nothing = np.zeros((3, 3))
    nothing[1, 1] = 1
    kernel = (1 - alpha) * nothing + alpha * effect
    return _picture(ndimage.correlate(_values(picture), kernel[:, :, None], mode="nearest"))


def _piecewise(picture: Picture, shifts: np.ndarray) -> Picture:
    """Each cell of the grid is two triangles, and each triangle has its own affine map."""
    width, height = picture.size
    row, column = np.meshgrid(
        np.linspace(0, GRID - 1, height), np.linspace(0, GRID - 1, width), indexing="ij"
    )
    i, j = (np.minimum(along.astype(int), GRID - 2) for along in (row, column))
    v, u = row - i, column - j
    moved = (
        np.maximum(1 - u - v, 0) * shifts[:, i, j]
        + np.minimum(u, 1 - v) * shifts[:, i, j + 1]
        + np.minimum(v, 1 - u) * shifts[:, i + 1, j]
        + np.maximum(u + v - 1, 0) * shifts[:, i + 1, j + 1]
    )  # (2, H, W): x, y
    places = np.indices((height, width)) + moved[::-1] * np.array([height, width])[:, None, None]
    colors = np.moveaxis(np.asarray(picture), -1, 0)
    return Image.fromarray(
        np.stack(
            [ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in colors], -1
        )
    )


def _perspective(picture: Picture, inward: np.ndarray) -> Picture:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    inner = corners + inward * (1 - 2 * corners)
    start, end = ((points * picture.size).tolist() for points in (inner, corners))
    return functional.perspective(picture, start, end, functional.InterpolationMode.BILINEAR)


def _rotate(picture: Picture, angle: float) -> Picture:
    return Image.fromarray(
        ndimage.rotate(np.asarray(picture), -angle, reshape=True, order=1, mode="nearest")
    )


def _blur(picture: Picture, sigma: float) -> Picture:
    return _picture(ndimage.gaussian_filter(_values(picture), (sigma, sigma, 0), mode="nearest"))


OPERATIONS: dict[str, Callable[[Picture, Drawn], Picture]] = {
    "crop": lambda picture, drawn: _cut(picture, 0, drawn["crop"][0], 0, drawn["crop"][1]),
    "crop_sides": lambda picture, drawn: _cut(
        picture, drawn["crop_sides"][0], 0, drawn["crop_sides"][1], 0
    ),
    "rotate": lambda picture, drawn: _rotate(picture, drawn["angle"]),
    "perspective": lambda picture, drawn: _perspective(picture, drawn["inward"]),
    "piecewise": lambda picture, drawn: _piecewise(picture, drawn["shifts"]),
    "blur": lambda picture, drawn: _blur(picture, drawn["sigma"]),
    "sharpen": lambda picture, drawn: _sharpen(picture, drawn["alpha"], drawn["lightness"]),
    "contrast": lambda picture, drawn: _picture(
        127.5 + drawn["contrast"] * (_values(picture) - 127.5)
    ),
    "solarize": lambda picture, drawn: ImageOps.solarize(
        picture, math.ceil(255 * drawn["threshold"])
    ),
    "gray": lambda picture, drawn: ImageEnhance.Color(picture).enhance(1 - drawn["gray"]),
}
JITTER: dict[str, Callable[[Picture, Drawn], Picture]] = {
    "saturation": lambda picture, drawn: functional.adjust_saturation(picture, drawn["saturation"]),
    "hue": lambda picture, drawn: functional.adjust_hue(picture, drawn["hue"]),
    "jitter_contrast": lambda picture, drawn: functional.adjust_contrast(
        picture, drawn["jitter_contrast"]
    ),
    "brightness": lambda picture, drawn: functional.adjust_brightness(picture, drawn["brightness"]),
}
FIXED = (*OPERATIONS, *JITTER)  # the order of `core/views/guidance.py`


def apply_one(
    picture: Picture, drawn: Drawn, size: tuple[int, int], order: Sequence[str] = FIXED
) -> Tensor:
    """(3, H, W) in [0, 1] of (height, width) `size`: what was drawn, at the picture's own size, in the given order."""
    for name in order:
        if drawn["chosen"].get(name):
            picture = OPERATIONS[name](picture, drawn)
    picture = picture.resize(size[::-1], BICUBIC)
    for name in order:
        if drawn["jittered"] and name in JITTER:
            picture = JITTER[name](picture, drawn)
    if drawn["grayed"]:
        picture = functional.rgb_to_grayscale(picture, 3)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def per_image_view(
    picture: Picture, size: tuple[int, int], generator: np.random.Generator
) -> Tensor:
    """(3, H, W) in [0, 1] of (height, width) `size`: a guidance view of one image."""
    drawn = draw_one(generator)
    order = [*generator.permutation(list(OPERATIONS)), *generator.permutation(list(JITTER))]
    return apply_one(picture, drawn, size, order)
