"""Dropout that does not depend on how a batch is divided: its draws follow from an image's place in the batch.

A batch is cut into chunks of `chunk_size` places. Within `drawn_for`, every dropout draws chunk by chunk, each seeded by (seed,
chunk, number of the draw), so that parts of a batch, and processes that share it, draw what the whole batch would have drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.randomness import derive_seed


def chunk_size(batch: int) -> int:
    """Places of a chunk: a sixteenth of the batch, at most 32. Batches are divided between chunks only."""
    return max(1, min(32, batch // 16))


def chunks_of(places: Sequence[int], batch: int) -> list[tuple[int, slice]]:
    """Images at ascending places of a batch, by chunk: its number, and the rows of its images among those given."""
    found, start = [], 0
    for number, members in groupby(places, lambda place: place // chunk_size(batch)):
        stop = start + len(list(members))
        found.append((number, slice(start, stop)))
        start = stop
    return found


@dataclass
class _Draws:
    seed: int
    chunks: list[tuple[int, slice]]
    made: int = 0


_draws: _Draws | None = None  # of the forward pass that is going on


@contextmanager
def drawn_for(seed: int, places: Sequence[int], batch: int) -> Iterator[None]:
    """Let dropout in a forward pass over the images at these places of a batch draw what is theirs."""
    global _draws
    _draws = _Draws(seed, chunks_of(places, batch))
    try:
        yield
    finally:
        _draws = None


def by_chunk(operation: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """An operation with dropout inside, over tensors (B, ...); as it is outside of `drawn_for`."""
    if _draws is None:
        return operation(*tensors)
    device = tensors[0].device
    source = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index or 0]
    _draws.made += 1
    parts = []
    for number, rows in _draws.chunks:
        source.manual_seed(derive_seed(_draws.seed, number, _draws.made))
        parts.append(operation(*(tensor[rows] for tensor in tensors)))
    return torch.cat(parts)


class Dropout(nn.Dropout):
    """Dropout over (B, ...), drawn by chunk."""

    def forward(self, values: Tensor) -> Tensor:
        return by_chunk(super().forward, values) if self.training and self.p else values


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention (B, H, T, K) over (B, H, S, K), its dropout drawn by chunk. mask: (B, 1, T, S) or None."""
    if not dropout:
        return functional.scaled_dot_product_attention(queries, keys, values, mask)

    def one(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.scaled_dot_product_attention(queries, keys, values, mask, dropout)

    return by_chunk(one, queries, keys, values, *([] if mask is None else [mask]))
