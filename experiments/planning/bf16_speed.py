"""The speed of bf16 matrix products on this processor.

A processor without bf16 instructions computes them in software, ten to a hundred times as slowly as
in fp32. With AMX they are several times as fast as in fp32. With AVX-512 alone they are twice as
fast on some processors, and half as fast on others: this is measured.
"""

import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

AMX = "amx_bf16"
BF16_CPU_FLAGS = (AMX, "avx512_bf16")
SIDE = 256  # of the square matrices; a product takes milliseconds on any processor
REPETITIONS = 5
WARNING_LIMIT = 1.2  # from this factor on, a warning; below it a busy machine may be the cause
# Variables with which users turn instructions off; then the processor's flags say nothing.
INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def has_bf16_flag() -> bool:
    """Whether the processor lists bf16 instructions. False where there is no /proc/cpuinfo."""
    return any(flag in _cpu_flags() for flag in BF16_CPU_FLAGS)


def has_fast_bf16_flag() -> bool:
    """Whether the processor has AMX, and no variable turns its instructions off."""
    return AMX in _cpu_flags() and not any(name in os.environ for name in INSTRUCTION_LIMITS)


def bf16_is_faster() -> bool:
    """Whether this CPU multiplies bf16 faster than fp32. Without AMX it is measured."""
    return has_bf16_flag() and (has_fast_bf16_flag() or bf16_slowdown() < 1)


@cache
def _cpu_flags() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text() if cpuinfo.exists() else ""


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

    It measures only if bf16 is wanted on this machine's CPU, and the CPU has no AMX.

    Args:
        precisions: Those of the runs that are not complete.
        device: The value of `--device`.
        launcher: The value of `--launcher`.
    """
    from experiments.planning.device import find_device

    if "bf16" not in precisions or launcher != "local" or find_device(device) != "cpu":
        return []
    if has_fast_bf16_flag():
        return []
    slowdown = bf16_slowdown()
    if slowdown < WARNING_LIMIT:
        return []
    factor = f"{slowdown:.0f}" if slowdown >= 10 else f"{slowdown:.1f}"
    return [
        f"bf16 matrix products take {factor} times as long as fp32 on this processor "
        "(measured now); use --precision fp32"
    ]
