"""Timing of alternative paths to the same result, in alternation in one process.

Whatever else the machine does slows all paths alike, so that ratios are reliable.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from analysis.bench.limited_process import ProcessDied, call_in_process
from analysis.bench.setup import BenchSetup

MEGABYTE = 2**20


@dataclass(frozen=True)
class Timing:
    """Repeated timings of a path, and its ratios to other paths in the same turns."""

    what: str  # the measurement, a key of `MEASUREMENTS`
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
        """Units per second: the median over repetitions."""
        return self.count / median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """An entry of the report's `measured`."""
        seconds = [round(value, 6) for value in self.seconds]
        return asdict(self) | {"rate": self.rate, "seconds": seconds}


def time_in_turns(
    setup: BenchSetup,
    case: str,
    paths: Mapping[str, Callable[[], object]],
    repetitions: int | None = None,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Name of a path -> seconds of each of its turns. One more turn warms up and is not counted.

    There are fewer turns if they would not end in time. If the first one leaves no time for
    another, it is counted. A CUDA device is synchronized after each turn.

    setup: the device, and the time of the measurement.
    case: what is measured, for the report.
    paths: name -> function to time.
    repetitions: turns to count; None is the setup's.
    clock: None for the seconds that pass; or a clock of the CPU time of this process.
    """
    clock = clock or time.perf_counter
    planned = repetitions or setup.repetitions
    turns: list[dict[str, float]] = []
    while len(turns) <= planned:
        turn: dict[str, float] = {}
        for name, path in paths.items():
            started = clock()
            path()
            if setup.device.startswith("cuda"):
                torch.cuda.synchronize()
            turn[name] = clock() - started
        turns.append(turn)
        if not setup.budget.allows(sum(turn.values())):
            break
    counted = turns[1:] or turns
    setup.budget.note_repetitions(case, len(counted), planned, sum(turns[-1].values()))
    return {name: [turn[name] for turn in counted] for name in paths}


def speed_ratio(seconds: Sequence[float], baseline: Sequence[float]) -> float:
    """How many times as fast as a baseline a path is: the median over turns."""
    return median(base / value for value, base in zip(seconds, baseline, strict=True))


def share_of_limit(
    limit_seconds: Sequence[float],
    limit_operations: float,
    seconds: Sequence[float],
    operations: float,
) -> float:
    """A path's rate of operations as a share of the hardware limit's in the same turns.

    limit_seconds, limit_operations: of the limit, per turn.
    seconds, operations: of the path, per turn."""
    return speed_ratio(seconds, limit_seconds) * operations / limit_operations


def add_share_of_limit(setup: BenchSetup, timing: Timing, precision: str, share: float) -> None:
    """Add a path's share of the matrix product's rate to its ratios.

    A share above 1 means that other work on the machine disturbed the timing of the product. It is
    left out, and noted.

    setup: the budget for the note.
    timing: of the path.
    precision: of the product.
    share: as `share_of_limit` returns it.
    """
    if share <= 1:
        timing.ratios[f"of the {precision} matrix product's rate"] = share
        return
    ratio = f"{timing.case}, {timing.path}, share of the {precision} matrix product's rate"
    setup.budget.cut(ratio, "other work on this machine disturbed the timing of the product")


def compare_paths(
    what: str,
    case: str,
    unit: str,
    count: float,
    seconds: Mapping[str, list[float]],
    baseline: str,
) -> list[Timing]:
    """A timing for each path, with its ratio to the baseline.

    what, case, unit, count: fields of `Timing`.
    seconds: name of a path -> seconds of each turn.
    baseline: name of the path to compare with."""
    timings = []
    for path, path_seconds in seconds.items():
        ratios = {f"x {baseline}": speed_ratio(path_seconds, seconds[baseline])}
        timings.append(Timing(what, case, path, unit, count, path_seconds, ratios))
    return timings


def peak_memory(
    seconds: float, make: Callable[..., Callable[[], object]], *arguments: Any
) -> float | None:
    """MB that two calls of `make(*arguments)()` add at most to a process with all its imports.

    None if the machine has too little memory. Raises TimeoutError after `seconds`."""
    try:
        added: float = call_in_process(seconds, _added_memory, make, arguments)
    except ProcessDied:
        return None
    return added


def _added_memory(make: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    before: float = psutil.Process().memory_info().rss / MEGABYTE
    step = make(*arguments)
    for _ in range(2):
        step()
    return _peak_resident_memory() - before


def _peak_resident_memory() -> float:
    """Peak resident memory of this process, in MB.

    `ru_maxrss` is of no use here: it starts with the peak of the parent process."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
