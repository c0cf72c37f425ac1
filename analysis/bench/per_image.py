"""Guidance views (medium) made image by image, at source size, in random order of operations.

The baseline for speed and statistics of `core/views/guidance.py`. It implements the same
properties of the released code independently, with Pillow, scipy and torchvision; the two share
only the names of the drawn values. Pixels are integers of 0 to 255 between operations, as in
image files. Operations interpolate bilinearly and repeat the edge; the last resizing is bicubic.
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
MIN_OPERATIONS = 3
GRID = 4  # points along each side of the piecewise affine map
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


class Drawn(TypedDict):
    """The random values of one view, named as in `core.views.guidance.GuidanceDraws`."""

    chosen: dict[str, bool]
    crop: np.ndarray  # (2,) shares removed at top and bottom
    crop_sides: np.ndarray  # (2,) shares removed at left and right
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
    """Draw the random values of a guidance view."""
    uniform = generator.uniform
    count = int(generator.integers(MIN_OPERATIONS, len(OPERATIONS), endpoint=True))
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
    """(H, W, 3) float in [0, 255]."""
    return np.asarray(picture, np.float32)


def _picture(values: np.ndarray) -> Picture:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _crop(picture: Picture, left: float, top: float, right: float, bottom: float) -> Picture:
    """Remove shares of the sides and resize the rest to the former size."""
    width, height = picture.size
    return picture.resize(
        picture.size,
        BILINEAR,
        box=(left * width, top * height, (1 - right) * width, (1 - bottom) * height),
    )


def _sharpen(picture: Picture, alpha: float, lightness: float) -> Picture:
    edges = np.full((3, 3), -1.0)
    edges[1, 1] = 8 + lightness
    identity = np.zeros((3, 3))
    identity[1, 1] = 1
    kernel = (1 - alpha) * identity + alpha * edges
    return _picture(ndimage.correlate(_values(picture), kernel[:, :, None], mode="nearest"))


def _piecewise(picture: Picture, shifts: np.ndarray) -> Picture:
    """Move the points of a grid. Each cell is two triangles with an affine map each."""
    width, height = picture.size
    row, column = np.meshgrid(
        np.linspace(0, GRID - 1, height), np.linspace(0, GRID - 1, width), indexing="ij"
    )
    i = np.minimum(row.astype(int), GRID - 2)
    j = np.minimum(column.astype(int), GRID - 2)
    v = row - i
    u = column - j
    moved = (
        np.maximum(1 - u - v, 0) * shifts[:, i, j]
        + np.minimum(u, 1 - v) * shifts[:, i, j + 1]
        + np.minimum(v, 1 - u) * shifts[:, i + 1, j]
        + np.maximum(u + v - 1, 0) * shifts[:, i + 1, j + 1]
    )  # (2, H, W): x, y
    sides = np.array([height, width])[:, None, None]
    points = np.indices((height, width)) + moved[::-1] * sides  # (2, H, W): y, x in pixels
    channels = np.moveaxis(np.asarray(picture), -1, 0)
    sampled = [
        ndimage.map_coordinates(channel, points, order=1, mode="nearest") for channel in channels
    ]
    return Image.fromarray(np.stack(sampled, -1))


def _perspective(picture: Picture, inward: np.ndarray) -> Picture:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    inner = corners + inward * (1 - 2 * corners)
    start = (inner * picture.size).tolist()
    end = (corners * picture.size).tolist()
    moved: Picture = functional.perspective(
        picture, start, end, functional.InterpolationMode.BILINEAR
    )
    return moved


def _rotate(picture: Picture, angle: float) -> Picture:
    return Image.fromarray(
        ndimage.rotate(np.asarray(picture), -angle, reshape=True, order=1, mode="nearest")
    )


def _blur(picture: Picture, sigma: float) -> Picture:
    return _picture(ndimage.gaussian_filter(_values(picture), (sigma, sigma, 0), mode="nearest"))


OPERATIONS: dict[str, Callable[[Picture, Drawn], Picture]] = {
    "crop": lambda picture, drawn: _crop(picture, 0, drawn["crop"][0], 0, drawn["crop"][1]),
    "crop_sides": lambda picture, drawn: _crop(
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
    """The guidance view of one image, (3, H, W) in [0, 1].

    picture: the image, at its source size, at which operations are applied.
    drawn: the random values.
    size: (height, width) of the view.
    order: of operations and color jitter, by name."""
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
    """Draw and apply a guidance view: (3, H, W) in [0, 1], of (height, width) `size`."""
    drawn = draw_one(generator)
    order = [*generator.permutation(list(OPERATIONS)), *generator.permutation(list(JITTER))]
    return apply_one(picture, drawn, size, order)
