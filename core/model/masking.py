"""Masks: pure functions of a generator that select the visible patches of each image.

Every image of a batch keeps the same number of visible patches. Shapes: B images, N patches,
V visible patches. Patches are numbered row by row.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core.config import Encoder, Mask, visible_count


def visible_from_noise(noise: Tensor, count: int) -> Tensor:
    """(B, N) noise -> (B, count) numbers of the patches with the smallest noise (as in MAE)."""
    return noise.argsort(dim=1)[:, :count]


def random_mask(batch: int, patches: int, ratio: float, *, generator: torch.Generator) -> Tensor:
    """Hide patches independently of one another; (B, V) numbers of the visible ones."""
    noise = torch.rand(batch, patches, generator=generator)
    return visible_from_noise(noise, visible_count(patches, ratio))


def block_mask(
    batch: int, grid: tuple[int, int], ratio: float, *, generator: torch.Generator
) -> Tensor:
    """Hide rectangles until the ratio is met; (B, V) numbers of the visible patches, ascending.

    A rectangle covers up to half of the patches to hide, at an aspect ratio of 1/3 to 3 (BEiT,
    arXiv 2106.08254). The last rectangle is cut, row by row, so that the count is exact."""
    rows, columns = grid
    visible_patches = visible_count(rows * columns, ratio)
    hidden_total = rows * columns - visible_patches
    visible = np.empty((batch, visible_patches), dtype=np.int64)
    draws = _quadruples(generator)
    for image in range(batch):
        hidden = np.zeros((rows, columns), dtype=bool)
        remaining = hidden_total
        while remaining:
            area, aspect, top, left = next(draws)
            size = max(1.0, area * hidden_total / 2)
            side_ratio = 3 ** (2 * aspect - 1)
            height = min(rows, max(1, round((size * side_ratio) ** 0.5)))
            width = min(columns, max(1, round((size / side_ratio) ** 0.5)))
            y = int(top * (rows - height + 1))
            x = int(left * (columns - width + 1))
            rectangle = hidden[y : y + height, x : x + width]
            new = np.flatnonzero(~rectangle)[:remaining]
            rectangle.flat[new] = True
            remaining -= len(new)
        visible[image] = np.flatnonzero(~hidden)
    return torch.from_numpy(visible)


def _quadruples(generator: torch.Generator) -> Iterator[list[float]]:
    """Four uniform draws at a time, without end; 256 of these per call, which is faster."""
    while True:
        yield from torch.rand(256, 4, generator=generator).tolist()


def stroke_density(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Density of strokes in each column of patches: (B, 3, H, W) -> (B, columns), mean 1 per image.

    An estimate without labels: the mean absolute difference of the gray of neighboring pixels.
    It is 1 in a uniform image."""
    gray = images.float().mean(1)
    edges = torch.zeros_like(gray)
    edges[:, :, 1:] += (gray[:, :, 1:] - gray[:, :, :-1]).abs()
    edges[:, 1:] += (gray[:, 1:] - gray[:, :-1]).abs()
    profile = edges.mean(1)  # (B, W)
    columns = profile.reshape(len(profile), -1, patch[1]).mean(2)
    mean = columns.mean(1, keepdim=True)
    return torch.where(mean > 0, columns / mean.clamp(min=1e-12), torch.ones_like(columns))


def density_mask(
    density: Tensor, rows: int, ratio: float, focus: float, *, generator: torch.Generator
) -> Tensor:
    """Hide patches more often in columns with more strokes; (B, V) numbers of the visible ones.

    Hidden patches are sampled without replacement with weight density^focus (Efraimidis and
    Spirakis 2006). Logarithms avoid overflow at a large focus. Density counts as at least 0.05,
    so that background is sometimes hidden. The LMIM paper names such masks as future work; the
    rule is ours.

    density: (B, columns), mean 1.
    rows: rows of the grid of patches.
    ratio: share of patches to hide.
    focus: 0 ignores the density."""
    log_weight = focus * density.clamp(min=0.05).log().repeat(1, rows)  # (B, N)
    uniform = torch.rand(log_weight.shape, generator=generator).clamp(min=1e-12)
    noise = log_weight - (-uniform.log()).log()
    return visible_from_noise(noise, visible_count(noise.shape[1], ratio))


def sample_visible(
    config: Mask,
    encoder: Encoder,
    images: Tensor,
    positions: Tensor,
    batch: int,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Visible patches of some images of a batch, (B, V).

    Numbers are drawn for all positions of the batch, so that an image's mask follows from its
    position alone and not from the other images.

    config: kind and ratio of the mask.
    encoder: its grid and patch size.
    images: (B, 3, H, W); only their stroke density is used.
    positions: (B,) the images' positions in the batch.
    batch: images of the whole batch."""
    rows, columns = encoder.grid
    if config.kind == "block":
        visible = block_mask(batch, encoder.grid, config.ratio, generator=generator)
    elif config.kind == "density":
        density = torch.ones(batch, columns)
        density.index_copy_(0, positions, stroke_density(images, encoder.patch))
        visible = density_mask(density, rows, config.ratio, config.focus, generator=generator)
    else:
        visible = random_mask(batch, rows * columns, config.ratio, generator=generator)
    return visible[positions]


def hidden_patches(visible: Tensor, patches: int) -> Tensor:
    """(B, V) numbers of visible patches -> (B, N) bool, true where a patch is hidden."""
    hidden = torch.ones(len(visible), patches, dtype=torch.bool, device=visible.device)
    return hidden.scatter_(1, visible, False)
