"""What the hardware allows: rates of matrix products and of a memory copy."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from analysis.bench.measure import Timing, time_in_turns
from analysis.bench.setup import BenchSetup
from core.config import Precision

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
SMALL_SIDE = 256  # of products that show whether bf16 is native; takes milliseconds in any case
COPY_BYTES = 1 << 26


@cache
def native_precisions(device: str) -> tuple[Precision, ...]:
    """The precisions that the device multiplies natively, the fastest last.

    A processor without bf16 instructions multiplies bf16 ten to a hundred times as slowly as
    fp32."""
    if device.startswith("cuda"):
        is_native = torch.cuda.is_bf16_supported()
    else:
        is_native = _small_product(torch.bfloat16) < 2 * _small_product(torch.float32)
    return ("fp32", "bf16") if is_native else ("fp32",)


def _small_product(kind: torch.dtype) -> float:
    """Seconds of a small matrix product on the CPU: the least of five, as other work adds time."""
    first, second = torch.ones(2, SMALL_SIDE, SMALL_SIDE, dtype=kind)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(first, second)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def excluded_precisions(device: str) -> list[str]:
    """A sentence for each precision that is not measured, because it is not native."""
    if "bf16" in native_precisions(device):
        return []
    hardware = "processor" if device == "cpu" else "GPU"
    return [f"bf16 is left out: this {hardware} does not multiply bf16 natively"]


@dataclass(frozen=True)
class MatrixProduct:
    """A large matrix product: the limit of what a model can compute."""

    path: Callable[[], Tensor]
    operations: float  # a multiplication and an addition count as two


def matrix_product(device: str, precision: Precision) -> MatrixProduct:
    """The product of two square matrices with random values."""
    side = SIDE[device.partition(":")[0]]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    first = torch.randn(side, side, device=device).to(kind)
    second = torch.randn(side, side, device=device).to(kind)
    return MatrixProduct(lambda: first @ second, 2.0 * side**3)


def measure_limits(setup: BenchSetup) -> list[Timing]:
    """Matrix products in each native precision, and a memory copy."""
    timings = []
    for precision in native_precisions(setup.device):
        product = matrix_product(setup.device, precision)
        seconds = time_in_turns({"product": product.path}, setup.repetitions, setup.device)
        case = f"matrix product, {precision}"
        count = product.operations / 1e9
        timings.append(Timing("limits", case, "limit", "GFLOP", count, seconds["product"]))
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=setup.device)
    target = torch.empty_like(source)
    seconds = time_in_turns({"copy": lambda: target.copy_(source)}, setup.repetitions, setup.device)
    copied = Timing("limits", "memory copy", "limit", "GB read", COPY_BYTES / 1e9, seconds["copy"])
    return [*timings, copied]
