"""Commands that compute nothing do not import what is slow to import."""

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
        ("doctor",),
    ],
)
def test_a_command_that_computes_nothing_imports_no_torch(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    results = [] if "--help" in command else ["--results", str(tmp_path)]
    run_command([sys.executable, "-c", CHECK, *command, *results], check=True)


def test_the_help_builds_no_configs() -> None:
    """The models of core/config.py take as long to build as all else that the help imports."""
    check = CHECK.replace('"torch" not in', '"core.config" not in')
    run_command([sys.executable, "-c", check, "--help"], check=True)
