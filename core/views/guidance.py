"""The guidance view: the same word in another look (Table 2: weak, medium, strong).

`sample_view` draws the changes of a whole batch on the CPU, from an explicit generator.
`apply_view` applies them on any device. Operations, probabilities and ranges follow `medium` of
the released code. Departures, all for speed: operations run in one fixed order, on the image that
is already resized, and hue rotates in YIQ.

- weak: only cropping and rotation.
- strong: the ranges of medium times 1.5, except solarize's threshold, the share of gray and the
  sharpening's lightness.
- steady (for SeqCLR): the colors of medium and half of its geometry, without rotation, so that a
  window of one view shows the same characters as that window of the other view.

Views made one by one, in random order and at the size of the source, differ: medium's views are
0.025 to 0.03 (of 1) brighter than those, and keep a fifth to a half more gradient, because they
are sampled once (tests/core/views/test_guidance_moments.py).
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from core.views import color, filters, geometry
from core.views.random_draws import uniform

OPERATIONS = (
    "contrast",
    "blur",
    "crop",
    "crop_sides",
    "sharpen",
    "rotate",
    "piecewise",
    "perspective",
    "solarize",
    "gray",
)


@dataclass(frozen=True)
class Strength:
    """Strength of a guidance view; `geometry` and `appearance` multiply the ranges of medium."""

    operations: tuple[str, ...]  # those that can be chosen
    min_operations: int  # chosen for each image
    geometry: float
    appearance: float
    jitter: bool  # whether colors are jittered


STRENGTHS = {
    "weak": Strength(
        operations=("crop", "crop_sides", "rotate"),
        min_operations=1,
        geometry=1.0,
        appearance=1.0,
        jitter=False,
    ),
    "medium": Strength(
        operations=OPERATIONS, min_operations=3, geometry=1.0, appearance=1.0, jitter=True
    ),
    "strong": Strength(
        operations=OPERATIONS, min_operations=3, geometry=1.5, appearance=1.5, jitter=True
    ),
    "steady": Strength(
        operations=tuple(name for name in OPERATIONS if name != "rotate"),
        min_operations=3,
        geometry=0.5,
        appearance=1.0,
        jitter=True,
    ),
}


def strength_of(level: str | float) -> Strength:
    """The strength of a named level, or medium with its ranges times a number.

    Below 1, operations without a range become rarer by that factor."""
    if isinstance(level, str):
        return STRENGTHS[level]
    return replace(STRENGTHS["medium"], geometry=level, appearance=level)


@dataclass(frozen=True)
class GuidanceView:
    """Changes of each image of a batch of B.

    An operation that was not chosen has values that change nothing."""

    matrix: Tensor  # (B, 3, 3) warp
    shifts: Tensor  # (B, 2, 4, 4) pixels
    sigma: Tensor  # (B,) of blur, in pixels; 0: no blur
    sharpen: Tensor  # (B, 2) alpha, lightness
    contrast: Tensor  # (B,) factor about mid-gray
    threshold: Tensor  # (B,) values above it are inverted (solarize); 1: none
    color: Tensor  # (B, 3, 3) color matrix
    jitter_contrast: Tensor  # (B,) factor about the mean gray
    brightness: Tensor  # (B,) factor

    def __getitem__(self, rows: slice | Tensor) -> "GuidanceView":
        """The changes of some images."""
        return GuidanceView(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class GuidanceDraws:
    """Random draws for each image of a batch of B, under the released code's operation names.

    Values of an operation have no effect unless it is `chosen`; those of colors, unless the image
    is `jittered`."""

    chosen: dict[str, Tensor]  # operation -> (B,) bool
    crop: Tensor  # (B, 2) shares removed at top and bottom
    crop_sides: Tensor  # (B, 2) shares removed at left and right
    angle: Tensor  # (B,) degrees
    inward: Tensor  # (B, 4, 2) shares of (width, height) by which corners move
    shifts: Tensor  # (B, 2, 4, 4) shares of width, of height, by which points of a grid move
    sigma: Tensor  # (B,) of blur, in pixels
    alpha: Tensor  # (B,) of sharpening
    lightness: Tensor  # (B,) of sharpening
    contrast: Tensor  # (B,) factor about mid-gray
    threshold: Tensor  # (B,) of solarizing, in [0, 1]
    gray: Tensor  # (B,) share of color removed
    jittered: Tensor  # (B,) bool
    grayed: Tensor  # (B,) bool: all color is removed
    saturation: Tensor  # (B,) factor
    hue: Tensor  # (B,) turns
    jitter_contrast: Tensor  # (B,) factor about the mean gray
    brightness: Tensor  # (B,) factor


def sample_operations(
    strength: Strength, batch: int, *, generator: torch.Generator
) -> dict[str, Tensor]:
    """For each operation the images it is applied to: (B,) bool.

    The number of operations of an image is uniform from `min_operations` to all of them."""
    available = strength.operations
    shape = (batch, 1)
    count = torch.randint(strength.min_operations, len(available) + 1, shape, generator=generator)
    rank = torch.rand(batch, len(available), generator=generator).argsort(1).argsort(1)
    chosen = {name: torch.zeros(batch, dtype=torch.bool) for name in OPERATIONS}
    return chosen | dict(zip(available, (rank < count).unbind(1), strict=True))


def sample_draws(strength: Strength, batch: int, *, generator: torch.Generator) -> GuidanceDraws:
    """Random draws of a guidance view for each of `batch` images.

    The order of the calls is fixed, because it decides the drawn numbers."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return uniform(low, high, batch, *shape, generator=generator)

    def draw_normal(low: float, high: float, *shape: int) -> Tensor:
        """Normal draws with mean 0; each image has its own deviation in [low, high)."""
        values = torch.randn(batch, *shape, generator=generator)
        return values * draw(low, high, *(1 for _ in shape))

    g = strength.geometry
    a = strength.appearance
    rarer = min(1.0, a)
    chosen = sample_operations(strength, batch, generator=generator)
    if rarer < 1:
        for name in ("solarize", "gray"):
            chosen[name] = chosen[name] & (draw(0, 1) < rarer)
    crop = draw(0, 0.1 * g, 2)
    crop_sides = draw(0, 0.02 * g, 2)
    inward = draw_normal(0.02 * g, 0.06 * g, 4, 2).abs().clamp(max=0.3)
    angle = draw(-15 * g, 15 * g)
    shifts = draw_normal(0.03 * g, 0.05 * g, 2, 4, 4)
    jittered = (draw(0, 1) < 0.8) & strength.jitter
    grayed = (draw(0, 1) < 0.2 * rarer) & strength.jitter
    saturation = draw(1 - 0.2 * a, 1 + 0.2 * a)
    gray = draw(0, 1)
    hue = draw(-0.1 * a, 0.1 * a)
    sigma = draw(0.5 * a, 1.5 * a)
    alpha = draw(0, min(1, 0.5 * a))
    lightness = draw(0, 0.5)
    contrast = draw(0.5 / a if a >= 1 else 1 - 0.5 * a, 1)
    threshold = draw(32 / 255, 128 / 255)
    jitter_contrast = draw(1 - 0.4 * a, 1 + 0.4 * a)
    brightness = draw(1 - 0.4 * a, 1 + 0.4 * a)
    return GuidanceDraws(
        chosen=chosen,
        crop=crop,
        crop_sides=crop_sides,
        angle=angle,
        inward=inward,
        shifts=shifts,
        sigma=sigma,
        alpha=alpha,
        lightness=lightness,
        contrast=contrast,
        threshold=threshold,
        gray=gray,
        jittered=jittered,
        grayed=grayed,
        saturation=saturation,
        hue=hue,
        jitter_contrast=jitter_contrast,
        brightness=brightness,
    )


def compose_view(draws: GuidanceDraws, size: tuple[int, int]) -> GuidanceView:
    """The changes that follow from draws: one warp and one color matrix per image.

    size: (height, width) of the images."""
    height, width = size
    chosen = draws.chosen
    one = torch.ones(())
    rows = draws.crop * chosen["crop"][:, None]
    columns = draws.crop_sides * chosen["crop_sides"][:, None]
    matrix = (
        geometry.crop(columns[:, 0], columns[:, 1], rows[:, 0], rows[:, 1], size)
        @ geometry.rotate(torch.deg2rad(draws.angle) * chosen["rotate"], size)
        @ geometry.perspective(draws.inward * chosen["perspective"][:, None, None], size)
    )
    pixels = torch.tensor([width, height]).view(2, 1, 1)
    shifts = draws.shifts * pixels * chosen["piecewise"][:, None, None, None]
    saturation = torch.where(draws.jittered, draws.saturation, one) * ~draws.grayed
    saturation = saturation * torch.where(chosen["gray"], 1 - draws.gray, one)
    hue = draws.hue * 2 * math.pi * draws.jittered
    sharpen = torch.stack([draws.alpha, draws.lightness], dim=1) * chosen["sharpen"][:, None]
    return GuidanceView(
        matrix=matrix,
        shifts=shifts,
        sigma=draws.sigma * chosen["blur"],
        sharpen=sharpen,
        contrast=torch.where(chosen["contrast"], draws.contrast, one),
        threshold=torch.where(chosen["solarize"], draws.threshold, one),
        color=color.saturation_and_hue(saturation, hue),
        jitter_contrast=torch.where(draws.jittered, draws.jitter_contrast, one),
        brightness=torch.where(draws.jittered, draws.brightness, one),
    )


def sample_view(
    strength: Strength, batch: int, size: tuple[int, int], *, generator: torch.Generator
) -> GuidanceView:
    """Sample a guidance view for each of `batch` images.

    strength: e.g. STRENGTHS["medium"]. size: (height, width) of the images.
    generator: a CPU generator."""
    return compose_view(sample_draws(strength, batch, generator=generator), size)


def apply_view(images: Tensor, view: GuidanceView) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the same words in another look, in [0, 1]."""
    views = geometry.apply_warp(images, view.matrix, view.shifts)
    if (rows := view.sigma.nonzero()[:, 0]).numel():
        views[rows] = filters.blur(views[rows], view.sigma[rows])
    if (rows := view.sharpen[:, 0].nonzero()[:, 0]).numel():
        views[rows] = filters.sharpen(views[rows], *view.sharpen[rows].unbind(1))
    views = 0.5 + color.per_image(view.contrast, images) * (views - 0.5)
    views = views.clamp(0, 1)
    views = torch.where(views > color.per_image(view.threshold, images), 1 - views, views)
    return color.apply_color(views, view.color, view.jitter_contrast, view.brightness)
