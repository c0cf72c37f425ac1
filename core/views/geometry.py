"""Geometry and color of a whole batch at once: one composed warp, one composed color matrix.

Coordinates are pixels from the image's center, (x, y). A warp is given backwards, from output to input: a 3 x 3 matrix per
image, applied to (x, y, 1). Composing is multiplying: the operation that comes first stands leftmost.
"""

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)


def uniform(low: float, high: float, *shape: int, generator: torch.Generator) -> Tensor:
    """Uniform draws in [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def identity(batch: int) -> Tensor:
    """(B, 3, 3) warps, or color matrices, that change nothing."""
    return torch.eye(3).repeat(batch, 1, 1)


def crop(left: Tensor, right: Tensor, top: Tensor, bottom: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut away the given shares (B,) of width and height, and stretch the rest to the full size (height, width)."""
    height, width = size
    matrix = identity(len(left))
    matrix[:, 0, 0], matrix[:, 0, 2] = 1 - left - right, (left - right) * width / 2
    matrix[:, 1, 1], matrix[:, 1, 2] = 1 - top - bottom, (top - bottom) * height / 2
    return matrix


def rotate(angle: Tensor, size: tuple[int, int]) -> Tensor:
    """Rotate by `angle` (B,) radians on a canvas that grows to hold all of the image, resized back to (height, width)."""
    height, width = size
    cos, sin = angle.cos(), angle.sin()
    grown = torch.stack(
        [width * cos.abs() + height * sin.abs(), width * sin.abs() + height * cos.abs()], dim=1
    )
    matrix = identity(len(angle))
    matrix[:, 0, 0], matrix[:, 0, 1] = cos, sin
    matrix[:, 1, 0], matrix[:, 1, 1] = -sin, cos
    matrix[:, :2, :2] *= (grown / torch.tensor([width, height]))[:, None]
    return matrix


def shear_and_scale(shear_x: Tensor, shear_y: Tensor, scale_x: Tensor, scale_y: Tensor) -> Tensor:
    """Shear (tangents) and scale, each (B,)."""
    matrix = identity(len(shear_x))
    matrix[:, 0, 0], matrix[:, 0, 1] = 1 / scale_x, shear_x
    matrix[:, 1, 0], matrix[:, 1, 1] = shear_y, 1 / scale_y
    return matrix


def perspective(inward: Tensor, size: tuple[int, int]) -> Tensor:
    """Move the four corners inward by shares (B, 4, 2) of (width, height) and stretch that quadrangle to the full size."""
    height, width = size
    outer = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * torch.tensor(
        [width / 2, height / 2]
    )
    inner = outer - outer.sign() * inward * torch.tensor([width, height])  # (B, 4, 2)
    x, y = outer.T.expand(len(inward), -1, -1).unbind(1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack(
        [x, y, one, zero, zero, zero, -inner[..., 0] * x, -inner[..., 0] * y], dim=-1
    )
    rows_v = torch.stack(
        [zero, zero, zero, x, y, one, -inner[..., 1] * x, -inner[..., 1] * y], dim=-1
    )
    system = torch.cat([rows_u, rows_v], dim=1)  # (B, 8, 8)
    right_side = torch.cat([inner[..., 0], inner[..., 1]], dim=1)
    solution = torch.linalg.solve(system, right_side)
    return torch.cat([solution, torch.ones(len(inward), 1)], dim=1).view(-1, 3, 3)


def apply_warp(images: Tensor, matrix: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Warp (B, 3, H, W) by (B, 3, 3); `shifts` (B, 2, h, w), in pixels, is a coarse field of local displacements (x, y).

    Bilinear; what lies outside repeats the edge."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    points = torch.stack(
        [x.expand(height, -1), y[:, None].expand(-1, width), torch.ones_like(x).expand(height, -1)]
    )
    mapped = matrix.to(images) @ points.flatten(1)  # (B, 3, H * W)
    source = (mapped[:, :2] / mapped[:, 2:]).view(-1, 2, height, width)
    if shifts is not None:
        source = source + functional.interpolate(
            shifts.to(images), (height, width), mode="bilinear", align_corners=True
        )
    grid = (source * (2 / images.new_tensor([width, height]).view(2, 1, 1))).permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def saturation_and_hue(saturation: Tensor, hue: Tensor) -> Tensor:
    """Color matrices (B, 3, 3): saturation factor (B,), 0 gray and 1 unchanged; hue turned by `hue` (B,) radians in YIQ."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    turn = torch.zeros(len(hue), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2] = saturation * hue.cos(), -saturation * hue.sin()
    turn[:, 2, 1], turn[:, 2, 2] = saturation * hue.sin(), saturation * hue.cos()
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq


def apply_color(images: Tensor, matrix: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Color matrix (B, 3, 3), contrast (B,) about the image's mean gray, brightness factor (B,); clamped to [0, 1]."""
    mixed = torch.einsum("bij,bjhw->bihw", matrix.to(images), images)
    gray = torch.einsum("c,bchw->b", mixed.new_tensor(LUMA), mixed) / mixed[0, 0].numel()
    contrast, brightness = (value.to(images).view(-1, 1, 1, 1) for value in (contrast, brightness))
    return (
        ((mixed - gray.view(-1, 1, 1, 1)) * contrast + gray.view(-1, 1, 1, 1)) * brightness
    ).clamp(0, 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each image by its own sigma (B,), in pixels; the kernel is cut five pixels out."""
    batch, colors, height, width = images.shape
    distance = torch.arange(-5, 6, device=images.device)
    kernel = torch.exp(-0.5 * (distance / sigma.to(images)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(colors, 0)  # (B * 3, 11)
    padded = functional.pad(images, (5, 5, 5, 5), mode="replicate").view(
        1, batch * colors, height + 10, width + 10
    )
    blurred = functional.conv2d(padded, kernel[:, None, None, :], groups=batch * colors)
    return functional.conv2d(blurred, kernel[:, None, :, None], groups=batch * colors).view_as(
        images
    )
