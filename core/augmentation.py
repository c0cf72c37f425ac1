"""Fine-tuning's augmentation after ABINet (arXiv 2103.06495): geometry p 0.5, deterioration p 0.25, colour p 0.25.

Kind and strength are drawn for each image (the released code drew them once per process). Batched as in `core/guidance.py`.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from core import warp


def symmetric(batch: int, *, generator: torch.Generator) -> Tensor:
    """(B,) draws in [-1, 1] of a Beta(4, 4): the middle one of seven uniforms."""
    return torch.rand(batch, 7, generator=generator).sort(1).values[:, 3] * 2 - 1


def small(batch: int, *shape: int, generator: torch.Generator) -> Tensor:
    """(B, ...) draws in [0, 1] of a Beta(1, 4): mostly small."""
    return 1 - torch.rand(batch, *shape, generator=generator) ** 0.25


def _geometry(batch: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, 3, 3): half unchanged, the rest a rotation up to 45 degrees, an affine map or a perspective, evenly."""
    kinds = [
        warp.rotate(symmetric(batch, generator=generator) * math.pi / 4, size),
        warp.shear_and_scale(
            (symmetric(batch, generator=generator) * math.pi / 4).tan(),
            (symmetric(batch, generator=generator) * math.pi / 12).tan() * size[0] / size[1],
            *(2 ** -(symmetric(batch, generator=generator).abs()) for _ in range(2)),
        ),
        warp.perspective(small(batch, 4, 2, generator=generator) * 0.25, size),
    ]
    kind = torch.randint(len(kinds), (batch,), generator=generator)
    changed = torch.rand(batch, generator=generator) < 0.5
    picked = torch.stack(kinds)[kind, torch.arange(batch)]
    return torch.where(changed[:, None, None], picked, warp.identity(batch))


def _rescale(images: Tensor, factor: int) -> Tensor:
    """Lose detail: down by `factor` and up again."""
    small_size = [max(1, side // factor) for side in images.shape[-2:]]
    return functional.interpolate(functional.interpolate(images, small_size, mode="area"), images.shape[-2:], mode="bilinear")


def augment(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> augmented, in [0, 1]. `generator` is a CPU generator; draws are equal on every device."""
    batch, size = len(images), (images.shape[-2], images.shape[-1])
    images = warp.apply_warp(images, _geometry(batch, size, generator))

    noise, blurred, rescaled = (torch.rand(3, batch, generator=generator) < 0.5) & (
        torch.rand(batch, generator=generator) < 0.25
    )
    deviation = (20 * small(batch, generator=generator)).sqrt() / 255 * noise
    grain = torch.randn(images.shape, generator=generator) * deviation.view(-1, 1, 1, 1)
    images = (images + grain.to(images)).clamp(0, 1)
    sigma = 0.3 + 1.7 * small(batch, generator=generator)
    factors = torch.randint(2, 5, (batch,), generator=generator) * rescaled
    if (rows := blurred.nonzero()[:, 0]).numel():
        images[rows] = warp.blur(images[rows], sigma[rows])
    for factor in (2, 3, 4):
        if (rows := (factors == factor).nonzero()[:, 0]).numel():
            images[rows] = _rescale(images[rows], factor)

    coloured = torch.rand(batch, generator=generator) < 0.25
    half = [torch.where(coloured, warp.uniform(0.5, 1.5, batch, generator=generator), torch.ones(batch)) for _ in range(3)]
    hue = torch.where(coloured, warp.uniform(-0.1, 0.1, batch, generator=generator) * 2 * math.pi, torch.zeros(batch))
    return warp.apply_colour(images, warp.saturation_and_hue(half[0], hue), half[1], half[2])
