"""Guidance views of the same draws, made as a batch and image by image, for tests."""

from dataclasses import fields, replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from analysis.bench.per_image import JITTER, Drawn, Picture, apply_one
from core.data.word_images import resize_image
from core.synthetic.config import Synthetic
from core.synthetic.words import render_word
from core.views.guidance import (
    OPERATIONS,
    STRENGTHS,
    GuidanceDraws,
    apply_view,
    compose_view,
)

SIZE = (32, 128)  # (height, width) of the views in pixels
MEDIUM = STRENGTHS["medium"]
LEVEL = 1 / 255  # one of the 256 levels of a file's pixels


@cache
def word_images(look: str, count: int, size: tuple[int, int] = SIZE) -> list[Picture]:
    """Synthetic words of (height, width) `size`; the look `scene` has different sizes."""
    config = Synthetic.model_validate(
        {"train": count, "validation": 1, "vocabulary": 1000, "look": look, "image": size}
    )
    return [render_word(config, "train", number)[0] for number in range(count)]


def as_batch(images: list[Picture]) -> Tensor:
    """(B, 3, H, W) in [0, 1]."""
    return torch.stack([resize_image(image, SIZE) for image in images]) / 255


def draws_of_image(draws: GuidanceDraws, number: int) -> Drawn:
    """The draws of one image, for `apply_one`.

    Hue changes its sign, because a rotation in YIQ has the opposite direction of one in HSV."""
    drawn: dict[str, object] = {
        "chosen": {name: bool(value[number]) for name, value in draws.chosen.items()}
    }
    for field in fields(draws):
        if field.name == "chosen":
            continue
        value = getattr(draws, field.name)[number]
        if value.is_floating_point():
            drawn[field.name] = (-1 if field.name == "hue" else 1) * value.numpy()
        else:
            drawn[field.name] = bool(value)
    return cast(Drawn, drawn)


def only(draws: GuidanceDraws, name: str) -> GuidanceDraws:
    """The draws with one operation applied to every image, and no other operation."""
    never = torch.zeros_like(draws.jittered)
    chosen = {operation: never | (operation == name) for operation in OPERATIONS}
    draws = replace(draws, chosen=chosen, jittered=never, grayed=never)
    if name == "grayed":
        return replace(draws, grayed=~never)
    if name not in JITTER:
        return draws
    neutral: dict[str, Any] = {
        color: torch.full(never.shape, 0.0 if color == "hue" else 1.0)
        for color in JITTER
        if color != name
    }
    return replace(draws, jittered=~never, **neutral)


def both_ways(draws: GuidanceDraws, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Words, their batched views, and their views one by one with the operation `name`.

    (B, 3, H, W) each."""
    images = word_images("coloured", len(draws.sigma))
    one_by_one = [
        apply_one(image, draws_of_image(draws, number), SIZE, (name,))
        for number, image in enumerate(images)
    ]
    batch = as_batch(images)
    return batch, apply_view(batch, compose_view(draws, SIZE)), torch.stack(one_by_one)
