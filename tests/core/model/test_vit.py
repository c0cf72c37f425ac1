"""The encoder, its patches and its position tables."""

import torch

from core.config import Encoder
from core.model.masking import hidden_patches, random_mask
from core.model.vit import VisionTransformer, gather_patches, patchify, position_table
from core.runtime.seeds import generator

ENCODER = Encoder(width=32, depth=2, heads=2, patch=(8, 8))


def test_the_encoder_depends_on_visible_patches_only() -> None:
    encoder = VisionTransformer(ENCODER).eval()
    images = torch.rand(2, 3, 32, 128)
    visible = random_mask(2, 64, 0.8, generator=generator(0))
    grid = hidden_patches(visible, 64).view(2, 1, 4, 1, 16, 1)
    hidden = grid.expand(2, 3, 4, 8, 16, 8).reshape(2, 3, 32, 128)  # of pixels
    changed = torch.where(hidden, torch.rand_like(images), images)
    torch.testing.assert_close(encoder(images, visible), encoder(changed, visible))
    assert encoder(images, visible).shape == (2, 1 + 12, 32)


def test_patches_are_numbered_row_by_row() -> None:
    images = torch.arange(4 * 8).float().view(1, 1, 4, 8).expand(1, 3, 4, 8)
    patches = patchify(images, (2, 4))
    assert patches[0, 1, :8].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert patches[0, 2, :4].tolist() == [16, 17, 18, 19]
    assert torch.equal(gather_patches(patches, torch.tensor([[3, 0]]))[0, 1], patches[0, 0])


def test_only_the_grid_table_distinguishes_rows_and_columns() -> None:
    grid = position_table(32, 256, 32)[0, 1:]
    released = position_table(32, 256, 16)[0, 1:]
    assert torch.equal(grid[5, :16], grid[5 + 32, :16])  # same column, next row
    assert torch.equal(grid[5, 16:], grid[6, 16:])  # same row, next column
    # A row of 8 x 32 patches spans two rows of 16 x 16.
    assert not torch.equal(released[5, 16:], released[5 + 16, 16:])
    assert torch.equal(released[5, :16], released[5 + 16, :16])
