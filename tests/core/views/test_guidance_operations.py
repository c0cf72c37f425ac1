"""Pixels of each operation of a guidance view: batched, and image by image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from view_pairs import LEVEL, MEDIUM, SIZE, as_batch, both_ways, draws_of_image, only

from analysis.bench.per_image import apply_one
from core.runtime.seeds import generator
from core.views.guidance import GuidanceDraws, apply_view, compose_view, sample_draws

pytestmark = pytest.mark.slow

EXACT = (  # equal but for rounding
    "crop",
    "crop_sides",
    "perspective",
    "blur",
    "sharpen",
    "contrast",
    "solarize",
    "gray",
    "saturation",
    "jitter_contrast",
    "brightness",
    "grayed",
)


@pytest.fixture(scope="module")
def draws() -> GuidanceDraws:
    return sample_draws(MEDIUM, 64, generator=generator("operations"))


@pytest.mark.parametrize("name", EXACT)
def test_an_operation_gives_the_pixels_of_its_per_image_version(
    name: str, draws: GuidanceDraws
) -> None:
    """Image by image, pixels are rounded to whole levels up to twice, and Pillow truncates."""
    words, batched, one_by_one = both_ways(only(draws, name), name)
    assert (batched - one_by_one).abs().max() < 2 * LEVEL
    assert (batched - words).abs().mean() > 3 * LEVEL


@pytest.mark.parametrize(
    ("name", "max_difference", "min_correlation", "max_ratio"),
    [("rotate", 0.005, 0.99, 1.03), ("piecewise", 0.014, 0.85, 1.05), ("hue", 0.046, 0.7, 1.35)],
)
def test_an_approximated_operation_changes_nearly_the_same(
    name: str,
    max_difference: float,
    min_correlation: float,
    max_ratio: float,
    draws: GuidanceDraws,
) -> None:
    """Bounds on mean absolute difference, correlation of the changes and ratio of their size.

    Measured on 1200 views. Rotation: 0.0043, 0.994, 1.01; image by image, the larger canvas is
    downscaled with smoothing. Piecewise: 0.0126, 0.88, 0.98; cells are bilinear, not two triangles.
    Hue: 0.043, 0.74, 1.26; a rotation in YIQ keeps luma, one in HSV does not."""
    words, batched, one_by_one = both_ways(only(draws, name), name)
    batched_change = batched - words
    change = one_by_one - words
    assert (batched - one_by_one).abs().mean() < max_difference
    correlation = np.corrcoef(batched_change.flatten(), change.flatten())[0, 1]
    assert correlation > min_correlation
    assert 1 / max_ratio < batched_change.abs().mean() / change.abs().mean() < max_ratio


def test_a_piecewise_map_that_is_affine_in_each_cell_gives_equal_pixels(
    draws: GuidanceDraws,
) -> None:
    """Points that move by row and by column give both triangles of a cell the same affine map."""
    shifts = draws.shifts[..., :1] + draws.shifts[..., :1, :]
    piecewise = replace(only(draws, "piecewise"), shifts=shifts)
    _, batched, one_by_one = both_ways(piecewise, "piecewise")
    assert (batched - one_by_one).abs().max() < 2 * LEVEL


def test_rotation_of_smooth_images_gives_nearly_equal_pixels(draws: GuidanceDraws) -> None:
    """So rotation differs in fine detail only. Corners repeat the edge at another resolution."""
    across, along = np.meshgrid(
        np.linspace(0, 3, SIZE[0]), np.linspace(0, 9, SIZE[1]), indexing="ij"
    )
    waves = np.stack([np.sin(along + across), np.cos(along - across), np.sin(2 * across)], -1)
    image = Image.fromarray((127.5 + 100 * waves).round().astype(np.uint8))
    rotated = only(draws, "rotate")
    batched = apply_view(as_batch([image] * 64), compose_view(rotated, SIZE))
    one_by_one = torch.stack(
        [apply_one(image, draws_of_image(rotated, number), SIZE) for number in range(64)]
    )
    assert (batched - one_by_one).abs()[..., 4:-4, 8:-8].mean() < 1.5 * LEVEL
