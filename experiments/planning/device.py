"""The device and precision that `auto` stands for here."""

import os
from collections.abc import Callable
from pathlib import Path

from core.runtime.errors import UserError

DRIVERS = (
    "/dev/nvidiactl",
    "/dev/kfd",
    "/dev/dxg",
)  # of NVIDIA, AMD, and NVIDIA under Windows' Linux


def find_device(wanted: str) -> str:
    """A device that works here. Raises UserError if the wanted one does not."""
    if wanted == "auto" and not any(map(os.path.exists, DRIVERS)):
        return "cpu"  # known without torch, whose import takes seconds
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device {wanted}: not usable here ({reason}); use cpu, or auto"
        ) from error
    return wanted


def automatic_precision(device: str, launcher: str) -> Callable[[], str]:
    """What finds out, where it is needed, which precision `auto` means. It raises UserError where that is not known here."""

    def find() -> str:
        if launcher == "slurm":
            raise UserError(
                "precision: auto would be this machine's, not that of the jobs; say --precision bf16, or fp32"
            )
        return default_precision(find_device(device))

    return find


def default_precision(device: str) -> str:
    """bf16 where the hardware multiplies it natively, else fp32."""
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "bf16" if "amx_bf16" in flags or "avx512_bf16" in flags else "fp32"
