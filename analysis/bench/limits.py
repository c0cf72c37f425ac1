"""What the hardware allows, measured in the same run."""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from analysis.bench.measure import Row, take_turns
from analysis.bench.work import Work
from core.config import Precision

SIDE = {"cpu": 2048, "cuda": 8192}
SMALL_SIDE = (
    256  # of the products that show whether bf16 is native: milliseconds, also where it is not
)


@cache
def precisions(device: str) -> tuple[Precision, ...]:
    """The precisions that the device multiplies natively, the fastest last.

    A processor without bf16 instructions computes bf16 products ten to a hundred times slower than fp32 ones."""
    if device.startswith("cuda"):
        return ("fp32", "bf16") if torch.cuda.is_bf16_supported() else ("fp32",)
    return (
        ("fp32", "bf16")
        if _small_product(torch.bfloat16) < 2 * _small_product(torch.float32)
        else ("fp32",)
    )


def _small_product(kind: torch.dtype) -> float:
    """Seconds of a small matrix product on the CPU; the least of some, since other work can only add time."""
    first, second = torch.ones(2, SMALL_SIDE, SMALL_SIDE, dtype=kind)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        torch.mm(first, second)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def left_out(device: str) -> list[str]:
    """What the hardware does not do natively and is therefore not measured, a sentence each."""
    if "bf16" in precisions(device):
        return []
    return [
        f"bf16 is left out: this {'GPU' if device != 'cpu' else 'processor'} does not multiply bf16 natively"
    ]


def product(device: str, precision: Precision) -> tuple[Callable[[], Tensor], float]:
    """A large matrix product, and its operations (multiply and add count as two)."""
    side = SIDE[device.partition(":")[0]]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    first, second = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    return lambda: first @ second, 2.0 * side**3


def measure_limits(work: Work) -> list[Row]:
    """Matrix products in each native precision, and a memory copy."""
    found = []
    for precision in precisions(work.device):
        path, operations = product(work.device, precision)
        seconds = take_turns({"product": path}, work.repetitions, work.device)["product"]
        found.append(
            Row(
                "limits",
                f"matrix product, {precision}",
                "limit",
                "GFLOP",
                operations / 1e9,
                seconds,
            )
        )
    source = torch.zeros(1 << 26, dtype=torch.uint8, device=work.device)
    target = torch.empty_like(source)
    seconds = take_turns({"copy": lambda: target.copy_(source)}, work.repetitions, work.device)[
        "copy"
    ]
    return [*found, Row("limits", "memory copy", "limit", "GB read", len(source) / 1e9, seconds)]
