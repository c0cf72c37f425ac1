"""The peak of a process's own memory is that of a block of code."""

import mmap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from core.runtime import peak_memory
from core.runtime.peak_memory import STATM, PeakMemory, own_memory_bytes

BLOCK = 200_000_000  # bytes
CPU = torch.device("cpu")

needs_linux = pytest.mark.skipif(not STATM.exists(), reason="needs Linux's /proc")


def peak_with_block(seconds: float) -> int:
    """The peak of code that occupies a block until it is sampled, `seconds` at most."""
    with PeakMemory(CPU) as memory:
        before = memory.own_bytes()
        assert before is not None
        block = np.ones(BLOCK, dtype=np.uint8)
        end = time.monotonic() + seconds
        while (memory.own_bytes() or 0) < before + 0.9 * BLOCK and time.monotonic() < end:
            time.sleep(0.01)
        del block
    peak = memory.own_bytes()
    assert peak is not None
    return peak


@needs_linux
def test_the_peak_has_memory_that_was_returned_since() -> None:
    peak = peak_with_block(60)
    now = own_memory_bytes()
    assert now is not None
    assert peak - now > 0.9 * BLOCK


@needs_linux
def test_an_earlier_peak_does_not_count() -> None:
    earlier = peak_with_block(60)
    with PeakMemory(CPU) as memory:
        pass
    peak = memory.own_bytes()
    assert peak is not None
    assert earlier - peak > 0.9 * BLOCK


@needs_linux
def test_pages_of_mapped_files_are_no_own_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(BLOCK))
    before = own_memory_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert not np.frombuffer(mapped, dtype=np.uint8).any()  # reads all pages
        after = own_memory_bytes()
    assert before is not None
    assert after is not None
    assert after - before < 0.5 * BLOCK


def test_no_peak_is_claimed_where_the_system_does_not_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peak_memory, "STATM", tmp_path / "statm")
    with PeakMemory(CPU) as memory:
        pass
    assert memory.own_bytes() is None


def test_a_process_on_a_cpu_has_no_memory_of_a_gpu() -> None:
    with PeakMemory(CPU) as memory:
        pass
    assert memory.gpu_bytes() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_peak_of_a_gpu_has_tensors_that_were_deleted_since() -> None:
    with PeakMemory(torch.device("cuda")) as memory:
        torch.ones(BLOCK, dtype=torch.uint8, device="cuda")
    peak = memory.gpu_bytes()
    assert peak is not None
    assert peak >= BLOCK
