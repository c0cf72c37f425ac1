"""The paint over the hidden letter of a word image.

Shapes: B images of H x W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.data.hidden_letter import HiddenColumns

MIDDLE_GRAY = 128  # paint of an image that is hidden as a whole


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
