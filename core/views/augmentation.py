"""Fine-tuning's augmentation after ABINet (arXiv 2103.06495): geometry p 0.5, deterioration p 0.25, color p 0.25.

Kind and strength of geometry and deterioration are drawn for each image, or, as in the released code, once for each of some
processes; which images are changed, and all colors, are drawn for each image either way. Batched as in `core/views/guidance.py`.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from core.views import geometry


def symmetric(batch: int, *, generator: torch.Generator) -> Tensor:
    """(B,) draws in [-1, 1] of a Beta(4, 4): the middle one of seven uniforms."""
    return torch.rand(batch, 7, generator=generator).sort(1).values[:, 3] * 2 - 1


def small(batch: int, *shape: int, generator: torch.Generator) -> Tensor:
    """(B, ...) draws in [0, 1] of a Beta(1, 4): mostly small."""
    return 1 - torch.rand(batch, *shape, generator=generator) ** 0.25


@dataclass(frozen=True)
class Draws:
    """Kind and strength of geometry and deterioration, B of them; a deterioration that was not chosen has strength 0."""

    matrix: Tensor  # (B, 3, 3) a rotation up to 45 degrees, an affine map or a perspective, evenly
    deviation: Tensor  # (B,) of noise, in [0, 1]
    sigma: Tensor  # (B,) of blur, pixels
    factor: Tensor  # (B,) of rescaling: 2 to 4

    def of(self, images: Tensor) -> "Draws":
        """The draws at the given places (B,)."""
        return Draws(*(getattr(self, field.name)[images] for field in fields(self)))


def draw(batch: int, size: tuple[int, int], *, generator: torch.Generator) -> Draws:
    """So many draws for images of (height, width) `size`."""
    kinds = [
        geometry.rotate(symmetric(batch, generator=generator) * math.pi / 4, size),
        geometry.shear_and_scale(
            (symmetric(batch, generator=generator) * math.pi / 4).tan(),
            (symmetric(batch, generator=generator) * math.pi / 12).tan() * size[0] / size[1],
            *(2 ** -(symmetric(batch, generator=generator).abs()) for _ in range(2)),
        ),
        geometry.perspective(small(batch, 4, 2, generator=generator) * 0.25, size),
    ]
    kind = torch.randint(len(kinds), (batch,), generator=generator)
    noise, blurred, rescaled = torch.rand(3, batch, generator=generator) < 0.5
    return Draws(
        matrix=torch.stack(kinds)[kind, torch.arange(batch)],
        deviation=(20 * small(batch, generator=generator)).sqrt() / 255 * noise,
        sigma=(0.3 + 1.7 * small(batch, generator=generator)) * blurred,
        factor=torch.randint(2, 5, (batch,), generator=generator) * rescaled,
    )


def _rescale(images: Tensor, factor: int) -> Tensor:
    """Lose detail: down by `factor` and up again."""
    small_size = [max(1, side // factor) for side in images.shape[-2:]]
    return functional.interpolate(
        functional.interpolate(images, small_size, mode="area"), images.shape[-2:], mode="bilinear"
    )


def augment(
    images: Tensor,
    places: Tensor,
    batch: int,
    draws: Draws | None = None,
    *,
    generator: torch.Generator,
) -> Tensor:
    """(B, 3, H, W) in [0, 1], at the given places (B,) of a batch -> augmented, in [0, 1].

    draws: those of the whole run, which the places take in turn; None draws for each place. `generator` is a CPU generator;
    draws are equal on every device, and an image's depend on no other image."""
    size = (images.shape[-2], images.shape[-1])
    one = (
        draw(batch, size, generator=generator).of(places)
        if draws is None
        else draws.of(places % len(draws.sigma))
    )
    turned = torch.rand(batch, generator=generator)[places] < 0.5
    images = geometry.apply_warp(
        images, torch.where(turned[:, None, None], one.matrix, geometry.identity(len(places)))
    )

    deteriorated = torch.rand(batch, generator=generator)[places] < 0.25
    grain = torch.randn(batch, *images.shape[1:], generator=generator)[places]
    grain = grain * (one.deviation * deteriorated).view(-1, 1, 1, 1)
    images = (images + grain.to(images)).clamp(0, 1)
    sigma, factors = one.sigma * deteriorated, one.factor * deteriorated
    if (rows := sigma.nonzero()[:, 0]).numel():
        images[rows] = geometry.blur(images[rows], sigma[rows])
    for factor in (2, 3, 4):
        if (rows := (factors == factor).nonzero()[:, 0]).numel():
            images[rows] = _rescale(images[rows], factor)

    coloured = torch.rand(batch, generator=generator)[places] < 0.25
    half = [
        torch.where(
            coloured, geometry.uniform(0.5, 1.5, batch, generator=generator)[places], torch.ones(())
        )
        for _ in range(3)
    ]
    hue = geometry.uniform(-0.1, 0.1, batch, generator=generator)[places] * 2 * math.pi * coloured
    return geometry.apply_color(images, geometry.saturation_and_hue(half[0], hue), half[1], half[2])
