"""One seed in the config; every generator derives from (seed, purpose, step)."""

import hashlib
from collections.abc import Sequence
from itertools import groupby

import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the given parts: equal parts, equal seed; any other part, an independent one."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed(*parts)`. Draws are made on the CPU so that they are equal on every device."""
    return torch.Generator().manual_seed(derive_seed(*parts))


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
