"""The guidance view: the same word with another look (Table 2: weak, medium, strong; `steady` is SeqCLR's).

Made for a whole batch, in two steps: `draw_view` decides on the CPU, from an explicit generator; `guidance_view` applies the
decisions on any device. Which operations, how often and how far follow `medium` of the released code. Departures, all for
speed: the operations run in one fixed order, on the image already resized, and colors turn in YIQ. Weak keeps cropping and
rotation; strong turns medium's ranges up by half (all but solarize's threshold, gray's share and the sharpening's lightness).
Steady has medium's colors and half of its geometry, without rotation, so that a window of one view shows the same characters
as that window of another. Beside views made image by image, in random order, at the source's size, medium's are 0.025 to 0.03
(of 1) brighter and keep a fifth to a half more gradient, for they are sampled once (tests/test_guidance_statistics.py).
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from core.views import geometry

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
    """Which operations take part, how many at least, and by how much medium's ranges of geometry and look are turned up."""

    operations: tuple[str, ...]
    least: int
    geometry: float
    look: float
    jitter: bool


STRENGTHS = {
    "weak": Strength(
        ("crop", "crop_sides", "rotate"), least=1, geometry=1.0, look=1.0, jitter=False
    ),
    "medium": Strength(OPERATIONS, least=3, geometry=1.0, look=1.0, jitter=True),
    "strong": Strength(OPERATIONS, least=3, geometry=1.5, look=1.5, jitter=True),
    "steady": Strength(
        tuple(name for name in OPERATIONS if name != "rotate"),
        least=3,
        geometry=0.5,
        look=1.0,
        jitter=True,
    ),
}


def strength_of(level: str | float) -> Strength:
    """A level's strength; of a number: medium's ranges times it. Below 1 what has no range happens more rarely by it."""
    return (
        STRENGTHS[level]
        if isinstance(level, str)
        else replace(STRENGTHS["medium"], geometry=level, look=level)
    )


@dataclass(frozen=True)
class View:
    """What happens to each image of a batch of B; a value that changes nothing stands where an operation was not chosen."""

    matrix: Tensor  # (B, 3, 3) warp
    shifts: Tensor  # (B, 2, 4, 4) pixels
    sigma: Tensor  # (B,) pixels, 0: no blur
    sharpen: Tensor  # (B, 2) alpha, lightness
    contrast: Tensor  # (B,) factor about mid-gray
    threshold: Tensor  # (B,) solarize above, 1: never
    color: Tensor  # (B, 3, 3)
    jitter_contrast: Tensor  # (B,) factor about the mean gray
    brightness: Tensor  # (B,)

    def __getitem__(self, part: slice | Tensor) -> "View":
        return View(*(getattr(self, field.name)[part] for field in fields(self)))


def choose_operations(
    strength: Strength, batch: int, *, generator: torch.Generator
) -> dict[str, Tensor]:
    """For each operation, which images it happens to: (B,) bool. Between `least` and all of them, evenly."""
    count = torch.randint(
        strength.least, len(strength.operations) + 1, (batch, 1), generator=generator
    )
    rank = torch.rand(batch, len(strength.operations), generator=generator).argsort(1).argsort(1)
    chosen = dict(zip(strength.operations, (rank < count).unbind(1), strict=True))
    return {name: chosen.get(name, torch.zeros(batch, dtype=torch.bool)) for name in OPERATIONS}


@dataclass(frozen=True)
class Draws:
    """What is drawn for each image of a batch of B, by the names of the released code's operations.

    An operation's values stand for nothing where it was not `chosen`; those of colors where the image is not `jittered`."""

    chosen: dict[str, Tensor]  # operation -> (B,) bool
    crop: Tensor  # (B, 2) shares cut from top and bottom
    crop_sides: Tensor  # (B, 2) shares cut from left and right
    angle: Tensor  # (B,) degrees
    inward: Tensor  # (B, 4, 2) shares of (width, height) by which corners move
    shifts: Tensor  # (B, 2, 4, 4) shares of width, of height, by which points of a coarse grid move
    sigma: Tensor  # (B,) of blur, pixels
    alpha: Tensor  # (B,) of sharpening
    lightness: Tensor  # (B,) of sharpening
    contrast: Tensor  # (B,)
    threshold: Tensor  # (B,) of solarizing, of a range of 1
    gray: Tensor  # (B,) share of color taken away
    jittered: Tensor  # (B,) bool
    grayed: Tensor  # (B,) bool: all color is taken away
    saturation: Tensor  # (B,)
    hue: Tensor  # (B,) turns
    jitter_contrast: Tensor  # (B,)
    brightness: Tensor  # (B,)


def draw(strength: Strength, batch: int, *, generator: torch.Generator) -> Draws:
    """DropoutSeeds a guidance view for each of `batch` images."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return geometry.uniform(low, high, batch, *shape, generator=generator)

    def normal(low: float, high: float, *shape: int) -> Tensor:
        """Normal draws about 0 whose deviation is itself drawn for each image."""
        values = torch.randn(batch, *shape, generator=generator)
        return values * uniform(low, high, *(1 for _ in shape))

    g, f = strength.geometry, strength.look
    chosen = choose_operations(strength, batch, generator=generator)
    rarer = min(1.0, f)
    if rarer < 1:
        chosen |= {name: chosen[name] & (uniform(0, 1) < rarer) for name in ("solarize", "gray")}
    crop, crop_sides = uniform(0, 0.1 * g, 2), uniform(0, 0.02 * g, 2)
    inward = normal(0.02 * g, 0.06 * g, 4, 2).abs().clamp(max=0.3)
    angle, shifts = uniform(-15 * g, 15 * g), normal(0.03 * g, 0.05 * g, 2, 4, 4)
    jittered, grayed = (
        (uniform(0, 1) < 0.8) & strength.jitter,
        (uniform(0, 1) < 0.2 * rarer) & strength.jitter,
    )
    saturation, gray, hue = (
        uniform(1 - 0.2 * f, 1 + 0.2 * f),
        uniform(0, 1),
        uniform(-0.1 * f, 0.1 * f),
    )
    sigma, alpha, lightness = (
        uniform(0.5 * f, 1.5 * f),
        uniform(0, min(1, 0.5 * f)),
        uniform(0, 0.5),
    )
    contrast, threshold = (
        uniform(0.5 / f if f >= 1 else 1 - 0.5 * f, 1),
        uniform(32 / 255, 128 / 255),
    )
    low, high = 1 - 0.4 * f, 1 + 0.4 * f
    return Draws(
        *(
            chosen,
            crop,
            crop_sides,
            angle,
            inward,
            shifts,
            sigma,
            alpha,
            lightness,
            contrast,
            threshold,
            gray,
        ),
        *(jittered, grayed, saturation, hue),
        jitter_contrast=uniform(low, high),
        brightness=uniform(low, high),
    )


def compose(draws: Draws, size: tuple[int, int]) -> View:
    """What the draws do to images of (height, width) `size`: one warp, one color matrix."""
    chosen, (height, width) = draws.chosen, size
    cut, side = (
        draws.crop * chosen["crop"][:, None],
        draws.crop_sides * chosen["crop_sides"][:, None],
    )
    one = torch.ones(())
    matrix = (
        geometry.crop(side[:, 0], side[:, 1], cut[:, 0], cut[:, 1], size)
        @ geometry.rotate(torch.deg2rad(draws.angle) * chosen["rotate"], size)
        @ geometry.perspective(draws.inward * chosen["perspective"][:, None, None], size)
    )
    shifts = (
        draws.shifts
        * torch.tensor([width, height]).view(2, 1, 1)
        * chosen["piecewise"][:, None, None, None]
    )
    saturation = torch.where(draws.jittered, draws.saturation, one) * ~draws.grayed
    saturation = saturation * torch.where(chosen["gray"], 1 - draws.gray, one)
    hue = draws.hue * 2 * math.pi * draws.jittered
    return View(
        matrix=matrix,
        shifts=shifts,
        sigma=draws.sigma * chosen["blur"],
        sharpen=torch.stack([draws.alpha, draws.lightness], dim=1) * chosen["sharpen"][:, None],
        contrast=torch.where(chosen["contrast"], draws.contrast, one),
        threshold=torch.where(chosen["solarize"], draws.threshold, one),
        color=geometry.saturation_and_hue(saturation, hue),
        jitter_contrast=torch.where(draws.jittered, draws.jitter_contrast, one),
        brightness=torch.where(draws.jittered, draws.brightness, one),
    )


def draw_view(
    strength: Strength, batch: int, size: tuple[int, int], *, generator: torch.Generator
) -> View:
    """Decide a guidance view for each of `batch` images of (height, width) `size` pixels."""
    return compose(draw(strength, batch, generator=generator), size)


def sharpened(images: Tensor, alpha: Tensor, lightness: Tensor) -> Tensor:
    """Blend with an edge filter: (1 - alpha) x + alpha (9 x - sum of 3 x 3 + lightness x); alpha, lightness (B,)."""
    alpha, lightness = (value.to(images).view(-1, 1, 1, 1) for value in (alpha, lightness))
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    edges = 9 * images - (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:])
    return (1 - alpha) * images + alpha * (edges + lightness * images)


def guidance_view(images: Tensor, view: View) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the same words with another look, in [0, 1]."""
    views = geometry.apply_warp(images, view.matrix, view.shifts)
    if (rows := view.sigma.nonzero()[:, 0]).numel():
        views[rows] = geometry.blur(views[rows], view.sigma[rows])
    if (rows := view.sharpen[:, 0].nonzero()[:, 0]).numel():
        views[rows] = sharpened(views[rows], *view.sharpen[rows].unbind(1))
    views = (0.5 + view.contrast.to(images).view(-1, 1, 1, 1) * (views - 0.5)).clamp(0, 1)
    views = torch.where(views > view.threshold.to(images).view(-1, 1, 1, 1), 1 - views, views)
    return geometry.apply_color(views, view.color, view.jitter_contrast, view.brightness)
