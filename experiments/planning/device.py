"""Resolution of `auto` for the device and the precision."""

import os
from collections.abc import Callable
from typing import Literal

from core.runtime.errors import UserError
from experiments.planning.bf16_speed import bf16_is_faster

DRIVERS = (
    "/dev/nvidiactl",  # NVIDIA
    "/dev/kfd",  # AMD
    "/dev/dxg",  # NVIDIA in Windows' Linux
)


def find_device(wanted: str) -> str:
    """A device that works on this machine. Raises UserError if the wanted device does not.

    wanted: `auto`, or the name of a device of PyTorch.
    """
    if wanted == "cpu" or (wanted == "auto" and not any(map(os.path.exists, DRIVERS))):
        return "cpu"  # without an import of torch, which takes seconds
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted).item()  # `meta` has no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device {wanted}: not usable here ({reason}); use cpu, or auto"
        ) from error
    return wanted


def find_gpus(wanted: tuple[int, ...] | Literal["all"]) -> tuple[int, ...]:
    """The ids of GPUs of this machine. Raises UserError if there is none, or not these.

    wanted: ids, or `all`.
    """
    count = 0
    if any(map(os.path.exists, DRIVERS)):
        import torch

        count = torch.cuda.device_count()
    if not count:
        raise UserError("--gpus: PyTorch finds no GPU on this machine; leave the option out")
    if wanted == "all":
        return tuple(range(count))
    for gpu in wanted:
        if gpu >= count:
            raise UserError(f"--gpus: no GPU {gpu} on this machine, only 0 to {count - 1}")
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
    """`bf16` if the GPU multiplies it natively or this CPU multiplies it faster, else `fp32`."""
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if bf16_is_faster() else "fp32"
