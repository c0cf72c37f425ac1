"""A batch divided for accumulation, and the batch of a process that has no image to train on."""

from dataclasses import replace

import torch

from core.data.batches import Batch
from core.runtime.distributed import ProcessGroup
from core.runtime.seeds import split_into_chunks


def split_batch(batch: Batch, micro_batch: int | None) -> list[slice]:
    """Slices of the batch's images, each of whole chunks and at most `micro_batch` images.

    A slice of a single chunk may be larger. None: one slice for the whole batch."""
    if micro_batch is None:
        return [slice(0, len(batch.positions))]
    slices: list[slice] = []
    for _, rows in split_into_chunks(batch.positions, batch.size):
        if slices and rows.stop - slices[-1].start <= micro_batch:
            slices[-1] = slice(slices[-1].start, rows.stop)
        else:
            slices.append(rows)
    return slices


def zero_weight_batch(batch: Batch, group: ProcessGroup, size: tuple[int, int]) -> Batch:
    """A zero-weight dummy batch of one black image of (height, width) `size`.

    A process without readable images uses it to join the gradient all-reduce."""
    return replace(
        batch,
        images=torch.zeros(1, 3, *size, dtype=torch.uint8),
        indices=[-1],
        labels=[""],
        positions=[group.local_slice(batch.size).start],
    )
