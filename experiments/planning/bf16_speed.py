"""The speed of bf16 matrix products on this processor.

A processor without bf16 instructions computes them in software, ten to a hundred times as slowly as
in fp32.
"""

import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BF16_CPU_FLAGS = ("amx_bf16", "avx512_bf16")
SIDE = 256  # of the square matrices; a product takes milliseconds on any processor
REPETITIONS = 5
NATIVE_LIMIT = 2.0  # native bf16 products are at most this many times as slow as fp32
# Variables with which users turn instructions off; then the processor's flags say nothing.
INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def has_bf16_flag() -> bool:
    """Whether the processor lists bf16 instructions. False where there is no /proc/cpuinfo."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return any(flag in flags for flag in BF16_CPU_FLAGS)


@cache
def bf16_slowdown() -> float:
    """The time of a bf16 matrix product in fp32 products of the same size, measured on one thread.

    It takes about 0.1 s, beside the import of PyTorch.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads are slow to start on a busy machine
    try:
        return _product_seconds(torch.bfloat16) / _product_seconds(torch.float32)
    finally:
        torch.set_num_threads(threads)


def _product_seconds(kind: "torch.dtype") -> float:
    """Seconds of a matrix product: the least of several, because other work only adds time."""
    import torch

    first, second = torch.ones(2, SIDE, SIDE, dtype=kind)
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        torch.mm(first, second)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def bf16_warnings(precisions: Iterable[str], device: str, launcher: str) -> list[str]:
    """A warning if bf16 is to be computed on a processor that is slow at it.

    It measures only if bf16 is wanted on this machine's CPU, and the processor's flags do not show
    that it has bf16 instructions.

    Args:
        precisions: Those of the runs that are not complete.
        device: The value of `--device`.
        launcher: The value of `--launcher`.
    """
    from experiments.planning.device import find_device

    if "bf16" not in precisions or launcher != "local" or find_device(device) != "cpu":
        return []
    if has_bf16_flag() and not any(name in os.environ for name in INSTRUCTION_LIMITS):
        return []
    slowdown = bf16_slowdown()
    if slowdown < NATIVE_LIMIT:
        return []
    return [
        f"bf16 matrix products are {slowdown:.0f} times slower than fp32 on this processor "
        "(measured now), because it has no instructions for them; use --precision fp32"
    ]
