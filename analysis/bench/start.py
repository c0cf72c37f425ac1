"""Start-up: what a command takes before it does anything."""

import subprocess
import sys

from analysis.bench.measure import Row, take_turns
from analysis.bench.work import Work
from results.provenance import REPOSITORY

COMMANDS = {
    "python alone": ["-c", "pass"],
    "run.py --help": ["run.py", "--help"],
    "run.py plan, Table 1, scale paper": [
        "run.py",
        "plan",
        "experiments/ablation_alignment.yaml",
        "--scale",
        "paper",
    ],
    "import torch alone": ["-c", "import torch"],
}


def measure_start(work: Work) -> list[Row]:
    """Seconds of each command, in turns."""

    def run(arguments: list[str]) -> None:
        subprocess.run(
            [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, check=True
        )

    paths = {
        name: (lambda arguments=arguments: run(arguments)) for name, arguments in COMMANDS.items()
    }
    seconds = take_turns(paths, work.repetitions)
    return [
        Row(
            "start",
            name,
            "ours" if "run.py" in name else "for comparison",
            "starts",
            1,
            seconds[name],
        )
        for name in COMMANDS
    ]
