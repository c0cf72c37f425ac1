"""What the hardware allows, measured in the same run."""

from collections.abc import Callable

import torch
from torch import Tensor

from core.config import Precision
from experiments.bench.measure import Row, take_turns
from experiments.bench.work import Work

SIDE = {"cpu": 2048, "cuda": 8192}


def product(device: str, precision: Precision) -> tuple[Callable[[], Tensor], float]:
    """A large matrix product, and its operations (multiply and add count as two)."""
    side = SIDE[device.partition(":")[0]]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    first, second = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    return lambda: first @ second, 2.0 * side**3


def measure_limits(work: Work) -> list[Row]:
    """Matrix products in both precisions, and a memory copy."""
    found = []
    for precision in ("fp32", "bf16"):
        path, operations = product(work.device, precision)
        seconds = take_turns({"product": path}, work.repetitions, work.device)["product"]
        found.append(Row("limits", f"matrix product, {precision}", "limit", "GFLOP", operations / 1e9, seconds))
    source = torch.zeros(1 << 26, dtype=torch.uint8, device=work.device)
    target = torch.empty_like(source)
    seconds = take_turns({"copy": lambda: target.copy_(source)}, work.repetitions, work.device)["copy"]
    return [*found, Row("limits", "memory copy", "limit", "GB read", len(source) / 1e9, seconds)]
