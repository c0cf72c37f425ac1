"""A hidden letter: its columns, its paint, and that nothing of it is left."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from core.config import Encoder
from core.data.hidden_letter import (
    MIDDLE_GRAY,
    HiddenColumns,
    hidden_columns,
    hidden_place,
    hide,
    own_column,
)

ENCODER = Encoder(image=(32, 64), patch=(16, 8), width=16, depth=1, heads=2, positions="grid")


def _images(count: int) -> Tensor:
    source = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 32, 64), generator=source, dtype=torch.uint8)


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


def test_only_the_hidden_columns_are_painted() -> None:
    images = _images(2)
    columns = [HiddenColumns(10, 20), HiddenColumns(0, 5)]
    painted = hide(images, columns)
    for before, after, (left, right) in zip(images, painted, columns, strict=True):
        assert torch.equal(before[:, :, :left], after[:, :, :left])
        assert torch.equal(before[:, :, right:], after[:, :, right:])
        inside = after[:, :, left:right].flatten(1)
        assert bool((inside == inside[:, :1]).all())


@pytest.mark.parametrize("columns", [(10, 20), (0, 12), (50, 64), (0, 64)])
def test_the_painted_image_does_not_depend_on_the_hidden_pixels(columns: tuple[int, int]) -> None:
    images = _images(1)
    other = images.clone()
    other[:, :, :, columns[0] : columns[1]] = 255 - other[:, :, :, columns[0] : columns[1]]
    hidden = [HiddenColumns(*columns)]
    assert torch.equal(hide(images, hidden), hide(other, hidden))


def test_the_paint_is_the_color_of_the_visible_border() -> None:
    images = torch.full((1, 3, 32, 64), 200, dtype=torch.uint8)
    images[:, :, 8:24, 4:60] = 10  # ink
    images[:, 1, [0, -1]] = 90
    images[:, 1, :, [0, -1]] = 90
    painted = hide(images, [HiddenColumns(20, 30)])
    assert painted[0, :, 16, 25].tolist() == [200, 90, 200]
    hidden = hide(images, [HiddenColumns(0, 64)])
    assert bool((hidden == MIDDLE_GRAY).all())
