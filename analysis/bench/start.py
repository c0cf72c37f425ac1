"""Start-up time: how long a command takes before it does anything."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

from analysis.bench.measure import Timing, time_in_turns
from analysis.bench.setup import BenchSetup
from results.provenance import REPOSITORY

PLAN = ["run.py", "plan", "experiments/ablation_alignment.yaml", "--scale", "paper"]
COMMANDS = {
    "python alone": ["-c", "pass"],
    "run.py --help": ["run.py", "--help"],
    "run.py plan, Table 1, scale paper": PLAN,
    "import torch alone": ["-c", "import torch"],
}


def measure_start(setup: BenchSetup) -> list[Timing]:
    """Seconds of each command."""
    paths: dict[str, Callable[[], object]] = {
        name: partial(_run_python, arguments) for name, arguments in COMMANDS.items()
    }
    seconds = time_in_turns(setup, "commands", paths)
    timings = []
    for name in COMMANDS:
        path = "ours" if name.startswith("run.py") else "for comparison"
        timings.append(Timing("start", name, path, "starts", 1, seconds[name]))
    return timings


def _run_python(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, check=True)
