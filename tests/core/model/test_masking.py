"""Masks: counts, dependence on seed and position, and the density of strokes."""

import pytest
import torch

from core.config import Encoder, Mask, visible_count
from core.model.masking import (
    block_mask,
    density_mask,
    hidden_patches,
    random_mask,
    sample_visible,
    stroke_density,
)
from core.runtime.seeds import generator


@pytest.mark.parametrize("kind", ["random", "block", "density"])
@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.9])
def test_a_mask_hides_the_same_number_of_patches_in_every_image(kind: str, ratio: float) -> None:
    images = torch.rand(16, 3, 32, 128)
    positions = torch.arange(16)
    mask = Mask(kind=kind, ratio=ratio)
    visible = sample_visible(mask, Encoder(), images, positions, 16, generator=generator(0))
    assert visible.shape == (16, visible_count(256, ratio))
    assert all(len(set(row)) == len(row) for row in visible.tolist())
    assert (hidden_patches(visible, 256).sum(1) == 256 - visible.shape[1]).all()


@pytest.mark.parametrize("kind", ["random", "block", "density"])
def test_the_mask_of_an_image_follows_from_its_position_alone(kind: str) -> None:
    images = torch.rand(16, 3, 32, 128)
    positions = torch.arange(16)
    mask = Mask(kind=kind, ratio=0.8)
    whole = sample_visible(mask, Encoder(), images, positions, 16, generator=generator(0))
    part = sample_visible(mask, Encoder(), images[5:9], positions[5:9], 16, generator=generator(0))
    assert torch.equal(part, whole[5:9])


def test_the_paper_leaves_51_of_256_patches_visible() -> None:
    assert visible_count(256, 0.8) == 51


def test_masks_follow_their_generator_and_differ_between_images() -> None:
    first = random_mask(4, 64, 0.75, generator=generator(1))
    assert torch.equal(first, random_mask(4, 64, 0.75, generator=generator(1)))
    assert not torch.equal(first, random_mask(4, 64, 0.75, generator=generator(2)))
    assert not torch.equal(first[0], first[1])


def test_block_masks_hide_neighbors_more_often_than_random_ones() -> None:
    def hidden_neighbors(visible: torch.Tensor) -> float:
        hidden = hidden_patches(visible, 256).view(-1, 8, 32)
        return (hidden[:, :, 1:] & hidden[:, :, :-1]).float().mean().item()

    blocks = hidden_neighbors(block_mask(64, (8, 32), 0.6, generator=generator(0)))
    independent = hidden_neighbors(random_mask(64, 256, 0.6, generator=generator(0)))
    assert blocks > independent + 0.1


def word_in_the_left_half() -> torch.Tensor:
    """(64, 3, 32, 128) images with strokes on the left and almost nothing on the right."""
    images = torch.full((64, 3, 32, 128), 200.0)
    images[..., :64:4] = 20
    return images + torch.rand(images.shape, generator=generator(1))


def test_density_follows_the_strokes_and_is_1_in_a_uniform_image() -> None:
    density = stroke_density(word_in_the_left_half(), (4, 4))
    torch.testing.assert_close(density.mean(1), torch.ones(64))
    assert (density[:, 1:15].min() > 1.5) & (density[:, 17:].max() < 0.1)
    assert torch.equal(stroke_density(torch.full((2, 3, 32, 128), 7.0), (4, 4)), torch.ones(2, 32))


def test_density_masks_hide_strokes_more_often_than_background() -> None:
    images = word_in_the_left_half()

    def hidden_share(mask: Mask) -> tuple[float, float]:
        visible = sample_visible(
            mask, Encoder(), images, torch.arange(len(images)), len(images), generator=generator(0)
        )
        hidden = hidden_patches(visible, 256).view(-1, 8, 32).float()
        return hidden[..., :16].mean().item(), hidden[..., 16:].mean().item()

    left, right = hidden_share(Mask(kind="density", ratio=0.6))
    assert left > 0.95
    assert 0.05 < right < 0.3
    weaker = hidden_share(Mask(kind="density", ratio=0.6, focus=0.5))
    assert right < weaker[1] < weaker[0] < left
    even = hidden_share(Mask(kind="density", ratio=0.6, focus=0))
    assert even == pytest.approx((0.6, 0.6), abs=0.02)


@pytest.mark.parametrize("focus", [1, 4, 30, 1000])
def test_the_hidden_share_grows_with_density_at_every_focus(focus: float) -> None:
    density = torch.tensor([[0.4, 0.7, 1.1, 1.8]]).expand(500, -1)
    visible = density_mask(density, 8, 0.7, focus, generator=generator(0))
    share = hidden_patches(visible, 32).view(500, 8, 4).float().mean((0, 1))
    assert share.diff().min() >= 0
    assert share[1] > share[0] + 0.1
