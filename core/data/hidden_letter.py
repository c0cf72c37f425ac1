"""One hidden letter of a word image: which one, and which columns of pixels.

The letter follows from the number of the image alone. So the same letter is hidden in every run,
and in the image of the same number of another data set whose words have the same lengths.
"""

from typing import NamedTuple

import numpy as np

from core.config import Encoder

PLACES = 4301  # seed of the hidden places


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
