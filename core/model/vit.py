"""The ViT encoder and its fixed position table.

Shapes: B images, N patches, V visible patches, D features.
"""

from functools import partial
from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn

from core.config import Encoder
from core.model.kernels.layers import FeedForward, SelfAttention
from core.runtime.safetensors_io import rounding_of
from core.runtime.torchvision_shim import declare_missing_operators

declare_missing_operators()
from timm.models.vision_transformer import Block  # noqa: E402  (must follow the declaration above)

PositionKind = Literal["released", "grid"]


def position_table(width: int, patches: int, columns: int) -> Tensor:
    """Sine-cosine positions of patches in a grid with `columns` columns; (1, 1 + patches, width).

    The first half of the width encodes the column, the second half the row. Each half is [sin, cos]
    of position * 10000^(-i / (width / 4)). Row 0 belongs to [cls] and is zero (MAE, arXiv
    2111.06377)."""
    number = torch.arange(patches, dtype=torch.float64)
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = [position[:, None] * frequency for position in (number % columns, number // columns)]
    table = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), table])[None].float()


def table_columns(config: Encoder) -> int:
    """Columns that the position table counts in.

    grid: those of the patch grid. released: the square root of the number of patches, as in the
    released code (16 for 8 x 32)."""
    return isqrt(config.patches) if config.positions == "released" else config.grid[1]


def is_table_of(config: Encoder, table: Tensor) -> bool:
    """Whether `table` is the position table of an encoder with this config."""
    expected = position_table(config.width, config.patches, table_columns(config))
    if table.shape != expected.shape:
        return False
    tolerance = max(1e-3, rounding_of(table.dtype))
    return torch.allclose(table.float().cpu(), expected, atol=tolerance)


def position_kind(config: Encoder, table: Tensor) -> PositionKind | None:
    """The kind of `table` for an encoder of these sizes; None if it is of neither kind.

    If both kinds give the same table, the kind of the config is returned."""
    kinds: tuple[PositionKind, ...] = (config.positions, "released", "grid")
    for kind in kinds:
        if is_table_of(config.model_copy(update={"positions": kind}), table):
            return kind
    return None


def patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) -> (B, N, 3 * patch height * patch width).

    Patches are numbered row by row. Values of a patch are in (color, row, column) order."""
    batch, colors, height, width = images.shape
    rows = height // patch[0]
    columns = width // patch[1]
    cells = images.reshape(batch, colors, rows, patch[0], columns, patch[1])
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def gather_patches(sequence: Tensor, indices: Tensor) -> Tensor:
    """(B, N, D), (B, V) -> (B, V, D): the patches with the given numbers, in their order."""
    return sequence.gather(1, indices[..., None].expand(-1, -1, sequence.shape[-1]))


def initialize(module: nn.Module) -> None:
    """Initialize all parameters as the released code does.

    Linear weights: Xavier-uniform. Biases: 0. Norm scales: 1. [cls] and mask tokens: normal with
    standard deviation 0.02."""
    for name, parameter in module.named_parameters():
        if name.endswith(("cls_token", "mask_token")):
            nn.init.normal_(parameter, std=0.02)
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)


class VisionTransformer(nn.Module):
    """Pre-norm ViT with [cls] and a final norm (LayerNorm eps 1e-6)."""

    positions: Tensor

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.config = config
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.patch_embed = nn.Linear(config.patch_values, config.width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        table = position_table(config.width, config.patches, table_columns(config))
        self.register_buffer("positions", table, persistent=False)  # (1, 1 + N, D)
        self.blocks = nn.Sequential(
            *(
                Block(
                    config.width,
                    config.heads,
                    qkv_bias=True,
                    norm_layer=norm,  # type: ignore[arg-type]
                    attn_layer=SelfAttention,
                    mlp_layer=FeedForward,
                )
                for _ in range(config.depth)
            )
        )
        self.norm = norm(config.width)
        initialize(self)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Features of [cls], then of the patches: (B, 1 + N, D), or (B, 1 + V, D) of visible ones.

        images: (B, 3, H, W) in [-1, 1]. visible: (B, V) patch numbers; None uses all patches."""
        patches = patchify(images, self.config.patch)  # (B, N, patch values)
        positions = self.positions[:, 1:].expand(len(images), -1, -1)  # (B, N, D)
        if visible is not None:
            patches = gather_patches(patches, visible)  # (B, V, patch values)
            positions = gather_patches(positions, visible)  # (B, V, D)
        embedded = self.patch_embed(patches) + positions
        cls = (self.cls_token + self.positions[:, :1]).expand(len(images), -1, -1)  # (B, 1, D)
        features: Tensor = self.norm(self.blocks(torch.cat([cls, embedded], dim=1)))
        return features
