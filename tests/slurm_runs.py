"""A real SLURM on this machine, which `tests/slurm/up` starts, and runs on it.

Tests use it where LMIM_SLURM is set, as root on Debian: the scripts install Debian's packages. They
never use the cluster that a machine belongs to. The fixtures are registered in conftest.py.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import REPOSITORY, run_command, wait_until
from whole_runs import copy_words, run_experiment, run_py

from core.runtime.yaml import dump_yaml

SCRIPTS = REPOSITORY / "tests" / "slurm"
USES_SLURM = [pytest.mark.slow, pytest.mark.usefixtures("slurm", "cancel_jobs")]
LONG_EPOCHS = 40  # half a minute of steps
CLUSTER = {
    "partition": "cpu",
    "cpus_per_task": 1,
    "mem": "1500M",
    "time": 60,
    "poll_seconds": 1,
    "warning_seconds": 30,
}


@dataclass(frozen=True)
class LocalRun:
    """An experiment that was run on this machine without SLURM and without interruption."""

    file: Path
    results: Path
    printed: str  # standard output


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A SLURM for these tests. It is stopped at the end, unless it was up before."""
    if not os.environ.get("LMIM_SLURM"):
        pytest.skip("LMIM_SLURM is not set: as root on Debian, it starts a SLURM on this machine")
    was_up = shutil.which("scontrol") is not None and is_up()
    if was_up and "# slurm-ci" not in Path("/etc/slurm/slurm.conf").read_text():
        pytest.skip("this machine belongs to a cluster")
    started = subprocess.run([SCRIPTS / "up"], capture_output=True, text=True)
    if "apt-get install" in started.stderr:
        reason = started.stderr.splitlines()[-1]
        pytest.skip(f"SLURM's packages cannot be installed here: {reason}")
    assert started.returncode == 0, started.stderr
    yield
    if not was_up:
        subprocess.run([SCRIPTS / "down"], check=True)


@pytest.fixture
def cancel_jobs(slurm: None) -> Iterator[None]:
    """Cancel the jobs that a test leaves behind."""
    yield
    subprocess.run(["scancel", "--user", "root"])


@pytest.fixture(scope="session")
def local_table1(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    """Table 1 without SLURM."""
    file = REPOSITORY / "experiments" / "ablation_alignment.yaml"
    results = tmp_path_factory.mktemp("local_table1")
    output = run_experiment(file, results, "--jobs", "2")
    assert output.returncode == 0, output.stderr
    return LocalRun(file, results, output.stdout)


@pytest.fixture(scope="session")
def local_long_run(local_table1: LocalRun, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    """A long pre-training without SLURM."""
    folder = tmp_path_factory.mktemp("local_long_run")
    file = write_long_experiment(folder, LONG_EPOCHS)
    results = copy_words(local_table1.results, folder / "results")
    output = run_experiment(file, results, "--jobs", "2")
    assert output.returncode == 0, output.stderr
    return LocalRun(file, results, output.stdout)


def write_long_experiment(folder: Path, epochs: int) -> Path:
    """Write an experiment with one row, MIM, and a number of epochs of pre-training."""
    row = {"name": "MIM", "method": "MIM", "set": {"pretrain.optimizer.epochs": epochs}}
    file = folder / "long.yaml"
    file.write_text(dump_yaml({"title": "long", "variants": [row]}))
    return file


def write_experiment(folder: Path, methods: list[str], **keys: Any) -> Path:
    """Write an experiment with a row for each method. keys: further keys of the file."""
    rows = [{"name": method, "method": method} for method in methods]
    for row in rows:
        if row["method"] == "LMIM":  # a row without a method
            del row["method"]
    file = folder / "rows.yaml"
    file.write_text(dump_yaml({"title": "rows", "variants": rows} | keys))
    return file


def cluster_options(folder: Path, **changes: Any) -> tuple[str, ...]:
    """Options of run.py for this SLURM. changes: keys of the cluster file."""
    file = folder / "cluster.yaml"
    file.write_text(json.dumps(CLUSTER | changes))
    return "--launcher", "slurm", "--cluster", str(file)


def is_up() -> bool:
    """Whether SLURM's controller answers."""
    return subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0


def printed_by(*command: str) -> str:
    """The output of a command of SLURM."""
    return run_command(command, check=True).stdout


def submit_without_waiting(
    file: Path, results: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Submit an experiment or a sweep."""
    output = run_experiment(file, results, *options, "--no-wait")
    assert output.returncode == 0, output.stderr
    return output


def status(file: Path, results: Path) -> dict[str, Any]:
    """What `status --json` prints."""
    content: dict[str, Any] = json.loads(
        run_command(run_py("status", file, results, "--json"), check=True).stdout
    )
    return content


def states(file: Path, results: Path) -> list[str]:
    """The states of all runs."""
    return [run["state"] for run in status(file, results)["runs"]]


def pretraining(file: Path, results: Path) -> dict[str, Any]:
    """The status of the first pre-training."""
    return next(run for run in status(file, results)["runs"] if run["stage"] == "pretrain")


def accuracies(printed: str) -> list[str]:
    """The measured rows of a printed table."""
    return re.findall(r"^\|[^|]*\| measured .*$", printed, re.MULTILINE)


def job_states(results: Path) -> dict[str, str]:
    """Job -> its state in sacct, once all jobs of a results folder have ended."""
    files = results.glob("jobs/*/submission.json")
    numbers = ",".join(json.loads(path.read_text())["number"] for path in files)

    def ended() -> dict[str, str]:
        lines = printed_by("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", numbers).split()
        jobs = dict(line.split("|") for line in lines if "|" in line)
        has_ended = not {"RUNNING", "PENDING", "COMPLETING"}.intersection(jobs.values())
        return jobs if has_ended else {}

    return wait_until(ended)
