"""Measuring: paths to the same result take turns in one process, so that what else the machine does hits all alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from core.runtime.processes import worker_pool


@dataclass(frozen=True)
class Row:
    """One path of one case. `ratios`: how many times as fast as another path, or which share of a limit, in the same turns."""

    what: str
    case: str
    path: str
    unit: str
    count: float  # units of one repetition
    seconds: list[float]  # of each repetition
    ratios: dict[str, float] = field(default_factory=dict)
    memory_mb: float | None = None
    note: str = ""

    @property
    def rate(self) -> float:
        """Units a second, by the median."""
        return self.count / median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self) | {
            "rate": self.rate,
            "seconds": [round(value, 6) for value in self.seconds],
        }


def take_turns(
    paths: Mapping[str, Callable[[], object]], repetitions: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each path in each turn. One more turn comes first and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(repetitions + 1):
        for name, path in paths.items():
            started = time.perf_counter()
            path()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def times_as_fast(ours: Sequence[float], other: Sequence[float]) -> float:
    """The median over turns of the other's seconds by ours."""
    return median(b / a for a, b in zip(ours, other, strict=True))


def share_of(
    limit: Sequence[float], limit_operations: float, ours: Sequence[float], our_operations: float
) -> float:
    """The rate of operations, as a share of the limit's in the same turns."""
    return times_as_fast(ours, limit) * our_operations / limit_operations


def rows(
    what: str, case: str, unit: str, count: float, seconds: Mapping[str, list[float]], against: str
) -> list[Row]:
    """A row for each path, with its ratio to the path `against`."""
    return [
        Row(
            what,
            case,
            name,
            unit,
            count,
            own,
            {f"x {against}": times_as_fast(own, seconds[against])},
        )
        for name, own in seconds.items()
    ]


def peak_memory(path: Callable[..., Callable[[], object]], *arguments: Any) -> float | None:
    """MB that two calls of what `path(*arguments)` makes add, at their highest, to a process that has imported all it needs.

    None where the machine has not so much."""
    try:
        with worker_pool(1) as pool:
            return pool.submit(_peak, path, arguments).result()
    except BrokenProcessPool:
        return None


def _peak(path: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    before = psutil.Process().memory_info().rss
    step = path(*arguments)
    for _ in range(2):
        step()
    return _most_held() - before / 2**20


def _most_held() -> float:
    """MB that this process held at its highest. (The system's other count, ru_maxrss, begins with that of the parent.)"""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024
