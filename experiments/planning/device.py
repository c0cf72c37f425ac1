"""Resolution of `auto` for the device and the precision."""

import os
from collections.abc import Callable
from pathlib import Path

from core.runtime.errors import UserError

DRIVERS = (
    "/dev/nvidiactl",  # NVIDIA
    "/dev/kfd",  # AMD
    "/dev/dxg",  # NVIDIA in Windows' Linux
)
BF16_CPU_FLAGS = ("amx_bf16", "avx512_bf16")


def find_device(wanted: str) -> str:
    """A device that works on this machine. Raises UserError if the wanted device does not.

    wanted: `auto`, or the name of a device of PyTorch.
    """
    if wanted == "auto" and not any(map(os.path.exists, DRIVERS)):
        return "cpu"  # without an import of torch, which takes seconds
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
    """A function that returns the precision for `auto`. It raises UserError if none is known.

    The function is called only for recipes with `precision: auto`.

    device: the value of `--device`.
    launcher: the value of `--launcher`.
    """

    def precision() -> str:
        if launcher == "slurm":
            raise UserError(
                "precision: auto would be this machine's, not that of the jobs; "
                "use --precision bf16 or --precision fp32"
            )
        return default_precision(find_device(device))

    return precision


def default_precision(device: str) -> str:
    """`bf16` if the hardware multiplies it natively, else `fp32`."""
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "bf16" if any(flag in flags for flag in BF16_CPU_FLAGS) else "fp32"
