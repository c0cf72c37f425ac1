"""The guidance view: the same word with another look (Table 2: weak, medium, strong; `steady` is SeqCLR's).

Made for a whole batch, in two steps: `draw_view` decides on the CPU, from an explicit generator; `guidance_view` applies the
decisions on any device. Which operations, how often and how far follow `medium` of the released code. Departures, all for
speed: the operations run in one fixed order, on the image already resized, and colours turn in YIQ. Weak keeps cropping and
rotation; strong turns medium's ranges up by half (all but solarise's threshold, grey's share and the sharpening's lightness).
Steady has medium's colours and half of its geometry, without rotation, so that a window of one view shows the same characters
as that window of another.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from core import warp

OPERATIONS = ("contrast", "blur", "crop", "crop_sides", "sharpen", "rotate", "piecewise", "perspective", "solarise", "grey")


@dataclass(frozen=True)
class Strength:
    """Which operations take part, how many at least, and by how much medium's ranges of geometry and look are turned up."""

    operations: tuple[str, ...]
    least: int
    geometry: float
    look: float
    jitter: bool


STRENGTHS = {
    "weak": Strength(("crop", "crop_sides", "rotate"), least=1, geometry=1.0, look=1.0, jitter=False),
    "medium": Strength(OPERATIONS, least=3, geometry=1.0, look=1.0, jitter=True),
    "strong": Strength(OPERATIONS, least=3, geometry=1.5, look=1.5, jitter=True),
    "steady": Strength(tuple(name for name in OPERATIONS if name != "rotate"), least=3, geometry=0.5, look=1.0, jitter=True),
}


def strength_of(level: str | float) -> Strength:
    """A level's strength; of a number: medium's ranges times it. Below 1 what has no range happens more rarely by it."""
    return STRENGTHS[level] if isinstance(level, str) else replace(STRENGTHS["medium"], geometry=level, look=level)


@dataclass(frozen=True)
class View:
    """What happens to each image of a batch of B; a value that changes nothing stands where an operation was not chosen."""

    matrix: Tensor  # (B, 3, 3) warp
    shifts: Tensor  # (B, 2, 4, 4) pixels
    sigma: Tensor  # (B,) pixels, 0: no blur
    sharpen: Tensor  # (B, 2) alpha, lightness
    contrast: Tensor  # (B,) factor about mid-grey
    threshold: Tensor  # (B,) solarise above, 1: never
    colour: Tensor  # (B, 3, 3)
    jitter_contrast: Tensor  # (B,) factor about the mean grey
    brightness: Tensor  # (B,)

    def __getitem__(self, part: slice | Tensor) -> "View":
        return View(*(getattr(self, field.name)[part] for field in fields(self)))


def choose_operations(strength: Strength, batch: int, *, generator: torch.Generator) -> dict[str, Tensor]:
    """For each operation, which images it happens to: (B,) bool. Between `least` and all of them, evenly."""
    count = torch.randint(strength.least, len(strength.operations) + 1, (batch, 1), generator=generator)
    rank = torch.rand(batch, len(strength.operations), generator=generator).argsort(1).argsort(1)
    chosen = dict(zip(strength.operations, (rank < count).unbind(1), strict=True))
    return {name: chosen.get(name, torch.zeros(batch, dtype=torch.bool)) for name in OPERATIONS}


def draw_view(strength: Strength, batch: int, size: tuple[int, int], *, generator: torch.Generator) -> View:
    """Decide a guidance view for each of `batch` images of (height, width) `size` pixels."""
    height, width = size

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return warp.uniform(low, high, batch, *shape, generator=generator)

    g, f = strength.geometry, strength.look
    chosen = choose_operations(strength, batch, generator=generator)
    rarer = min(1.0, f)
    if rarer < 1:
        chosen |= {name: chosen[name] & (draw(0, 1) < rarer) for name in ("solarise", "grey")}
    zero, one = torch.zeros(batch), torch.ones(batch)
    cut, side = draw(0, 0.1 * g, 2) * chosen["crop"][:, None], draw(0, 0.02 * g, 2) * chosen["crop_sides"][:, None]
    inward = (torch.randn(batch, 4, 2, generator=generator) * draw(0.02 * g, 0.06 * g, 1, 1)).abs().clamp(max=0.3)
    matrix = (
        warp.crop(side[:, 0], side[:, 1], cut[:, 0], cut[:, 1], size)
        @ warp.rotate(torch.deg2rad(draw(-15 * g, 15 * g)) * chosen["rotate"], size)
        @ warp.perspective(inward * chosen["perspective"][:, None, None], size)
    )
    shifts = torch.randn(batch, 2, 4, 4, generator=generator) * draw(0.03 * g, 0.05 * g, 1, 1, 1)
    shifts = shifts * torch.tensor([width, height]).view(2, 1, 1) * chosen["piecewise"][:, None, None, None]

    jittered = (draw(0, 1) < 0.8) & strength.jitter
    greyed = (draw(0, 1) < 0.2 * rarer) & strength.jitter
    saturation = torch.where(jittered, draw(1 - 0.2 * f, 1 + 0.2 * f), one) * torch.where(greyed, zero, one)
    saturation = saturation * torch.where(chosen["grey"], 1 - draw(0, 1), one)
    hue = torch.where(jittered, draw(-0.1 * f, 0.1 * f) * 2 * math.pi, zero)
    low, high = 1 - 0.4 * f, 1 + 0.4 * f
    return View(
        matrix=matrix,
        shifts=shifts,
        sigma=torch.where(chosen["blur"], draw(0.5 * f, 1.5 * f), zero),
        sharpen=torch.stack([draw(0, min(1, 0.5 * f)), draw(0, 0.5)], dim=1) * chosen["sharpen"][:, None],
        contrast=torch.where(chosen["contrast"], draw(0.5 / f if f >= 1 else 1 - 0.5 * f, 1), one),
        threshold=torch.where(chosen["solarise"], draw(32 / 255, 128 / 255), one),
        colour=warp.saturation_and_hue(saturation, hue),
        jitter_contrast=torch.where(jittered, draw(low, high), one),
        brightness=torch.where(jittered, draw(low, high), one),
    )


def sharpened(images: Tensor, alpha: Tensor, lightness: Tensor) -> Tensor:
    """Blend with an edge filter: (1 - alpha) x + alpha (9 x - sum of 3 x 3 + lightness x); alpha, lightness (B,)."""
    alpha, lightness = (value.to(images).view(-1, 1, 1, 1) for value in (alpha, lightness))
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    edges = 9 * images - (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:])
    return (1 - alpha) * images + alpha * (edges + lightness * images)


def guidance_view(images: Tensor, view: View) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the same words with another look, in [0, 1]."""
    views = warp.apply_warp(images, view.matrix, view.shifts)
    if (rows := view.sigma.nonzero()[:, 0]).numel():
        views[rows] = warp.blur(views[rows], view.sigma[rows])
    if (rows := view.sharpen[:, 0].nonzero()[:, 0]).numel():
        views[rows] = sharpened(views[rows], *view.sharpen[rows].unbind(1))
    views = (0.5 + view.contrast.to(images).view(-1, 1, 1, 1) * (views - 0.5)).clamp(0, 1)
    views = torch.where(views > view.threshold.to(images).view(-1, 1, 1, 1), 1 - views, views)
    return warp.apply_colour(views, view.colour, view.jitter_contrast, view.brightness)
