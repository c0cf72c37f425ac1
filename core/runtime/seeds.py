"""Seeds and generators, derived from the config's seed, a purpose and a step.

Chunks: the unit in which a batch is divided between processes and micro-batches. Random numbers are
drawn for each chunk separately, so that they do not depend on how a batch is divided.
"""

import hashlib
from collections.abc import Sequence
from itertools import groupby

import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed. Equal parts give equal seeds; different parts give independent ones."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed(*parts)`, so that all devices get equal numbers."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def chunk_size(batch: int) -> int:
    """Number of images in a chunk of a batch: a sixteenth of the batch, at most 32."""
    return max(1, min(32, batch // 16))


def split_into_chunks(positions: Sequence[int], batch: int) -> list[tuple[int, slice]]:
    """The chunks that contain images at ascending positions of a batch.

    Args:
        positions: Positions of the images in the batch.
        batch: Number of images in the whole batch.

    Returns:
        For each chunk: its number in the batch, and the slice of `positions` in it.
    """
    chunks = []
    start = 0
    for number, members in groupby(positions, lambda position: position // chunk_size(batch)):
        stop = start + len(list(members))
        chunks.append((number, slice(start, stop)))
        start = stop
    return chunks
