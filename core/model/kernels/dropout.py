"""Dropout that does not depend on how a batch is divided: its draws follow from an image's place in the batch.

A batch is cut into chunks of `chunk_size` places. Within `position_seeded_dropout`, every dropout draws chunk by chunk, each seeded by (seed,
chunk, number of the draw), so that parts of a batch, and processes that share it, draw what the whole batch would have drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from core.runtime.seeds import chunks_of, derive_seed


@dataclass(frozen=True)
class DropoutSeeds:
    """One dropout of a forward pass: a seed for each chunk, and the rows of its images."""

    seeds: list[tuple[int, slice]]

    def sources(self, device: torch.device) -> Iterator[tuple[torch.Generator, slice]]:
        """Each chunk's generator, as it was before its first draw, and its rows."""
        source = torch.Generator(device)
        for seed, rows in self.seeds:
            yield source.manual_seed(seed), rows


@dataclass
class _Pass:
    seed: int
    chunks: list[tuple[int, slice]]
    made: int = 0


_pass: _Pass | None = None  # the forward pass that is going on


@contextmanager
def position_seeded_dropout(seed: int, places: Sequence[int], batch: int) -> Iterator[None]:
    """Let dropout in a forward pass over the images at these places of a batch draw what is theirs."""
    global _pass
    _pass = _Pass(seed, chunks_of(places, batch))
    try:
        yield
    finally:
        _pass = None


def next_draw(batch: int) -> DropoutSeeds | None:
    """The draws of the next dropout, over so many images; None outside of `position_seeded_dropout`, where PyTorch draws as it likes."""
    if _pass is None:
        return None
    _pass.made += 1
    assert batch == _pass.chunks[-1][1].stop, (
        f"{batch} images, where {_pass.chunks[-1][1].stop} are drawn for"
    )
    return DropoutSeeds(
        [(derive_seed(_pass.seed, number, _pass.made), rows) for number, rows in _pass.chunks]
    )


def kept(shape: Sequence[int], dropout: float, source: torch.Generator) -> Tensor:
    """Bool of any shape: false with probability `dropout`, to a 65,536th. Four are made of each 64 random bits."""
    count = prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=source.device)
    bits.random_(-(2**63), None, generator=source)
    return (bits.view(torch.int16)[:count] >= round(dropout * 2**16) - 2**15).view(shape)


def by_chunk(draw: DropoutSeeds, operation: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """A CUDA operation of PyTorch's with dropout inside, over tensors (B, ...), chunk by chunk."""
    source = torch.cuda.default_generators[tensors[0].get_device()]
    sizes = [rows.stop - rows.start for _, rows in draw.seeds]
    done = []
    for (seed, _), *parts in zip(
        draw.seeds, *(tensor.split(sizes) for tensor in tensors), strict=True
    ):
        source.manual_seed(seed)
        done.append(operation(*parts))
    return torch.cat(done)


class Dropout(nn.Dropout):
    """Dropout over (B, ...), drawn by chunk."""

    def forward(self, values: Tensor) -> Tensor:
        draw = next_draw(len(values)) if self.training and self.p else None
        if draw is None:
            return super().forward(values)
        keep = torch.cat(
            [
                kept((rows.stop - rows.start, *values.shape[1:]), self.p, source)
                for source, rows in draw.sources(values.device)
            ]
        )
        return values.masked_fill(~keep, 0) * (1 / (1 - self.p))
