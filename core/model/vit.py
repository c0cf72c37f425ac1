"""The ViT encoder and its fixed position table."""

from functools import partial
from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn

from core.config import Encoder
from core.model.kernels.attention import attend
from core.runtime.torchvision_shim import declare_missing_operators

declare_missing_operators()
from timm.models.vision_transformer import Attention, Block  # noqa: E402  (must follow the declaration above)


def position_table(width: int, patches: int, columns: int) -> Tensor:
    """Sine-cosine positions of patches numbered row by row in a grid of `columns`; (1, 1 + patches, width).

    The first half of the width encodes the column, the second the row; each half is [sin, cos] of
    position * 10000^(-i / (width / 4)). Row 0 belongs to [cls] and is zero. (MAE, arXiv 2111.06377.)"""
    number = torch.arange(patches, dtype=torch.float64)
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    halves = [position[:, None] * frequency for position in (number % columns, number // columns)]
    table = torch.cat([wave for half in halves for wave in (half.sin(), half.cos())], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), table])[None].float()


def table_columns(config: Encoder) -> int:
    """Columns the position table counts in: the grid's own, or the released code's square root (16 for 8 x 32)."""
    return isqrt(config.patches) if config.positions == "released" else config.grid[1]


def is_table_of(config: Encoder, table: Tensor) -> bool:
    """Whether `table` is the position table that the config stands for."""
    expected = position_table(config.width, config.patches, table_columns(config))
    return table.shape == expected.shape and torch.allclose(
        table.float().cpu(), expected, atol=1e-3
    )


def position_kind(config: Encoder, table: Tensor) -> Literal["released", "grid"] | None:
    """Which table for an encoder of these sizes `table` is, the config's own if both are the same; None if it is neither."""
    kinds: tuple[Literal["released", "grid"], ...] = (config.positions, "released", "grid")
    return next(
        (
            kind
            for kind in kinds
            if is_table_of(config.model_copy(update={"positions": kind}), table)
        ),
        None,
    )


def patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) -> (B, N, 3 * patch height * patch width), patches row by row, a patch in (color, row, column) order."""
    batch, colors, height, width = images.shape
    rows, columns = height // patch[0], width // patch[1]
    cells = images.reshape(batch, colors, rows, patch[0], columns, patch[1])
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def gather_patches(sequence: Tensor, indices: Tensor) -> Tensor:
    """(B, N, D), (B, V) -> (B, V, D): the patches named by `indices`, in their order."""
    return sequence.gather(1, indices[..., None].expand(-1, -1, sequence.shape[-1]))


def initialize(module: nn.Module) -> None:
    """The released initialization: Xavier-uniform linears, zero biases, unit norms, [cls] and mask tokens normal(0.02)."""
    for name, parameter in module.named_parameters():
        if name.endswith(("cls_token", "mask_token")):
            nn.init.normal_(parameter, std=0.02)
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)


class SelfAttention(Attention):
    """timm's, mixed by core/model/kernels/attention.py; with `fused_attn` off as timm does it, for those who look at the weights."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        if not self.fused_attn:
            return super().forward(x, attn_mask, is_causal)
        return self.proj(attend(self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))))


class VisionTransformer(nn.Module):
    """Pre-norm ViT with [cls] and a final norm (LayerNorm eps 1e-6); sees all patches, or only those named visible."""

    positions: Tensor

    def __init__(self, config: Encoder) -> None:
        super().__init__()
        self.config = config
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.patch_embed = nn.Linear(config.patch_values, config.width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        table = position_table(config.width, config.patches, table_columns(config))
        self.register_buffer("positions", table, persistent=False)
        self.blocks = nn.Sequential(
            *(
                Block(
                    config.width,
                    config.heads,
                    qkv_bias=True,
                    norm_layer=norm,  # type: ignore[arg-type]
                    attn_layer=SelfAttention,
                )
                for _ in range(config.depth)
            )
        )
        self.norm = norm(config.width)
        initialize(self)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + N, D), or (B, 1 + V, D) for `visible` (B, V) patch numbers; [cls] comes first."""
        patches = patchify(images, self.config.patch)
        positions = self.positions[:, 1:].expand(len(images), -1, -1)
        if visible is not None:
            patches, positions = (
                gather_patches(patches, visible),
                gather_patches(positions, visible),
            )
        cls = (self.cls_token + self.positions[:, :1]).expand(len(images), -1, -1)
        return self.norm(
            self.blocks(torch.cat([cls, self.patch_embed(patches) + positions], dim=1))
        )
