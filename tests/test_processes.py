"""Processes share the cores: how idle threads wait, and that what a test starts ends with it."""

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
# Imports each module in a process of its own, and ends it where PyTorch would be loaded.
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


@pytest.mark.parametrize(("users", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_wait_passively_before_torch_is_loaded(users: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if users is not None:
        environment["OMP_WAIT_POLICY"] = users
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


def fail_beside_a_command(told: Path, found: list[psutil.Process]) -> None:
    """As a test that fails while its command and a child of that run."""
    with started(["sh", "-c", f"sleep 1000 & echo $! > {told}; wait"]) as process:
        child = wait_until(lambda: told.exists() and told.read_text().strip(), process)
        found += [psutil.Process(process.pid), psutil.Process(int(child))]
        raise ZeroDivisionError


def test_a_command_ends_with_the_test_that_started_it_and_takes_its_children_along(
    tmp_path: Path,
) -> None:
    found: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError):
        fail_beside_a_command(tmp_path / "pid", found)
    assert len(found) == 2
    wait_until(
        lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in found)
    )
