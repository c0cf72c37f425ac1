"""Two commands at once on this machine: how much of each other's time they take."""

import math
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from analysis.bench.measure import Timing
from analysis.bench.setup import BenchSetup
from core.runtime.processes import cores
from results.provenance import REPOSITORY

# The default of GNU's OpenMP if nobody sets how idle threads wait.
SPINNING = {"GOMP_SPINCOUNT": "300000"}


@dataclass(frozen=True)
class Commands:
    """Equal commands that are started together, and what their environment adds."""

    name: str
    count: int
    environment: dict[str, str] = field(default_factory=dict)


ALONE = Commands("one alone", 1)
TWO = Commands("two at once", 2)
TWO_SPINNING = Commands("two at once, threads spin", 2, SPINNING)
QUICK_TURNS = (ALONE, TWO)
TURNS = (ALONE, TWO, ALONE, TWO, TWO_SPINNING)  # the slowest last: it may be stopped


def measure_sharing(setup: BenchSetup) -> list[Timing]:
    """Wall-clock and CPU seconds of a smoke run alone and of two at once.

    The ratios compare two commands at once with two commands one after the other; their work is
    their CPU time. Two commands whose idle threads spin can take ten times as long, so they have
    one turn, and none with --quick. Commands that are not complete when the time of the
    measurement is over are stopped and left out."""
    wall_seconds: dict[str, list[float]] = defaultdict(list)
    cpu_seconds: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory(prefix="bench-") as folder:
        experiment = Path(folder) / "one_row.yaml"
        method = "scratch" if setup.quick else "MIM"
        experiment.write_text(
            f"title: one row\nvariants: [{{name: a, method: {method}}}]\n", encoding="utf-8"
        )
        for number, commands in enumerate(QUICK_TURNS if setup.quick else TURNS, 1):
            results = Path(folder) / f"{number} {commands.name}"
            limit = setup.budget.remaining()
            try:
                wall, cpu = _run_together(experiment, results, commands, limit)
            except TimeoutError:
                reason = f"it was not complete after {max(limit, 0):.0f} s"
                setup.budget.cut(f"{commands.name}, turn {number}", reason)
                continue
            wall_seconds[commands.name].append(wall)
            cpu_seconds[commands.name].append(cpu)
    case = f"a run at scale smoke, {cores()} threads"
    alone = wall_seconds.pop(ALONE.name, [])
    if not alone:
        return []
    timings = [Timing("sharing", case, ALONE.name, "turns", 1, alone)]
    for name, seconds in wall_seconds.items():
        ratios = {
            "x the work of one after the other": _ratio(cpu_seconds[name], cpu_seconds[ALONE.name]),
            "x their time": _ratio(seconds, alone),
        }
        timings.append(Timing("sharing", case, name, "turns", 1, seconds, ratios))
    return timings


def _ratio(of_two: list[float], of_one: list[float]) -> float:
    """Seconds of two commands to twice the seconds of one: the median over common turns."""
    return median(two / (2 * one) for two, one in zip(of_two, of_one, strict=False))


def _run_together(
    experiment: Path, results: Path, commands: Commands, limit: float
) -> tuple[float, float]:
    """Wall-clock seconds, and CPU seconds of all processes, of commands started together.

    Raises TimeoutError if they are not complete after `limit` seconds; they are stopped then.

    experiment: the file.
    results: the folder of the results folders.
    commands: which commands.
    limit: in seconds.
    """
    started = time.perf_counter()
    cpu_before = _cpu_seconds_of_children()
    with ExitStack() as cleanup:
        processes = []
        for number in range(commands.count):
            process = _start(experiment, results / str(number), commands.environment)
            processes.append(process)
            cleanup.callback(process.wait)
            # If this process is interrupted. A command passes the signal to its workers.
            cleanup.callback(process.terminate)
        for process in processes:
            left = started + limit - time.perf_counter()
            try:
                code = process.wait(None if math.isinf(left) else max(left, 0))
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            if code:
                raise subprocess.CalledProcessError(process.returncode, process.args)
    return time.perf_counter() - started, _cpu_seconds_of_children() - cpu_before


def _start(
    experiment: Path, results: Path, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    inherited = {name: value for name, value in os.environ.items() if name not in SPINNING}
    options = ["--scale", "smoke", "--device", "cpu", "--jobs", "1", "--results", str(results)]
    return subprocess.Popen(
        [sys.executable, "run.py", str(experiment), *options],
        cwd=REPOSITORY,
        env=inherited | environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
