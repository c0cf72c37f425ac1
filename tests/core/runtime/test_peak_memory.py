"""The peak of a process's memory is that since the measurement began."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.runtime import peak_memory
from core.runtime.peak_memory import CLEAR_REFS, PeakMemory

BLOCK = 200_000_000  # bytes
CPU = torch.device("cpu")

needs_linux = pytest.mark.skipif(not CLEAR_REFS.exists(), reason="needs Linux's /proc")


def write_block() -> None:
    """Occupy memory for a moment."""
    np.ones(BLOCK, dtype=np.uint8)


@needs_linux
def test_the_peak_has_memory_that_was_returned_since() -> None:
    memory = PeakMemory(CPU)
    before = memory.host_bytes()
    write_block()
    after = memory.host_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 0.9 * BLOCK


@needs_linux
def test_an_earlier_peak_does_not_count() -> None:
    earlier = PeakMemory(CPU)
    write_block()
    peak = earlier.host_bytes()
    assert peak is not None
    now = PeakMemory(CPU).host_bytes()
    assert now is not None
    assert peak - now > 0.9 * BLOCK


def test_no_peak_is_claimed_where_the_system_cannot_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peak_memory, "CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    assert PeakMemory(CPU).host_bytes() is None


def test_a_process_on_a_cpu_has_no_memory_of_a_gpu() -> None:
    assert PeakMemory(CPU).gpu_bytes() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_of_a_gpu_has_tensors_that_were_deleted_since() -> None:
    memory = PeakMemory(torch.device("cuda"))
    torch.ones(BLOCK, dtype=torch.uint8, device="cuda")
    peak = memory.gpu_bytes()
    assert peak is not None
    assert peak >= BLOCK
