"""Commands that compute nothing do not import PyTorch, which takes seconds."""

import sys
from pathlib import Path

import pytest
from commands import run_command

CHECK = """
import sys, run
try:
    run.main(sys.argv[1:])
except SystemExit:
    pass
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("plan", "experiments/ablation_alignment.yaml"),
        ("status", "experiments/ablation_alignment.yaml"),
    ],
)
def test_a_command_that_computes_nothing_imports_no_torch(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    results = [] if "--help" in command else ["--results", str(tmp_path)]
    run_command([sys.executable, "-c", CHECK, *command, *results], check=True)
