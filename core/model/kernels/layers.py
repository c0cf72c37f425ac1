"""Attention modules of timm and PyTorch, computed by `scaled_dot_product`; same weight names.

Shapes: B images, T queries, S keys, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from core.model.kernels.attention import scaled_dot_product
from core.model.kernels.dropout import SeededModule
from core.runtime.torchvision_shim import declare_missing_operators

declare_missing_operators()
from timm.layers.attention import Attention  # noqa: E402  (must follow the declaration above)
from timm.layers.mlp import Mlp  # noqa: E402

RECOMPUTED_VALUES = 1 << 20  # from this number on, GELU is computed again in the backward pass


class SelfAttention(Attention):
    """timm's self-attention. With `fused_attn` off, timm computes it and hooks see the weights."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        if not self.fused_attn:
            plain: Tensor = super().forward(x, attn_mask, is_causal)
            return plain
        packed = self.qkv(x).view(*x.shape[:-1], 3, self.num_heads, self.head_dim)
        output: Tensor = self.proj(scaled_dot_product(packed))
        return output


class FeedForward(Mlp):
    """timm's feed-forward network, which on a CPU does not keep the output of GELU.

    The backward pass computes it a second time. LMIM with ViT-S and batch 16 in fp32 then takes
    2.21 in place of 2.49 GB; no longer steps were measured."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        inner = self.fc1(x)  # (B, T, inner width)
        eager_cpu = inner.device.type == "cpu" and not torch.compiler.is_compiling()
        output: Tensor
        if eager_cpu and torch.is_grad_enabled() and inner.numel() >= RECOMPUTED_VALUES:
            output = checkpoint(
                self._activate_and_project, inner, use_reentrant=False, preserve_rng_state=False
            )
        else:
            output = self._activate_and_project(inner)
        return output

    def _activate_and_project(self, inner: Tensor) -> Tensor:
        output: Tensor = self.fc2(self.act(inner))
        return output


class MultiHeadAttention(SeededModule, nn.MultiheadAttention):
    """nn.MultiheadAttention, batch first, with dropout that can be seeded by position."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, dropout=dropout, batch_first=True)

    def forward(self, queries: Tensor, source: Tensor) -> Tensor:  # type: ignore[override]
        """(B, T, D) queries over keys and values of (B, S, D) -> (B, T, D)."""
        width = self.embed_dim
        weight = self.in_proj_weight  # (3 D, D): queries, keys, values
        bias = self.in_proj_bias
        if queries is source:
            projected = [functional.linear(source, weight, bias)]
        else:
            projected = [
                functional.linear(queries, weight[:width], bias[:width]),
                functional.linear(source, weight[width:], bias[width:]),
            ]
        heads = (self.num_heads, width // self.num_heads)
        packed = [values.view(*values.shape[:-1], -1, *heads) for values in projected]
        dropout = self.dropout if self.training else 0.0
        seeds = self.next_seeds(len(queries), dropout)
        output: Tensor = self.out_proj(scaled_dot_product(*packed, dropout=dropout, seeds=seeds))
        return output
