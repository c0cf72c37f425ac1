"""Random draws of the views, each from an explicit generator."""

import torch
from torch import Tensor


def uniform(low: float, high: float, *shape: int, generator: torch.Generator) -> Tensor:
    """(*shape) uniform draws in [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def symmetric_beta(batch: int, *, generator: torch.Generator) -> Tensor:
    """(B,) draws of Beta(4, 4), scaled to [-1, 1]: the median of seven uniform draws."""
    return torch.rand(batch, 7, generator=generator).sort(1).values[:, 3] * 2 - 1


def small_beta(batch: int, *shape: int, generator: torch.Generator) -> Tensor:
    """(B, *shape) draws of Beta(1, 4), in [0, 1] and mostly small."""
    return 1 - torch.rand(batch, *shape, generator=generator) ** 0.25
