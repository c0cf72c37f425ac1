"""The paint over a hidden letter: nothing of the letter is left."""

import pytest
import torch
from torch import Tensor

from core.data.hidden_letter import HiddenColumns
from core.probes.hidden_pixels import MIDDLE_GRAY, hide


def _images(count: int) -> Tensor:
    source = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 32, 64), generator=source, dtype=torch.uint8)


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
