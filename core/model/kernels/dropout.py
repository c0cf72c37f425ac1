"""Dropout whose random draws follow from an image's position in its batch.

PyTorch's dropout draws once for a whole tensor, so its draws change when a batch is divided. Here a
batch is cut into chunks of `chunk_size` positions, and each dropout draws chunk by chunk. The seed
of a draw is (seed of the step, number of the chunk, number of the dropout in the forward pass).
Micro-batches, and processes that share a batch, therefore draw what the whole batch would draw.

The training step attaches the seeds to the model's modules (`position_seeded_dropout`). A module
without attached seeds uses PyTorch's dropout.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from core.runtime.seeds import derive_seed, split_into_chunks


@dataclass(frozen=True)
class DropoutSeeds:
    """Seeds of one dropout: for each chunk of the batch its seed and the rows of its images."""

    chunks: tuple[tuple[int, slice], ...]

    def generators(self, device: torch.device) -> Iterator[tuple[torch.Generator, slice]]:
        """For each chunk a freshly seeded generator and its rows.

        All chunks share one generator object: use it before asking for the next chunk."""
        generator = torch.Generator(device)
        for seed, rows in self.chunks:
            yield generator.manual_seed(seed), rows


class DropoutSeedSource:
    """Seeds for the dropouts of one forward pass, in the order in which they are computed."""

    def __init__(self, seed: int, positions: Sequence[int], batch: int) -> None:
        """Seeds for images at ascending `positions` of a batch of `batch` images."""
        self.seed = seed
        self.chunks = split_into_chunks(positions, batch)
        self.dropouts = 0  # counted from 1 in the seeds

    def next_seeds(self, images: int) -> DropoutSeeds:
        """Seeds of the next dropout. Raises ValueError unless it has the expected `images`."""
        expected = self.chunks[-1][1].stop
        if images != expected:
            raise ValueError(f"dropout over {images} images; its seeds are for {expected}")
        self.dropouts += 1
        return DropoutSeeds(
            tuple(
                (derive_seed(self.seed, number, self.dropouts), rows)
                for number, rows in self.chunks
            )
        )


class SeededModule(nn.Module):
    """Base of modules that drop values. `seed_source` None: PyTorch's own draws are used."""

    seed_source: DropoutSeedSource | None = None

    def next_seeds(self, images: int, dropout: float) -> DropoutSeeds | None:
        """Seeds for one dropout over `images`; None without a source or without dropout."""
        if self.seed_source is None or not dropout:
            return None
        return self.seed_source.next_seeds(images)


@contextmanager
def position_seeded_dropout(
    model: nn.Module, seed: int, positions: Sequence[int], batch: int
) -> Iterator[None]:
    """Seed the dropouts of one forward pass by the images' positions in the batch.

    model: its `SeededModule`s get one common seed source, which is removed at the end.
    seed: the seed of this training step.
    positions: the ascending positions of the images of this pass, of the whole batch's `batch`."""
    source = DropoutSeedSource(seed, positions, batch)
    modules = [module for module in model.modules() if isinstance(module, SeededModule)]
    for module in modules:
        module.seed_source = source
    try:
        yield
    finally:
        for module in modules:
            module.seed_source = None


def keep_mask(shape: Sequence[int], dropout: float, generator: torch.Generator) -> Tensor:
    """(*shape) bool: false with probability `dropout`, rounded to a multiple of 1 / 65,536.

    Each 64-bit random number gives four values, which is faster than one uniform draw per value."""
    count = prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    bits.random_(-(2**63), None, generator=generator)
    threshold = round(dropout * 2**16) - 2**15
    return (bits.view(torch.int16)[:count] >= threshold).view(tuple(shape))


def apply_by_chunk(
    seeds: DropoutSeeds, operation: Callable[..., Tensor], *tensors: Tensor
) -> Tensor:
    """Apply a CUDA operation of PyTorch with internal dropout chunk by chunk.

    tensors: (B, ...) each. The device's default generator gets each chunk's seed first, because
    such an operation accepts no generator."""
    generator = torch.cuda.default_generators[tensors[0].get_device()]
    results = []
    for seed, rows in seeds.chunks:
        generator.manual_seed(seed)
        results.append(operation(*(tensor[rows] for tensor in tensors)))
    return torch.cat(results)


class Dropout(SeededModule, nn.Dropout):
    """nn.Dropout over (B, ...) that can be seeded by position."""

    def forward(self, values: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        seeds = self.next_seeds(len(values), self.p if self.training else 0.0)
        if seeds is None:
            return super().forward(values)
        keep = torch.cat(
            [
                keep_mask((rows.stop - rows.start, *values.shape[1:]), self.p, generator)
                for generator, rows in seeds.generators(values.device)
            ]
        )
        return values.masked_fill(~keep, 0) * (1 / (1 - self.p))
