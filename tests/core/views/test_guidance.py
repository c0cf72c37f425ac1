"""Guidance views: images in [0, 1], the operations of each strength, choice of operations."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.runtime.seeds import generator
from core.views import geometry
from core.views.guidance import (
    OPERATIONS,
    STRENGTHS,
    GuidanceView,
    apply_view,
    sample_operations,
    sample_view,
)

SIZE = (32, 128)


def views_of(strength: str, batch: int, seed: int = 0) -> GuidanceView:
    return sample_view(STRENGTHS[strength], batch, SIZE, generator=generator(seed))


@pytest.mark.parametrize("strength", ["weak", "medium", "strong", "steady"])
def test_a_guidance_view_is_an_image_that_differs_from_its_source(strength: str) -> None:
    images = torch.rand(8, 3, *SIZE)
    views = apply_view(images, views_of(strength, 8, seed=3))
    assert views.shape == images.shape
    assert 0 <= views.min() <= views.max() <= 1
    assert not torch.allclose(views, images, atol=0.05)


@pytest.mark.parametrize("strength", ["weak", "medium", "strong", "steady"])
def test_views_of_some_images_are_those_of_the_whole_batch(strength: str) -> None:
    images = torch.rand(8, 3, *SIZE)
    view = views_of(strength, 8, seed=3)
    part = apply_view(images[2:5], view[2:5])
    torch.testing.assert_close(apply_view(images, view)[2:5], part)


def test_a_weak_view_keeps_colors_and_a_medium_one_does_not() -> None:
    images = torch.full((16, 3, *SIZE), 0.3)
    images[:, 1] = 0.8
    weak = apply_view(images, views_of("weak", 16))
    torch.testing.assert_close(weak, images, atol=1e-3, rtol=0)
    medium = apply_view(images, views_of("medium", 16))
    assert (medium - images).abs().mean() > 0.05


def test_a_view_without_changes_returns_the_image() -> None:
    view = replace(views_of("weak", 2), matrix=geometry.identity(2))
    images = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(apply_view(images, view), images, atol=1e-4, rtol=0)


def test_the_number_of_operations_is_uniform_from_three_to_all() -> None:
    operations = sample_operations(STRENGTHS["medium"], 20_000, generator=generator(0))
    chosen = torch.stack(list(operations.values()))
    counts = chosen.sum(0)
    assert counts.min() == 3
    assert counts.max() == len(OPERATIONS)
    assert counts.float().mean().item() == pytest.approx(6.5, abs=0.1)
    torch.testing.assert_close(chosen.float().mean(1), torch.full((10,), 0.65), atol=0.02, rtol=0)


def test_steady_views_keep_characters_in_their_window() -> None:
    """99 of 100 points move by less than a quarter of one of five windows (25.6 pixels)."""
    ramp = torch.arange(128.0).expand(256, 3, *SIZE).contiguous()

    def displacement(strength: str) -> Tensor:
        """In pixels along the width; its 99th percentile."""
        view = views_of(strength, 256)
        moved = geometry.apply_warp(ramp, view.matrix, view.shifts) - ramp
        return moved[:, 0].abs().flatten()[::7].quantile(0.99)

    assert displacement("steady") < 25.6 / 4 + 0.5
    assert displacement("medium") > 1.5 * displacement("steady")
