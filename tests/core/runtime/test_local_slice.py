"""How a batch is divided among processes."""

import pytest

from core.runtime.distributed import ProcessGroup
from core.runtime.errors import UserError
from core.runtime.seeds import chunk_size


@pytest.mark.parametrize(("batch", "size"), [(512, 8), (512, 3), (64, 16), (100, 7), (5, 5)])
def test_local_slices_are_whole_chunks_that_cover_the_batch(batch: int, size: int) -> None:
    slices = [ProcessGroup(rank, size).local_slice(batch) for rank in range(size)]
    covered = [position for local in slices for position in range(batch)[local]]
    assert covered == list(range(batch))
    assert all(local.start % chunk_size(batch) == 0 for local in slices)


def test_more_processes_than_chunks_are_refused() -> None:
    with pytest.raises(UserError, match="64 images can be divided among 16 processes, not 17"):
        ProcessGroup(0, 17).local_slice(64)
