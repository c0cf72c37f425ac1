"""What the hardware allows: rates of matrix products and of a memory copy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from analysis.bench.measure import Timing, time_in_turns
from analysis.bench.setup import BenchSetup
from core.config import Precision
from experiments.planning.bf16_speed import bf16_slowdown

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
EFFICIENCY = 0.5  # of a model, as a share of the matrix product's rate; for estimates of time
RATE_SIDE = {"cpu": 512, "cuda": 8192}  # of the matrices of an estimate
RATE_TRIES = 10
NATIVE_LIMIT = 4.0  # native bf16 products are at most this many times as slow as fp32
COPY_BYTES = 1 << 26


@cache
def native_precisions(device: str) -> tuple[Precision, ...]:
    """The precisions that the device multiplies natively, the fastest last.

    A processor without bf16 instructions multiplies bf16 ten to a hundred times as slowly as
    fp32."""
    if device.startswith("cuda"):
        is_native = torch.cuda.is_bf16_supported()
    else:
        is_native = bf16_slowdown() < NATIVE_LIMIT
    return ("fp32", "bf16") if is_native else ("fp32",)


def excluded_precisions(device: str) -> list[str]:
    """A sentence for each precision that is not measured, because it is not native."""
    if "bf16" in native_precisions(device):
        return []
    if device != "cpu":
        return ["bf16 is left out: this GPU does not multiply bf16 natively"]
    return [
        "bf16 is left out: this processor does not multiply bf16 natively; a matrix product takes "
        f"{bf16_slowdown():.0f} times as long as in fp32"
    ]


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


def expected_seconds(setup: BenchSetup, operations: float) -> float:
    """An estimate of the time of a model's floating-point operations in fp32 on this device.

    It is rather too short than too long: a measurement is left out only if it cannot end in time.
    """
    return operations / fp32_rate(setup.device) / EFFICIENCY


@cache
def fp32_rate(device: str) -> float:
    """Operations per second of matrix products: the highest of several short tries.

    On a CPU one thread is measured, and multiplied by their number: on a busy machine several
    threads wait for one another for a long time.
    """
    side = RATE_SIDE[device.partition(":")[0]]
    first, second = torch.ones(2, side, side, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = time_in_turns(
            BenchSetup("", device), "", {"product": lambda: first @ second}, RATE_TRIES
        )
    finally:
        torch.set_num_threads(threads)
    return (threads if device == "cpu" else 1) * 2.0 * side**3 / min(seconds["product"])


def measure_limits(setup: BenchSetup) -> list[Timing]:
    """Matrix products in each native precision, and a memory copy."""
    timings = []
    for precision in native_precisions(setup.device):
        product = matrix_product(setup.device, precision)
        case = f"matrix product, {precision}"
        seconds = time_in_turns(setup, case, {"product": product.path})
        count = product.operations / 1e9
        timings.append(Timing("limits", case, "limit", "GFLOP", count, seconds["product"]))
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=setup.device)
    target = torch.empty_like(source)
    seconds = time_in_turns(setup, "memory copy", {"copy": lambda: target.copy_(source)})
    copied = Timing("limits", "memory copy", "limit", "GB read", COPY_BYTES / 1e9, seconds["copy"])
    return [*timings, copied]
