"""Two commands at once on this machine: how much of each other's time they take."""

import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from analysis.bench.measure import Row
from analysis.bench.work import Work
from results.provenance import REPOSITORY, cores

SPINNING = {
    "GOMP_SPINCOUNT": "300000"
}  # the default of GNU's OpenMP where nobody sets how threads wait


def measure_sharing(work: Work) -> list[Row]:
    """Seconds and CPU time of a smoke run alone and of two at once, with threads that wait passively or spin.

    The ratios compare two commands at once with two commands one after the other; the work is their CPU time.
    Spinning threads can take ten times as long, so they have a single turn, and none with --quick."""
    paths: list[tuple[str, int, dict[str, str]]] = [("one alone", 1, {}), ("two at once", 2, {})]
    seconds: dict[str, list[float]] = defaultdict(list)
    cpu_seconds: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "one_row.yaml"
        file.write_text(
            f"title: one row\nvariants: [{{name: a, method: {'scratch' if work.quick else 'MIM'}}}]\n"
        )
        for turn in range(1 if work.quick else 2):
            spinning = (
                [("two at once, threads spin", 2, SPINNING)] if turn == 0 and not work.quick else []
            )
            for name, commands, variables in [*paths, *spinning]:
                took, cpu = _run_at_once(file, Path(folder) / f"{turn} {name}", commands, variables)
                seconds[name].append(took)
                cpu_seconds[name].append(cpu)
    case = f"a run at scale smoke, {cores()} threads"
    rows = [Row("sharing", case, "one alone", "turns", 1, seconds.pop("one alone"))]
    for name in seconds:
        ratios = {
            "x the work of one after the other": _ratio(
                cpu_seconds[name], cpu_seconds["one alone"]
            ),
            "x their time": _ratio(seconds[name], rows[0].seconds),
        }
        rows.append(Row("sharing", case, name, "turns", 1, seconds[name], ratios))
    return rows


def _ratio(of_two: list[float], of_one: list[float]) -> float:
    """The median over the turns that both have."""
    return median(two / (2 * one) for two, one in zip(of_two, of_one, strict=False))


def _run_at_once(
    file: Path, results: Path, commands: int, variables: dict[str, str]
) -> tuple[float, float]:
    """Seconds, and CPU seconds of all processes, of so many commands that are started together."""
    started, before = time.perf_counter(), _cpu_seconds_of_children()
    environment = {
        name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"
    } | variables
    with ExitStack() as ends:
        running = []
        for number in range(commands):
            options = [
                "--scale",
                "smoke",
                "--device",
                "cpu",
                "--jobs",
                "1",
                "--results",
                str(results / str(number)),
            ]
            command = [sys.executable, "run.py", str(file), *options]
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            running.append(process)
            ends.callback(process.wait)
            ends.callback(
                process.terminate
            )  # where this one is interrupted; a command passes it on to its workers
        for process in running:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, process.args)
    return time.perf_counter() - started, _cpu_seconds_of_children() - before


def _cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
