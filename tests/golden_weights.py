"""The golden files' rule: weights and inputs regenerated from names alone."""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
TABLES = ("pos_embed", "position_table")


def load_golden(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def normal(name: str, shape: list[int]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def golden_image(name: str, shape: list[int]) -> Tensor:
    return normal(name, shape).clamp(-1, 1)


def golden_state(names: dict[str, list[int]]) -> dict[str, Tensor]:
    """Weights under the released names: 0.05 * randn seeded by the name's CRC-32, plus 1 for LayerNorm scales."""
    state = {}
    for name, shape in names.items():
        if not name.endswith(TABLES):
            is_scale = len(shape) == 1 and name.endswith("weight")
            state[name] = 0.05 * normal(name, shape) + (1.0 if is_scale else 0.0)
    return state
