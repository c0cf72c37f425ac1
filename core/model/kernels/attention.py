"""Scaled dot-product attention by the quickest way there is on a device; all ways agree but for rounding.

Shapes: B images, T queries, S keys, H heads, K features per head. What is attended with comes as linear layers leave it:
tensors (B, T, n, H, K) that hold queries, keys and values in this order, in one tensor of n = 3 or in several.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.model.kernels.dropout import DropoutSeeds, by_chunk, kept, next_draw

BLOCK_ELEMENTS = 1 << 19  # attention weights made at a time on a CPU: what its caches hold
FEW = 16  # queries


def attend(*projected: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(Q K^T / sqrt(K)) V, its weights dropped by chunk (core/model/kernels/dropout.py); -> (B, T, H * K).

    mask: (B, 1, T, S), true where a key may be seen; None is everywhere."""
    sample = projected[0]
    draw = next_draw(len(sample)) if dropout else None
    by_pieces = draw is not None or (not dropout and _is_slow(projected))
    if by_pieces and sample.device.type == "cpu" and not torch.compiler.is_compiling():
        return BlockedAttention.apply(mask, dropout, draw, *projected).flatten(2)
    queries, keys, values = split_qkv(projected)

    def fused(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.scaled_dot_product_attention(queries, keys, values, mask, dropout)

    inputs = (queries, keys, values) if mask is None else (queries, keys, values, mask)
    mixed = fused(*inputs) if draw is None else by_chunk(draw, fused, *inputs)
    return mixed.transpose(1, 2).flatten(2)


def split_qkv(projected: Sequence[Tensor]) -> list[Tensor]:
    """Views of queries, keys and values: each (B, H, T, K)."""
    return [part for tensor in projected for part in tensor.permute(2, 0, 3, 1, 4)]


def _is_slow(projected: Sequence[Tensor]) -> bool:
    """Whether PyTorch's fused CPU kernel would be slower: in bf16 it takes twice as long, and where words are read, with one
    query or some, many times."""
    return projected[0].dtype == torch.bfloat16 or (
        projected[0].shape[1] < FEW and not torch.is_grad_enabled()
    )


class BlockedAttention(torch.autograd.Function):
    """Plain matrix products, a few images at a time. No weights are kept: the backward pass makes, and draws, them again."""

    @staticmethod
    def forward(
        ctx: Any, mask: Tensor | None, dropout: float, draw: DropoutSeeds | None, *projected: Tensor
    ) -> Tensor:
        queries, keys, values = split_qkv(projected)
        mixed = queries.new_empty(
            queries.shape[0], queries.shape[2], queries.shape[1], queries.shape[3]
        )  # (B, T, H, K)
        ctx.mask, ctx.dropout, ctx.draw = mask, dropout, draw
        with torch.autocast("cpu", enabled=False):
            for rows, source in _pieces(draw, queries, keys):
                weights = _weights(queries[rows] * _scale(queries), keys[rows], mask, rows)
                if source is not None:
                    _drop(weights, _keep_factors(weights, dropout, source), dropout)
                mixed[rows].copy_((weights @ values[rows]).transpose(1, 2))
        ctx.save_for_backward(mixed, *projected)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        mixed, *projected = ctx.saved_tensors
        queries, keys, values = split_qkv(projected)
        scale, changes = _scale(queries), [torch.empty_like(tensor) for tensor in projected]
        to_queries, to_keys, to_values = split_qkv(changes)
        with torch.autocast("cpu", enabled=False):
            for rows, source in _pieces(ctx.draw, queries, keys):
                scaled, gradient = queries[rows] * scale, gradients[0][rows].transpose(1, 2)
                weights = _weights(scaled, keys[rows], ctx.mask, rows)
                change = gradient @ values[rows].transpose(
                    2, 3
                )  # of the loss with each weight, (b, H, T, S)
                dropped = weights
                if source is not None:
                    factors = _keep_factors(weights, ctx.dropout, source)
                    dropped = _drop(weights.clone(), factors, ctx.dropout)
                    _drop(change, factors, ctx.dropout)
                to_values[rows].copy_(dropped.transpose(2, 3) @ gradient)
                shared = (gradient * mixed[rows].transpose(1, 2)).sum(
                    -1, keepdim=True, dtype=torch.float
                )
                change.sub_(shared.to(change.dtype)).mul_(weights)  # softmax's derivative
                torch.mul(change @ keys[rows], scale, out=to_queries[rows])
                to_keys[rows].copy_(change.transpose(2, 3) @ scaled)
        return None, None, None, *changes


def _scale(queries: Tensor) -> float:
    return queries.shape[-1] ** -0.5


def _weights(scaled: Tensor, keys: Tensor, mask: Tensor | None, rows: slice) -> Tensor:
    scores = scaled @ keys.transpose(2, 3)
    return (scores if mask is None else scores.masked_fill_(~mask[rows], -torch.inf)).softmax(-1)


def _keep_factors(weights: Tensor, dropout: float, source: torch.Generator) -> Tensor:
    """0 for the weights that are dropped, 1 for the others; in their own type, in which a product is quickest."""
    return kept(weights.shape, dropout, source).to(weights.dtype)


def _drop(values: Tensor, factors: Tensor, dropout: float) -> Tensor:
    """In place; those kept become so much larger that the expectation stays."""
    return values.mul_(factors).mul_(1 / (1 - dropout))


def _pieces(
    draw: DropoutSeeds | None, queries: Tensor, keys: Tensor
) -> Iterator[tuple[slice, torch.Generator | None]]:
    """Rows of so many images that their weights are about BLOCK_ELEMENTS numbers; with the generator of their chunk's draws."""
    step = max(1, BLOCK_ELEMENTS // prod((*queries.shape[1:3], keys.shape[2])))
    chunks = [(None, slice(0, len(queries)))] if draw is None else draw.sources(queries.device)
    for source, rows in chunks:
        for start in range(rows.start, rows.stop, step):
            yield slice(start, min(start + step, rows.stop)), source
