"""One hidden letter of a word image: which one, which columns of pixels, and their paint.

The letter follows from the number of the image alone. So the same letter is hidden in every run,
and in the image of the same number of another data set whose words have the same lengths.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.config import Encoder

PLACES = 4301  # seed of the hidden places
MIDDLE_GRAY = 128  # paint of an image that is hidden as a whole


class HiddenColumns(NamedTuple):
    """Columns of pixels, from `left` to before `right`, at the encoder's image size."""

    left: int
    right: int


def hidden_place(number: int, count: int) -> int:
    """The place of the hidden letter. number: of the image. count: letters to choose from."""
    return int(np.random.default_rng([PLACES, number]).integers(count))


def own_column(middle: float, columns: int) -> int:
    """The column of patches at a position. middle: share of the width. columns: of patches."""
    return min(max(int(middle * columns), 0), columns - 1)


def hidden_columns(left: float, right: float, encoder: Encoder, margin: int) -> HiddenColumns:
    """The columns of pixels that hide a letter.

    They cover its box and a margin on both sides, and the whole column of patches under its middle,
    so that these patches show no ink at all.

    left, right: of the box, as shares of the image's width.
    encoder: which sees the image.
    margin: in pixels."""
    width = encoder.image[1]
    patch = encoder.patch[1]
    start = patch * own_column((left + right) / 2, encoder.grid[1])
    first = min(int(np.floor(left * width)) - margin, start)
    last = max(int(np.ceil(right * width)) + margin, start + patch)
    return HiddenColumns(max(first, 0), min(last, width))


def hide(images: Tensor, columns: Sequence[HiddenColumns]) -> Tensor:
    """The images with columns of pixels painted in the color of their border.

    The color is the median of each channel over the pixels of the image's border that stay visible.
    So the result does not depend on the hidden pixels.

    images: (B, 3, H, W) uint8. columns: (B)."""
    painted = images.clone()
    for image, (left, right) in zip(painted, columns, strict=True):
        image[:, :, left:right] = _border_color(image, left, right)[:, None, None]
    return painted


def _border_color(image: Tensor, left: int, right: int) -> Tensor:
    """(3,) uint8. image: (3, H, W) uint8. left, right: columns that do not count."""
    rows = image[:, [0, -1]]  # (3, 2, W)
    parts = [rows[:, :, :left].flatten(1), rows[:, :, right:].flatten(1)]
    if left > 0:
        parts.append(image[:, :, 0])
    if right < image.shape[2]:
        parts.append(image[:, :, -1])
    border = torch.cat(parts, 1)
    if not border.shape[1]:
        return torch.full((3,), MIDDLE_GRAY, dtype=torch.uint8)
    return border.median(1).values
