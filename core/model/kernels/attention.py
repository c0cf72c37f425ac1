"""Scaled dot-product attention by the fastest implementation on each device.

All implementations agree up to rounding. Shapes: B images, T queries, S keys, H heads, K features
per head. Queries, keys and values come packed, as linear layers return them: one tensor
(B, T, 3, H, K), or several tensors (B, T or S, n, H, K) that hold them in this order. So gradients
are written into one tensor per linear layer, without copies.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.model.kernels.dropout import DropoutSeeds, apply_by_chunk, keep_mask

BLOCK_ELEMENTS = 1 << 19  # attention weights computed at a time on a CPU: fits its caches
FEW_QUERIES = 16  # below this number the fused CPU kernel is slower without gradients


def scaled_dot_product(
    *packed: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    seeds: DropoutSeeds | None = None,
) -> Tensor:
    """softmax(Q K^T / sqrt(K)) V -> (B, T, H * K).

    packed: queries, keys and values (see the module).
    mask: (B, 1, T, S), true where a key may be attended to; None allows all keys.
    dropout: probability of dropping an attention weight.
    seeds: of this dropout; None uses PyTorch's draws."""
    blocked = seeds is not None or (not dropout and _fused_is_slow(packed))
    if blocked and packed[0].device.type == "cpu" and not torch.compiler.is_compiling():
        apply: Callable[..., Tensor] = BlockedAttention.apply
        return apply(mask, dropout, seeds, *packed).flatten(2)

    def fused(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.scaled_dot_product_attention(queries, keys, values, mask, dropout)

    inputs = split_qkv(packed)
    if mask is not None:
        inputs.append(mask)
    mixed = fused(*inputs) if seeds is None else apply_by_chunk(seeds, fused, *inputs)
    return mixed.transpose(1, 2).flatten(2)


def split_qkv(packed: Sequence[Tensor]) -> list[Tensor]:
    """Views of queries, keys and values: each (B, H, T or S, K)."""
    return [part for tensor in packed for part in tensor.permute(2, 0, 3, 1, 4)]


def _fused_is_slow(packed: Sequence[Tensor]) -> bool:
    """Whether PyTorch's fused CPU kernel is slower than matrix products.

    In bf16 it takes twice as long. In decoding, with few queries, it takes many times as long."""
    decoding = packed[0].shape[1] < FEW_QUERIES and not torch.is_grad_enabled()
    return packed[0].dtype == torch.bfloat16 or decoding


class BlockedAttention(torch.autograd.Function):
    """Attention by plain matrix products over a few images at a time.

    No weights are stored: the backward pass computes them, and their dropout, a second time."""

    @staticmethod
    def forward(
        ctx: Any, mask: Tensor | None, dropout: float, seeds: DropoutSeeds | None, *packed: Tensor
    ) -> Tensor:
        """-> (B, T, H, K)."""
        queries, keys, values = split_qkv(packed)
        batch, heads, count, features = queries.shape
        mixed = queries.new_empty(batch, count, heads, features)
        ctx.mask = mask
        ctx.dropout = dropout
        ctx.seeds = seeds
        with torch.autocast("cpu", enabled=False):
            for rows, generator in _blocks(seeds, queries, keys):
                weights = _weights(queries[rows] * _scale(queries), keys[rows], mask, rows)
                if generator is not None:
                    _drop_(weights, _keep_factors(weights, dropout, generator), dropout)
                mixed[rows].copy_((weights @ values[rows]).transpose(1, 2))
        ctx.save_for_backward(mixed, *packed)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """(B, T, H, K) gradient of the output -> gradients of all inputs."""
        mixed, *packed = ctx.saved_tensors
        queries, keys, values = split_qkv(packed)
        packed_gradients = [torch.empty_like(tensor) for tensor in packed]
        to_queries, to_keys, to_values = split_qkv(packed_gradients)
        scale = _scale(queries)
        with torch.autocast("cpu", enabled=False):
            for rows, generator in _blocks(ctx.seeds, queries, keys):
                gradient = gradients[0][rows].transpose(1, 2)  # (b, H, T, K)
                scaled = queries[rows] * scale
                weights = _weights(scaled, keys[rows], ctx.mask, rows)  # (b, H, T, S)
                to_weights = gradient @ values[rows].transpose(2, 3)  # (b, H, T, S)
                dropped = weights
                if generator is not None:
                    factors = _keep_factors(weights, ctx.dropout, generator)
                    dropped = _drop_(weights.clone(), factors, ctx.dropout)
                    _drop_(to_weights, factors, ctx.dropout)
                to_values[rows].copy_(dropped.transpose(2, 3) @ gradient)
                to_scores = _softmax_backward_(to_weights, weights, gradient, mixed[rows])
                torch.mul(to_scores @ keys[rows], scale, out=to_queries[rows])
                to_keys[rows].copy_(to_scores.transpose(2, 3) @ scaled)
        return None, None, None, *packed_gradients


def _softmax_backward_(
    to_weights: Tensor, weights: Tensor, gradient: Tensor, mixed: Tensor
) -> Tensor:
    """Turn the gradient of the weights into that of the scores, in place; (b, H, T, S).

    The row sums of weight times gradient equal the products of output and its gradient."""
    products = gradient * mixed.transpose(1, 2)  # (b, H, T, K)
    shared = products.sum(-1, keepdim=True, dtype=torch.float)
    return to_weights.sub_(shared.to(to_weights.dtype)).mul_(weights)


def _scale(queries: Tensor) -> float:
    return float(queries.shape[-1] ** -0.5)


def _weights(scaled: Tensor, keys: Tensor, mask: Tensor | None, rows: slice) -> Tensor:
    """(b, H, T, K) scaled queries, (b, H, S, K) keys -> (b, H, T, S) attention weights."""
    scores = scaled @ keys.transpose(2, 3)
    if mask is not None:
        scores.masked_fill_(~mask[rows], -torch.inf)
    return scores.softmax(-1)


def _keep_factors(weights: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """0 for dropped weights, 1 for the others, in the weights' type: the fastest to multiply."""
    return keep_mask(weights.shape, dropout, generator).to(weights.dtype)


def _drop_(values: Tensor, factors: Tensor, dropout: float) -> Tensor:
    """Drop in place, and scale the rest so that the expectation stays the same."""
    return values.mul_(factors).mul_(1 / (1 - dropout))


def _blocks(
    seeds: DropoutSeeds | None, queries: Tensor, keys: Tensor
) -> Iterator[tuple[slice, torch.Generator | None]]:
    """Rows of images with about BLOCK_ELEMENTS attention weights, and the chunk's generator."""
    elements = prod((*queries.shape[1:3], keys.shape[2]))  # attention weights of an image
    step = max(1, BLOCK_ELEMENTS // elements)
    chunks: Iterator[tuple[torch.Generator | None, slice]] = iter([(None, slice(0, len(queries)))])
    if seeds is not None:
        chunks = seeds.generators(queries.device)
    for generator, rows in chunks:
        for start in range(rows.start, rows.stop, step):
            yield slice(start, min(start + step, rows.stop)), generator
