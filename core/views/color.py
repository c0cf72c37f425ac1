"""Colors of a whole batch at once: color matrices, contrast and brightness."""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # gray of (red, green, blue), ITU-R BT.601
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def saturation_and_hue(saturation: Tensor, hue: Tensor) -> Tensor:
    """(B, 3, 3) color matrices.

    saturation: (B,) factors; 0 gives gray, 1 changes nothing.
    hue: (B,) radians, a rotation of the chroma plane of YIQ."""
    to_yiq = torch.tensor(YIQ)
    rotation = torch.zeros(len(hue), 3, 3)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = saturation * hue.cos()
    rotation[:, 1, 2] = -saturation * hue.sin()
    rotation[:, 2, 1] = saturation * hue.sin()
    rotation[:, 2, 2] = saturation * hue.cos()
    matrices: Tensor = torch.linalg.inv(to_yiq) @ rotation @ to_yiq
    return matrices


def apply_color(images: Tensor, matrix: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Change colors, then contrast, then brightness; clamped to [0, 1].

    images: (B, 3, H, W) in [0, 1]. matrix: (B, 3, 3) color matrices.
    contrast: (B,) factors about the image's mean gray. brightness: (B,) factors."""
    mixed = torch.einsum("bij,bjhw->bihw", matrix.to(images), images)
    gray_sum = torch.einsum("c,bchw->b", mixed.new_tensor(LUMA), mixed)
    gray = per_image(gray_sum / mixed[0, 0].numel(), images)
    contrasted = (mixed - gray) * per_image(contrast, images) + gray
    return (contrasted * per_image(brightness, images)).clamp(0, 1)


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1) in the type and on the device of `images`."""
    return values.to(images).view(-1, 1, 1, 1)
