"""Sweeps from the command line: run, status and sweep-report, with a worker that is killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from commands import PATIENCE, run_command, started, wait_until
from conftest import call
from postgresql import postgresql_server
from sweep_helpers import (
    DECAY,
    TOTAL,
    check_total_with_killed_workers,
    load_search,
    write_sweep,
)

from core.config import Finetune
from core.runtime.yaml import read_yaml
from experiments.planning.planner import make_plan
from results.store import Store
from sweeps.engine.trials import Trials

pytestmark = pytest.mark.slow


def sweep_command(file: Path, results: Path, *options: object) -> list[str]:
    words = [str(file), "--results", str(results), "--device", "cpu", *map(str, options)]
    return [sys.executable, "run.py", *words]


def worker_processes(pid: int) -> list[int]:
    """The worker processes of a command."""
    children = psutil.Process(pid).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def completed_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a sweep that two workers computed, one of which was killed during a trial."""
    folder = tmp_path_factory.mktemp("completed")
    file = write_sweep(folder, space=DECAY, seeds=[0, 1], trials=5)
    command = sweep_command(file, folder / "results", "--workers", 2)
    with started(command, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: list(folder.glob("results/sweeps/*/trials/0002/state.json")), process)
        workers = worker_processes(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        assert process.wait(PATIENCE) == 0
    return file


def test_a_killed_worker_loses_no_trial(
    completed_sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = completed_sweep.parent / "results"
    code, out, _ = call(capsys, completed_sweep, "--results", results)  # computes nothing
    assert code == 0
    assert "5 complete, of 5" in out
    code, out, _ = call(capsys, "status", completed_sweep, "--results", results, "--json")
    status = json.loads(out)
    assert (code, status["over"], status["counts"]) == (0, True, {"complete": 5})
    assert [trial["number"] for trial in status["trials"]] == list(range(5))
    for trial in status["trials"]:
        assert set(trial["recognizers"]) == {"0", "1"}
        assert trial["value"] is not None
    assert len(list(results.glob("runs/pretrain-*"))) == 4  # two seeds, each with a teacher
    code, out, _ = call(capsys, "status", completed_sweep, "--results", results)
    assert out.count("complete") == 6


def test_the_best_trial_is_reported_and_written_as_an_experiment(
    completed_sweep: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = completed_sweep.parent / "results"
    written = tmp_path / "best.yaml"
    options = ("--results", results, "--write-experiment", written)
    code, page, err = call(capsys, "sweep-report", completed_sweep, *options)
    assert code == 0, err
    (folder,) = (results / "sweeps").iterdir()
    assert (folder / "report.md").read_text() == page
    assert "covers validation images and seeds" in page
    assert "best of 5 trials" in page
    assert len((folder / "trials.csv").read_text().splitlines()) == 6
    for figure in ("history.png", "slices.png"):
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
    assert "No figure of contours: " in page
    content = read_yaml(written)
    assert content["seeds"] == [2, 3, 4]  # the sweep's seeds are 0 and 1
    assert len(written.read_text().splitlines()) <= 25
    plan = make_plan(
        [written], None, Store(results), precision=lambda: "fp32", overrides={}, seeds=None
    )
    assert plan.scale == "smoke"
    report = json.loads((folder / "report.json").read_text())
    best = report["trials"][report["best"]]["values"]["finetune.optimizer.layer_decay"]
    configs = [run.config for run in plan.runs.values() if isinstance(run.config, Finetune)]
    assert best in {config.optimizer.layer_decay for config in configs}
    assert {config.optimizer.batch for config in configs} == {32}
    code, _, err = call(capsys, "sweep-report", completed_sweep, *options)
    assert code == 2
    assert str(written) in err


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


def test_the_total_is_exact_on_postgresql(postgresql: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    search = load_search(write_sweep(tmp_path, trials=TOTAL), store.root)
    trials = Trials(search, store, postgresql)
    trials.create()
    check_total_with_killed_workers(trials)


def test_a_sweep_is_run_and_reported_on_postgresql(
    postgresql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path, space=DECAY, trials=3)
    results = tmp_path / "results"
    storage = ("--storage", postgresql)
    done = run_command(sweep_command(file, results, "--workers", 2, *storage))
    assert done.returncode == 0
    code, page, err = call(capsys, "sweep-report", file, "--results", results, *storage)
    assert code == 0, err
    assert "3 complete, of 3" in page
