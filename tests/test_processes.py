"""Idle threads wait passively, and processes that a test starts end with it."""

import ast
import os
import sys
from pathlib import Path

import psutil
import pytest
from commands import REPOSITORY, run_command, started, wait_until

PACKAGES = ("core", "results", "experiments", "sweeps", "analysis")
MODULES = (
    "core.lmim",
    "experiments.running.execute",
    "analysis.bench.training",
    "sweeps.engine.worker",
    "analysis.figures.models",
)
# Imports each module in a new process, and ends the process where PyTorch would be loaded.
IMPORT_EACH = """
import importlib, os, sys

class EndAtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(module, os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, EndAtTorch())
for module in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(module)
        os._exit(0)
    assert os.wait()[1] == 0, module
"""


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_wait_passively_before_torch_is_loaded(
    set_by_user: str | None, expected: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if set_by_user is not None:
        environment["OMP_WAIT_POLICY"] = set_by_user
    done = run_command([sys.executable, "-c", IMPORT_EACH, *MODULES], check=True, env=environment)
    policies = dict(line.split() for line in done.stdout.splitlines())
    assert policies == dict.fromkeys(MODULES, expected)


def test_no_notebook_and_no_entry_point_loads_torch_by_itself() -> None:
    for path in [REPOSITORY / "run.py", *(REPOSITORY / "analysis").glob("*.ipynb")]:
        assert "import torch" not in path.read_text(), path.name
    for package in PACKAGES[1:]:
        (imported,) = (
            node.names[0].name
            for node in ast.parse((REPOSITORY / package / "__init__.py").read_text()).body
            if isinstance(node, ast.Import)
        )
        assert imported == "core"


def fail_during_a_command(pid_file: Path, processes: list[psutil.Process]) -> None:
    """Start a command with a child process, as a test does, and raise an error.

    pid_file: where the child's number is written.
    processes: receives the command and its child."""
    with started(["sh", "-c", f"sleep 1000 & echo $! > {pid_file}; wait"]) as process:
        child = wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), process)
        processes += [psutil.Process(process.pid), psutil.Process(int(child))]
        raise ZeroDivisionError


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended; its parent may not have waited for it yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_command_and_its_children_end_with_the_test_that_started_it(tmp_path: Path) -> None:
    processes: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError):
        fail_during_a_command(tmp_path / "pid", processes)
    assert len(processes) == 2
    wait_until(lambda: all(map(has_ended, processes)))
