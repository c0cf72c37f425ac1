"""Filters of a whole batch at once, each image with its own strength."""

import torch
from torch import Tensor
from torch.nn import functional

from core.views.color import per_image

RADIUS = 5  # pixels of the blur's kernel on each side of its center


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with sigma (B,) pixels; the kernel is cut at RADIUS pixels."""
    batch, colors, height, width = images.shape
    distance = torch.arange(-RADIUS, RADIUS + 1, device=images.device)
    kernel = torch.exp(-0.5 * (distance / sigma.to(images)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    kernel = kernel.repeat_interleave(colors, 0)  # (B * 3, 11)
    padded = functional.pad(images, (RADIUS,) * 4, mode="replicate")
    channels = padded.view(1, batch * colors, height + 2 * RADIUS, width + 2 * RADIUS)
    across = functional.conv2d(channels, kernel[:, None, None, :], groups=batch * colors)
    blurred = functional.conv2d(across, kernel[:, None, :, None], groups=batch * colors)
    return blurred.view_as(images)


def sharpen(images: Tensor, alpha: Tensor, lightness: Tensor) -> Tensor:
    """Blend with an edge filter: (1 - alpha) x + alpha (9 x - sum of 3 x 3 + lightness x).

    images: (B, 3, H, W). alpha, lightness: (B,)."""
    alpha = per_image(alpha, images)
    lightness = per_image(lightness, images)
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    edges = 9 * images - (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:])
    return (1 - alpha) * images + alpha * (edges + lightness * images)


def reduce_resolution(images: Tensor, factor: int) -> Tensor:
    """Downscale (B, 3, H, W) by `factor`, then upscale to the former size."""
    reduced_size = [max(1, side // factor) for side in images.shape[-2:]]
    reduced = functional.interpolate(images, reduced_size, mode="area")
    return functional.interpolate(reduced, images.shape[-2:], mode="bilinear")
