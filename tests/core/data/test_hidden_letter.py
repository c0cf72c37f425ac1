"""A hidden letter: its place and its columns."""

from collections import Counter

import pytest

from core.config import Encoder
from core.data.hidden_letter import (
    hidden_columns,
    hidden_place,
    own_column,
)

ENCODER = Encoder(image=(32, 64), patch=(16, 8), width=16, depth=1, heads=2, positions="grid")


def test_the_hidden_place_follows_from_the_number_alone() -> None:
    numbers = range(2000)
    places = [hidden_place(number, 4) for number in numbers]
    backwards = [hidden_place(number, 4) for number in reversed(numbers)]
    assert places == backwards[::-1]
    counts = Counter(places)
    assert set(counts) == {0, 1, 2, 3}
    assert all(abs(count - 500) < 100 for count in counts.values())


@pytest.mark.parametrize(
    ("left", "right", "margin", "expected"),
    [
        (20, 30, 2, (18, 32)),  # the box and its margin; the own column is 24 to 32
        (27, 29, 2, (24, 32)),  # a narrow letter: its whole column of patches
        (26, 38, 0, (26, 40)),  # the own column, 32 to 40, is wider than the box at the right
        (0, 6, 4, (0, 10)),
        (58, 64, 4, (54, 64)),
    ],
)
def test_hidden_columns_cover_box_margin_and_own_patches(
    left: int, right: int, margin: int, expected: tuple[int, int]
) -> None:
    columns = hidden_columns(left / 64, right / 64, ENCODER, margin)
    assert columns == expected
    own = 8 * own_column((left + right) / 128, 8)
    assert columns.left <= own < own + 8 <= columns.right
