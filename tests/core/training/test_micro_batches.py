"""Batches divided for accumulation."""

import pytest
import torch

from core.data.batches import Batch
from core.runtime.distributed import ProcessGroup
from core.runtime.seeds import chunk_size
from core.training.micro_batches import split_batch, zero_weight_batch

SIZE = 64  # sixteen chunks of four images


def batch(positions: list[int]) -> Batch:
    count = len(positions)
    return Batch(torch.zeros(count, 3, 2, 8), positions, [""] * count, [], positions, SIZE)


@pytest.mark.parametrize(
    ("micro_batch", "sizes"),
    [(None, [64]), (64, [64]), (30, [28, 28, 8]), (8, [8] * 8), (1, [4] * 16)],
)
def test_micro_batches_are_whole_chunks_and_cover_the_batch(
    micro_batch: int | None, sizes: list[int]
) -> None:
    assert chunk_size(SIZE) == 4
    slices = split_batch(batch(list(range(SIZE))), micro_batch)
    assert [rows.stop - rows.start for rows in slices] == sizes
    assert [row for rows in slices for row in range(SIZE)[rows]] == list(range(SIZE))


def test_images_of_a_chunk_stay_together_where_others_are_missing() -> None:
    assert split_batch(batch([0, 3, 4, 9]), 2) == [slice(0, 2), slice(2, 4)]
    assert split_batch(batch([0, 1, 2, 3, 4]), 2) == [slice(0, 4), slice(4, 5)]


def test_a_dummy_batch_has_one_image_at_the_first_local_position() -> None:
    dummy = zero_weight_batch(batch([]), ProcessGroup(rank=1, size=2), (32, 128))
    assert dummy.images.shape == (1, 3, 32, 128)
    assert dummy.positions == [SIZE // 2]
    assert dummy.size == SIZE
