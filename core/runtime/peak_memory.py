"""The most memory that a process occupied at any moment, and the most that its tensors took."""

from pathlib import Path

import torch

STATUS = Path("/proc/self/status")  # Linux; VmHWM is the peak of the resident memory
CLEAR_REFS = Path("/proc/self/clear_refs")
RESTART_PEAK = "5"  # written into CLEAR_REFS: VmHWM starts again from now (man 5 proc)


class PeakMemory:
    """Measures from its creation on, in this process alone.

    Resident memory includes mapped files and what the process held before. `ru_maxrss` is of no
    use: it never decreases, so it would have the peak of earlier runs and of the parent process."""

    def __init__(self, device: torch.device) -> None:
        """device: that the process computes on."""
        self.device = device
        self.host_is_measured = _restart_host_peak()
        if device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats(device)

    def host_bytes(self) -> int | None:
        """The peak of the resident memory; None where the system does not measure it."""
        return _host_peak() if self.host_is_measured else None

    def gpu_bytes(self) -> int | None:
        """The peak of the tensors on the GPU; None if the process computes on a CPU."""
        if self.device.type != "cuda":
            return None
        return int(torch.cuda.max_memory_allocated(self.device))


def _restart_host_peak() -> bool:
    """Start the system's measurement again; returns whether it could."""
    try:
        CLEAR_REFS.write_text(RESTART_PEAK)
    except OSError:  # not Linux, or a container without this right
        return False
    return _host_peak() is not None


def _host_peak() -> int | None:
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    return None
