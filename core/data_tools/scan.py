"""Scans of all images of a root by several processes."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import numpy as np

from core.runtime.errors import UserError
from core.runtime.processes import worker_pool

CHUNK = 2048  # images that a process scans at a time
Result = TypeVar("Result")


def scan_chunks(
    scan: Callable[[str, int, int], Result], root: str, count: int, processes: int
) -> Iterator[tuple[int, Result]]:
    """`scan(root, start, stop)` for every chunk of a root, in order; yields (stop, result).

    Args:
        scan: A function of a module, so that processes can import it.
        root: An LMDB folder.
        count: Number of its images.
        processes: Number of processes; 1 or a small root: this process scans.

    Raises:
        UserError: A process was killed.
    """
    starts = range(0, count, CHUNK)
    stops = [min(start + CHUNK, count) for start in starts]
    if processes == 1 or count <= CHUNK:
        for start, stop in zip(starts, stops, strict=True):
            yield stop, scan(root, start, stop)
        return
    with worker_pool(processes) as pool:
        try:
            results = pool.map(scan, [root] * len(stops), starts, stops)
            yield from zip(stops, results, strict=True)
        except BrokenProcessPool as error:
            raise UserError(
                f"{root}: a process that reads images was killed; try again with --processes 1"
            ) from error


def file_hash(raw: bytes) -> np.uint64:
    """64 bits of a file's BLAKE2 hash; never 0, which stands for an unreadable image."""
    digest = hashlib.blake2b(raw, digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little") | 1)
