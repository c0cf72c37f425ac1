"""Weights and inputs of the golden files, regenerated from names alone."""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
TABLES = ("pos_embed", "position_table")


def load_golden(name: str) -> dict[str, Any]:
    """The golden file `name`: lmim or recognizer."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def normal(name: str, shape: list[int]) -> Tensor:
    """Standard normal values, seeded by the name's CRC-32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def golden_image(name: str, shape: list[int]) -> Tensor:
    """Normal values clamped to [-1, 1], the range of images."""
    return normal(name, shape).clamp(-1, 1)


def golden_state(names: dict[str, list[int]]) -> dict[str, Tensor]:
    """Weights under the released names: 0.05 * normal, plus 1 for LayerNorm scales."""
    state = {}
    for name, shape in names.items():
        if not name.endswith(TABLES):
            is_scale = len(shape) == 1 and name.endswith("weight")
            state[name] = 0.05 * normal(name, shape) + (1.0 if is_scale else 0.0)
    return state
