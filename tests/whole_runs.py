"""Whole runs of a small experiment at scale smoke, in new processes.

The fixtures are registered in conftest.py.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run_command

from experiments.cli.status_report import describe_status
from experiments.planning.planner import make_plan
from results.store import Store

ONE_ROW = """
title: one row
table: table1
variants:
  - name: LMIM
    reported: {guidance: true, alignment: true}
"""


def run_py(
    verb: str, file: Path | str, results: Path, *options: str, scale: str | None = "smoke"
) -> list[str]:
    """A command line of run.py on the CPU. scale: None leaves out scale and device."""
    line = [sys.executable, "run.py", verb, str(file), "--results", str(results)]
    if scale is not None:
        line += ["--scale", scale, "--device", "cpu"]
    return [*line, *options]


def run_experiment(file: Path, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run an experiment to its end."""
    return run_command(run_py("run", file, results, *options))


def runs_by_stage(file: Path, results: Path, **overrides: Any) -> dict[str, dict[str, Any]]:
    """Stage -> status of its run. The teacher's pre-training is stage `teacher`.

    overrides: settings with `__` for each dot of their keys.
    """
    store = Store(results)
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    plan = make_plan(
        [file], "smoke", store, precision=lambda: "fp32", overrides=settings, seeds=None
    )
    return {
        "teacher" if run["rows"][0].startswith("teacher") else run["stage"]: run
        for run in describe_status(plan, store).as_json()["runs"]
    }


def artifacts(results: Path) -> dict[str, bytes]:
    """Weights and predictions, which are equal bit by bit however a run was interrupted."""
    paths = [
        path
        for name in ("model.safetensors", "predictions.csv")
        for path in results.glob(f"runs/*/{name}")
    ]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def copy_words(source: Path, results: Path) -> Path:
    """A new results folder with the synthetic words of another one."""
    shutil.copytree(source / "data", results / "data")
    return results


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment file with one row, LMIM."""
    file = tmp_path_factory.mktemp("experiment") / "one_row.yaml"
    file.write_text(ONE_ROW)
    return file


@pytest.fixture(scope="session")
def finished(
    experiment: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The results of the experiment without an interruption, and the command's output."""
    results = tmp_path_factory.mktemp("finished")
    output = run_experiment(experiment, results)
    assert output.returncode == 0, output.stderr
    return results, output


@pytest.fixture
def results(finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> Path:
    """A new results folder that has the synthetic words."""
    return copy_words(finished[0], tmp_path / "results")
