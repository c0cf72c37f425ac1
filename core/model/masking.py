"""Which patches stay visible: pure functions of a generator. Every image of a batch keeps equally many."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core.config import Encoder, Mask, visible_count


def visible_from_noise(noise: Tensor, count: int) -> Tensor:
    """(B, N) noise -> (B, count) numbers of the patches with the smallest noise, smallest first (as MAE does)."""
    return noise.argsort(dim=1)[:, :count]


def random_mask(batch: int, patches: int, ratio: float, *, generator: torch.Generator) -> Tensor:
    """Hide patches independently of one another; (B, V) numbers of the visible ones."""
    return visible_from_noise(
        torch.rand(batch, patches, generator=generator), visible_count(patches, ratio)
    )


def block_mask(
    batch: int, grid: tuple[int, int], ratio: float, *, generator: torch.Generator
) -> Tensor:
    """Hide rectangles until the ratio is met exactly; (B, V) numbers of the visible patches, ascending.

    A rectangle covers up to half of the patches to hide at an aspect ratio of 1/3 to 3 (BEiT, arXiv 2106.08254); the last
    one is cut, row by row, where the count is full."""
    rows, columns = grid
    hidden_count = rows * columns - visible_count(rows * columns, ratio)
    visible = np.empty((batch, rows * columns - hidden_count), dtype=np.int64)
    draws = _quadruples(generator)
    for image in range(batch):
        hidden, missing = np.zeros((rows, columns), dtype=bool), hidden_count
        while missing:
            area, aspect, top, left = next(draws)
            size = max(1.0, area * hidden_count / 2)
            ratio_of_sides = 3 ** (2 * aspect - 1)
            height = min(rows, max(1, round((size * ratio_of_sides) ** 0.5)))
            width = min(columns, max(1, round((size / ratio_of_sides) ** 0.5)))
            y, x = int(top * (rows - height + 1)), int(left * (columns - width + 1))
            rectangle = hidden[y : y + height, x : x + width]
            new = np.flatnonzero(~rectangle)[:missing]
            rectangle.flat[new] = True
            missing -= len(new)
        visible[image] = np.flatnonzero(~hidden)
    return torch.from_numpy(visible)


def _quadruples(generator: torch.Generator) -> Iterator[list[float]]:
    """Four uniform draws at a time, without end; made many at a time, for each call takes longer than its draws."""
    while True:
        yield from torch.rand(256, 4, generator=generator).tolist()


def stroke_density(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """How much is written in each column of patches: (B, 3, H, W) -> (B, columns), mean 1 over an image's columns.

    An estimate without labels: the mean absolute difference of neighboring pixels' gray. Where nothing differs it is 1."""
    gray = images.float().mean(1)
    edges = torch.zeros_like(gray)
    edges[:, :, 1:] += (gray[:, :, 1:] - gray[:, :, :-1]).abs()
    edges[:, 1:] += (gray[:, 1:] - gray[:, :-1]).abs()
    columns = edges.mean(1).unflatten(1, (-1, patch[1])).mean(2)
    mean = columns.mean(1, keepdim=True)
    return torch.where(mean > 0, columns / mean.clamp(min=1e-12), torch.ones_like(columns))


def density_mask(
    density: Tensor, rows: int, ratio: float, focus: float, *, generator: torch.Generator
) -> Tensor:
    """Hide patches the more often, the more is written in their column; (B, V) numbers of the visible ones.

    density: (B, columns), mean 1. Patches are drawn for hiding one after another, each with a weight of density^focus; density
    counts as 0.05 at least, so that ground is hidden at times (weighted sampling without replacement, Efraimidis and Spirakis
    2006; by logarithms, for a large focus overflows). This is the future work that the LMIM paper names; the rule is ours."""
    log_weight = focus * density.clamp(min=0.05).log().repeat(1, rows)  # (B, N), patches row by row
    uniform = torch.rand(log_weight.shape, generator=generator).clamp(min=1e-12)
    noise = log_weight - (-uniform.log()).log()
    return visible_from_noise(noise, visible_count(noise.shape[1], ratio))


def draw_visible(
    config: Mask,
    encoder: Encoder,
    images: Tensor,
    places: Tensor,
    batch: int,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Visible patches of the images (B, 3, H, W) at the given places (B,) of a batch, as the config asks; (B, V).

    What is drawn is drawn for every place, so that an image's mask depends on no other image."""
    rows, columns = encoder.grid
    if config.kind == "block":
        return block_mask(batch, encoder.grid, config.ratio, generator=generator)[places]
    if config.kind == "density":
        density = torch.ones(batch, columns).index_copy(
            0, places, stroke_density(images, encoder.patch)
        )
        return density_mask(density, rows, config.ratio, config.focus, generator=generator)[places]
    return random_mask(batch, rows * columns, config.ratio, generator=generator)[places]


def hidden_patches(visible: Tensor, patches: int) -> Tensor:
    """(B, V) visible patch numbers -> (B, N) bool, true where a patch is hidden."""
    hidden = torch.ones(len(visible), patches, dtype=torch.bool, device=visible.device)
    return hidden.scatter_(1, visible, False)
