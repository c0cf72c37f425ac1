"""Geometry of a whole batch at once, as one composed warp per image.

Coordinates are pixels from the image's center, (x, y). A warp maps output to input: a 3 x 3 matrix
per image, applied to (x, y, 1). Warps are composed by matrix products; the operation that comes
first is the leftmost factor.
"""

import torch
from torch import Tensor
from torch.nn import functional


def identity(batch: int) -> Tensor:
    """(B, 3, 3) warps that change nothing."""
    return torch.eye(3).repeat(batch, 1, 1)


def crop(left: Tensor, right: Tensor, top: Tensor, bottom: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop, then stretch the rest to the full size; (B, 3, 3).

    left, right, top, bottom: (B,) shares of width or height to remove at each side.
    size: (height, width) of the images."""
    height, width = size
    matrix = identity(len(left))
    matrix[:, 0, 0] = 1 - left - right
    matrix[:, 0, 2] = (left - right) * width / 2
    matrix[:, 1, 1] = 1 - top - bottom
    matrix[:, 1, 2] = (top - bottom) * height / 2
    return matrix


def rotate(angle: Tensor, size: tuple[int, int]) -> Tensor:
    """Rotate by `angle` (B,) radians; (B, 3, 3).

    The canvas grows to contain the whole image, and is resized back to (height, width) `size`."""
    height, width = size
    cos = angle.cos()
    sin = angle.sin()
    grown_width = width * cos.abs() + height * sin.abs()
    grown_height = width * sin.abs() + height * cos.abs()
    grown = torch.stack([grown_width, grown_height], dim=1)  # (B, 2)
    matrix = identity(len(angle))
    matrix[:, 0, 0] = cos
    matrix[:, 0, 1] = sin
    matrix[:, 1, 0] = -sin
    matrix[:, 1, 1] = cos
    matrix[:, :2, :2] *= (grown / torch.tensor([width, height]))[:, None]
    return matrix


def shear_and_scale(shear_x: Tensor, shear_y: Tensor, scale_x: Tensor, scale_y: Tensor) -> Tensor:
    """Shear (tangents of angles) and scale; each (B,) -> (B, 3, 3)."""
    matrix = identity(len(shear_x))
    matrix[:, 0, 0] = 1 / scale_x
    matrix[:, 0, 1] = shear_x
    matrix[:, 1, 0] = shear_y
    matrix[:, 1, 1] = 1 / scale_y
    return matrix


def perspective(inward: Tensor, size: tuple[int, int]) -> Tensor:
    """Stretch a quadrangle inside the image to the full size; (B, 3, 3).

    inward: (B, 4, 2) shares of (width, height) by which its corners lie inside those of the image,
    clockwise from the top left.
    size: (height, width) of the images."""
    height, width = size
    half_size = torch.tensor([width / 2, height / 2])
    outer = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * half_size  # (4, 2)
    inner = outer - outer.sign() * inward * torch.tensor([width, height])  # (B, 4, 2)
    # Each corner gives two linear equations in the first eight entries of the matrix.
    x, y = outer.T.expand(len(inward), -1, -1).unbind(1)  # (B, 4) each
    ones = torch.ones_like(x)
    zeros = torch.zeros_like(x)
    u = inner[..., 0]
    v = inner[..., 1]
    equations_u = torch.stack([x, y, ones, zeros, zeros, zeros, -u * x, -u * y], dim=-1)
    equations_v = torch.stack([zeros, zeros, zeros, x, y, ones, -v * x, -v * y], dim=-1)
    system = torch.cat([equations_u, equations_v], dim=1)  # (B, 8, 8)
    solution = torch.linalg.solve(system, torch.cat([u, v], dim=1))  # (B, 8)
    return torch.cat([solution, torch.ones(len(inward), 1)], dim=1).view(-1, 3, 3)


def apply_warp(images: Tensor, matrix: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Warp images with bilinear sampling; pixels outside the image repeat its edge.

    images: (B, 3, H, W). matrix: (B, 3, 3).
    shifts: (B, 2, h, w) pixels, a coarse grid of local displacements (x, y), or None."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    columns = x.expand(height, -1)
    rows = y[:, None].expand(-1, width)
    points = torch.stack([columns, rows, torch.ones_like(columns)])  # (3, H, W)
    mapped = matrix.to(images) @ points.flatten(1)  # (B, 3, H * W)
    source = (mapped[:, :2] / mapped[:, 2:]).view(-1, 2, height, width)
    if shifts is not None:
        source = source + functional.interpolate(
            shifts.to(images), (height, width), mode="bilinear", align_corners=True
        )
    scale = 2 / images.new_tensor([width, height]).view(2, 1, 1)
    grid = (source * scale).permute(0, 2, 3, 1)  # (B, H, W, 2) in [-1, 1]
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
