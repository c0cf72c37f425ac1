"""Augmentation of fine-tuning after ABINet (arXiv 2103.06495).

Geometry has probability 0.5, deterioration 0.25, color 0.25. Kind and strength of geometry and
deterioration are drawn for each image or, as in the released code, once per worker process. Which
images are changed, and all colors, are always drawn for each image.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from core.views import color, filters, geometry
from core.views.random_draws import small_beta, symmetric_beta, uniform

GEOMETRY_PROBABILITY = 0.5
DETERIORATION_PROBABILITY = 0.25
COLOR_PROBABILITY = 0.25
FACTORS = (2, 3, 4)  # by which resolution is reduced


@dataclass(frozen=True)
class AugmentationDraws:
    """Kind and strength of geometry and deterioration for B images.

    A deterioration that was not chosen has strength 0."""

    matrix: Tensor  # (B, 3, 3) a rotation up to 45 degrees, an affine map or a perspective
    deviation: Tensor  # (B,) of noise, in [0, 1]
    sigma: Tensor  # (B,) of blur, in pixels
    factor: Tensor  # (B,) by which resolution is reduced: 2 to 4

    def of(self, images: Tensor) -> "AugmentationDraws":
        """The draws with the given numbers (B,)."""
        return AugmentationDraws(*(getattr(self, field.name)[images] for field in fields(self)))


def sample_augmentation(
    batch: int, size: tuple[int, int], *, generator: torch.Generator
) -> AugmentationDraws:
    """Draws for `batch` images of (height, width) `size` pixels."""
    warps = _sample_warps(batch, size, generator)
    kind = torch.randint(len(warps), (batch,), generator=generator)
    noisy, blurred, rescaled = torch.rand(3, batch, generator=generator) < 0.5
    deviation = (20 * small_beta(batch, generator=generator)).sqrt() / 255
    sigma = 0.3 + 1.7 * small_beta(batch, generator=generator)
    factor = torch.randint(FACTORS[0], FACTORS[-1] + 1, (batch,), generator=generator)
    return AugmentationDraws(
        matrix=torch.stack(warps)[kind, torch.arange(batch)],
        deviation=deviation * noisy,
        sigma=sigma * blurred,
        factor=factor * rescaled,
    )


def _sample_warps(batch: int, size: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
    """For each image a rotation, an affine map and a perspective: (B, 3, 3) each."""
    height, width = size
    rotation = geometry.rotate(symmetric_beta(batch, generator=generator) * math.pi / 4, size)
    shear_x = (symmetric_beta(batch, generator=generator) * math.pi / 4).tan()
    shear_y = (symmetric_beta(batch, generator=generator) * math.pi / 12).tan() * height / width
    scale_x = 2 ** -(symmetric_beta(batch, generator=generator).abs())
    scale_y = 2 ** -(symmetric_beta(batch, generator=generator).abs())
    affine = geometry.shear_and_scale(shear_x, shear_y, scale_x, scale_y)
    inward = small_beta(batch, 4, 2, generator=generator) * 0.25
    return [rotation, affine, geometry.perspective(inward, size)]


def augment(
    images: Tensor,
    positions: Tensor,
    batch: int,
    draws: AugmentationDraws | None = None,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Augment some images of a batch; (B, 3, H, W) in [0, 1].

    An image's draws follow from its position alone and are equal on every device.

    images: (B, 3, H, W) in [0, 1].
    positions: (B,) the images' positions in the batch.
    batch: images of the whole batch.
    draws: those of the whole run, used by the positions in turn; None samples for each position.
    generator: a CPU generator."""
    size = (images.shape[-2], images.shape[-1])
    if draws is None:
        drawn = sample_augmentation(batch, size, generator=generator).of(positions)
    else:
        drawn = draws.of(positions % len(draws.sigma))
    warped = torch.rand(batch, generator=generator)[positions] < GEOMETRY_PROBABILITY
    unchanged = geometry.identity(len(positions))
    matrix = torch.where(warped[:, None, None], drawn.matrix, unchanged)
    images = geometry.apply_warp(images, matrix)
    images = _deteriorate(images, positions, batch, drawn, generator)
    return _change_colors(images, positions, batch, generator)


def _deteriorate(
    images: Tensor,
    positions: Tensor,
    batch: int,
    draws: AugmentationDraws,
    generator: torch.Generator,
) -> Tensor:
    """Add noise, blur and reduce the resolution of some images; arguments as in `augment`."""
    chosen = torch.rand(batch, generator=generator)[positions] < DETERIORATION_PROBABILITY
    noise = torch.randn(batch, *images.shape[1:], generator=generator)[positions]
    noise = noise * (draws.deviation * chosen).view(-1, 1, 1, 1)
    images = (images + noise.to(images)).clamp(0, 1)
    sigma = draws.sigma * chosen
    factors = draws.factor * chosen
    if (rows := sigma.nonzero()[:, 0]).numel():
        images[rows] = filters.blur(images[rows], sigma[rows])
    for factor in FACTORS:
        if (rows := (factors == factor).nonzero()[:, 0]).numel():
            images[rows] = filters.reduce_resolution(images[rows], factor)
    return images


def _change_colors(
    images: Tensor, positions: Tensor, batch: int, generator: torch.Generator
) -> Tensor:
    """Change saturation, contrast, brightness and hue of some images."""
    chosen = torch.rand(batch, generator=generator)[positions] < COLOR_PROBABILITY

    def factor() -> Tensor:
        drawn = uniform(0.5, 1.5, batch, generator=generator)[positions]
        return torch.where(chosen, drawn, torch.ones(()))

    saturation = factor()
    contrast = factor()
    brightness = factor()
    turns = uniform(-0.1, 0.1, batch, generator=generator)[positions]
    hue = turns * 2 * math.pi * chosen
    matrix = color.saturation_and_hue(saturation, hue)
    return color.apply_color(images, matrix, contrast, brightness)
