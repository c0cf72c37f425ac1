"""Masks: pure functions of a generator that select the visible patches of each image.

Every mask hides the same number of patches in every image: `hidden_count` of its ratio, 205 of 256
at 0.8. A mask of whole columns therefore cuts its last column where the number is no multiple of
the rows. Shapes: B images, N patches, V visible patches. Patches are numbered row by row.
"""

from collections.abc import Iterator
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from core.config import Encoder, Mask, hidden_count, letter_columns, visible_count


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
    noise = _density_noise(density.repeat(1, rows), focus, generator)  # (B, N)
    return visible_from_noise(noise, visible_count(noise.shape[1], ratio))


def _density_noise(density: Tensor, focus: float, generator: torch.Generator) -> Tensor:
    """Noise whose largest values are a sample without replacement with weight density^focus."""
    log_weight = focus * density.clamp(min=0.05).log()
    uniform = torch.rand(log_weight.shape, generator=generator).clamp(min=1e-12)
    return log_weight - (-uniform.log()).log()


def span_mask(
    batch: int, grid: tuple[int, int], ratio: float, width: float, *, generator: torch.Generator
) -> Tensor:
    """Hide spans of neighboring whole columns; (B, V) numbers of the visible patches, ascending.

    The number of spans is drawn first, uniformly from those that fit; then their widths and the
    gaps between them, with equal probability for all arrangements. Spans do not touch. Patches
    that do not fill a column are hidden at the top of one more column, at the right of a span.
    Source: span masks of MMS (arXiv 2505.06855). Numbers, widths and places are drawn by our rule.

    grid: (rows, columns) of patches.
    ratio: share of patches to hide.
    width: least width of a span, as a share of the image's width.

    Raises ValueError if the whole hidden columns are fewer than the least width."""
    rows, columns = grid
    hidden_total = hidden_count(rows * columns, ratio)
    whole, rest = divmod(hidden_total, rows)
    least = letter_columns(width, columns)
    if whole < least:
        raise ValueError(f"{whole} hidden columns are fewer than the {least} columns of a span")
    free = columns - whole - (rest > 0)
    most_spans = min(whole // least, free + 1)
    # Enough numbers for the largest number of spans, so that each image draws equally many.
    noise = torch.rand(batch, 2 + whole + columns, generator=generator).numpy()
    hidden = np.zeros((batch, rows, columns), dtype=bool)
    for image in range(batch):
        spans = 1 + int(noise[image, 0] * most_spans)
        cut_span = int(noise[image, 1] * spans) if rest else -1
        widths = least + _composition(whole - spans * least, spans, noise[image, 2 : 2 + whole])
        gaps = _composition(free - (spans - 1), spans + 1, noise[image, 2 + whole :])
        gaps[1:-1] += 1
        column = 0
        for span in range(spans):
            column += gaps[span]
            hidden[image, :, column : column + widths[span]] = True
            column += widths[span]
            if span == cut_span:
                hidden[image, :rest, column] = True
                column += 1
    return _visible_patches(torch.from_numpy(hidden).flatten(1))


def _composition(total: int, parts: int, noise: np.ndarray) -> np.ndarray:
    """`parts` integers of at least 0 with sum `total`, uniform over all such lists.

    They are the numbers of stars between `parts - 1` bars. noise: at least total + parts - 1
    independent uniform numbers."""
    places = total + parts - 1
    bars = np.sort(noise[:places].argsort()[: parts - 1])
    edges = np.concatenate([[-1], bars, [places]])
    return np.asarray(np.diff(edges) - 1)


def column_pairs_mask(
    batch: int, grid: tuple[int, int], ratio: float, *, generator: torch.Generator
) -> Tensor:
    """Hide pairs of neighboring columns over all rows; (B, V) numbers of the visible, ascending.

    Pairs (columns 0 and 1, 2 and 3, ...) are hidden independently of one another. The last pair is
    cut, column by column from the left and row by row from the top, so that the count is exact.
    Source: the authors' released code holds such a mask, for 16 pairs, and does not use it.

    Raises ValueError if the number of columns is odd."""
    rows, columns = grid
    if columns % 2:
        raise ValueError(f"{columns} columns are not pairs of columns")
    noise = torch.rand(batch, columns // 2, generator=generator)
    rank = noise.argsort(dim=1).argsort(dim=1)  # (B, pairs): place of a pair in the order of hiding
    column_rank = torch.stack([2 * rank, 2 * rank + 1], dim=2).flatten(1)  # (B, columns)
    order = column_rank[:, None, :] * rows + torch.arange(rows)[:, None]  # (B, rows, columns)
    return _visible_patches(order.flatten(1) < hidden_count(rows * columns, ratio))


def seeded_blocks_mask(
    density: Tensor,
    rows: int,
    mask: Mask,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Hide blocks grown around strokes, and patches at random; (B, V) visible ones, ascending.

    Seeds of blocks lie in columns drawn without replacement with weight density^focus (see
    `density_mask`), in any row. Their number is that of letters that fill the blocks' share. All
    blocks grow at once, nearest patches first, until they hide round(block_share * N) patches, so
    every patch of a block is connected with its seed. The rest of `ratio` is hidden at random among
    the other patches.
    Source: DSHM (AAAI-26) hides 0.5 of the patches in contiguous blocks and 0.3 at random, led by
    the discrepancy of features. Seeds by the density of strokes, and the growth, are ours.

    density: (B, columns), mean 1.
    rows: rows of the grid of patches.
    mask: its ratio, block_share, width and focus."""
    batch, columns = density.shape
    patches = rows * columns
    block_patches = min(round(mask.block_share * patches), hidden_count(patches, mask.ratio))
    letter = letter_columns(mask.width, columns) * rows
    seeds = min(columns, max(1, round(block_patches / letter)))
    seed_columns = _density_noise(density, mask.focus, generator).argsort(dim=1, descending=True)
    seed_rows = torch.randint(rows, (batch, seeds), generator=generator)
    down = torch.arange(rows) - seed_rows[..., None]  # (B, seeds, rows)
    across = torch.arange(columns) - seed_columns[:, :seeds, None]  # (B, seeds, columns)
    squared = down[..., None] ** 2 + across[:, :, None] ** 2  # (B, seeds, rows, columns)
    nearest = squared.amin(1).flatten(1)  # (B, N) squared distance from the nearest seed
    ties = torch.rand(batch, patches, generator=generator) / 2
    in_blocks = (nearest + ties).argsort(dim=1)[:, :block_patches]
    noise = torch.rand(batch, patches, generator=generator).scatter_(1, in_blocks, 2.0)
    visible = visible_from_noise(noise, visible_count(patches, mask.ratio))
    return visible.sort(dim=1).values


def _visible_patches(hidden: Tensor) -> Tensor:
    """(B, N) bool, equally many hidden in every image -> (B, V) numbers of the visible patches."""
    return (~hidden).nonzero()[:, 1].reshape(len(hidden), -1)


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
    ratio = config.ratio
    density = torch.ones(batch, columns)
    if config.kind in ("density", "seeded_blocks"):
        density.index_copy_(0, positions, stroke_density(images, encoder.patch))
    match config.kind:
        case "random":
            visible = random_mask(batch, rows * columns, ratio, generator=generator)
        case "block":
            visible = block_mask(batch, encoder.grid, ratio, generator=generator)
        case "density":
            visible = density_mask(density, rows, ratio, config.focus, generator=generator)
        case "span":
            visible = span_mask(batch, encoder.grid, ratio, config.width, generator=generator)
        case "column_pairs":
            visible = column_pairs_mask(batch, encoder.grid, ratio, generator=generator)
        case "seeded_blocks":
            visible = seeded_blocks_mask(density, rows, config, generator=generator)
        case _:
            assert_never(config.kind)
    return visible[positions]


def hidden_patches(visible: Tensor, patches: int) -> Tensor:
    """(B, V) numbers of visible patches -> (B, N) bool, true where a patch is hidden."""
    hidden = torch.ones(len(visible), patches, dtype=torch.bool, device=visible.device)
    return hidden.scatter_(1, visible, False)
