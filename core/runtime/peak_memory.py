"""The most memory that a process occupied at any moment, and the most that its tensors took."""

import os
import threading
from pathlib import Path
from types import TracebackType

import torch

STATM = Path("/proc/self/statm")  # Linux; in pages: size, resident, shared, ...
SAMPLE_SECONDS = 0.1


class PeakMemory:
    """Measures this process alone, from the start of a `with` block to its end.

    Own memory is the resident memory without mapped files, whose pages the system takes back when
    others need them. The system keeps no peak of it, so a thread samples it."""

    def __init__(self, device: torch.device) -> None:
        """device: that the process computes on."""
        self.device = device
        self._peak: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats(self.device)
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._sample()

    def own_bytes(self) -> int | None:
        """The peak of the own memory; None where the system does not tell it."""
        return self._peak

    def gpu_bytes(self) -> int | None:
        """The peak of the tensors on the GPU; None if the process computes on a CPU."""
        if self.device.type != "cuda":
            return None
        return int(torch.cuda.max_memory_allocated(self.device))

    def _watch(self) -> None:
        while self._peak is not None and not self._stopped.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        now = own_memory_bytes()
        if now is not None:
            self._peak = max(self._peak or 0, now)


def own_memory_bytes() -> int | None:
    """The resident memory of this process now, without mapped files; None if it is not Linux."""
    try:
        _, resident, shared, *_ = STATM.read_text().split()
    except OSError:
        return None
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
