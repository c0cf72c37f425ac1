"""Runs on several processes and GPUs of this machine; processes that are killed."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import PATIENCE, started, wait_until
from whole_runs import run_experiment, run_py, runs_by_stage

from core.runtime.artifacts import METRICS
from core.runtime.errors import UserError
from experiments.running.local import fail_killed_run, supervise
from experiments.running.options import ComputeOptions
from results.store import Store, process_name

OPTIONS = ComputeOptions(device="cuda", jobs=3)
LONG = {"finetune__optimizer__epochs": 400}
LONG_OPTIONS = ("--set", "finetune.optimizer.epochs=400", "--checkpoint-minutes", "0")
EPOCHS = ("--set", "pretrain.optimizer.epochs=4")  # 32 steps


@pytest.mark.parametrize(
    ("gpus", "processes", "devices"),
    [
        ((0, 1, 2), 1, [("cuda:0",), ("cuda:1",), ("cuda:2",)]),
        ((3, 1), 1, [("cuda:3",), ("cuda:1",)]),
        ((0, 1, 2, 3), 2, [("cuda:0", "cuda:1"), ("cuda:2", "cuda:3")]),
        ((0, 1, 2), 2, [("cuda:0", "cuda:1")]),
        ((), 1, [("cuda",)] * 3),
    ],
)
def test_each_worker_has_gpus_of_its_own(
    gpus: tuple[int, ...], processes: int, devices: list[tuple[str, ...]]
) -> None:
    assert replace(OPTIONS, processes=processes).devices(gpus) == devices


def test_no_more_workers_than_jobs_get_gpus() -> None:
    assert replace(OPTIONS, jobs=1).devices((0, 1, 2)) == [("cuda:0",)]


def test_a_run_with_more_processes_than_gpus_is_refused() -> None:
    for gpus in ((0, 1), ()):
        with pytest.raises(UserError, match="--processes 4"):
            replace(OPTIONS, processes=4).devices(gpus)
    on_cpu = replace(OPTIONS, device="cpu", processes=2, jobs=1)
    assert on_cpu.devices(()) == [("cpu", "cpu")]


def test_threads_are_divided_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.running.options.cores", lambda: 16)
    options = ComputeOptions(processes=4)
    assert options.on_this_machine("cpu", 2).threads == 2
    assert options.on_this_machine("cpu", 16).threads == 1


def test_the_run_of_a_killed_worker_fails_and_other_runs_do_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    here = os.getpid()
    for name in ("finetune-1", "finetune-2"):
        store.run(name).folder.mkdir(parents=True)
    store.run("finetune-1").set_state("running", device="cuda:2")
    assert store.run("finetune-1").last_written_state().process == process_name(here)
    assert store.run("finetune-1").last_written_state().device == "cuda:2"
    fail_killed_run(store.run("finetune-1"), here + 1, -9)
    assert store.run("finetune-1").last_written_state().name == "running"
    fail_killed_run(store.run("finetune-1"), here, -9)
    state = store.run("finetune-1").state()
    assert state.name == "failed"
    assert "signal 9" in state.message
    fail_killed_run(store.run("finetune-2"), here, -9)
    assert store.run("finetune-2").state().name == "planned"


def end_by_signal(folder: Path, parent: int) -> None:
    """A worker that is killed the first time, and ends well the second time."""
    attempts = folder / "attempts"
    attempts.mkdir(exist_ok=True)
    count = len(list(attempts.iterdir()))
    (attempts / str(count)).touch()
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    killed: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        supervise(end_by_signal, [(tmp_path,)], lambda: None, lambda _, code: killed.append(code))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert killed == [-9]
    assert len(list((tmp_path / "attempts").iterdir())) == 2


@pytest.mark.slow
def test_two_processes_train_as_one_does(experiment: Path, tmp_path: Path) -> None:
    losses: list[list[float]] = []
    for processes in ("1", "2"):
        results = tmp_path / processes
        done = run_experiment(experiment, results, *EPOCHS, "--processes", processes)
        assert done.returncode == 0, done.stderr
        run = runs_by_stage(experiment, results, pretrain__optimizer__epochs=4)["pretrain"]
        folder = Path(run["folder"])
        lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
        record = json.loads((folder / "record.json").read_text())
        assert record["hardware"]["processes"] == int(processes)
        assert record["metrics"]["steps"] == 32
    assert len(losses[0]) >= 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def worker_of(folder: Path) -> psutil.Process:
    """The process that computes a run."""
    state = json.loads((folder / "state.json").read_text())
    return psutil.Process(int(state["process"].partition(":")[2]))


def other_process(folder: Path) -> psutil.Process:
    """The process of a run's group that is not the main one."""
    children = worker_of(folder).children()
    (other,) = [child for child in children if "resource_tracker" not in str(child.cmdline())]
    return other


@pytest.mark.slow
@pytest.mark.parametrize("victim", [worker_of, other_process])
def test_a_killed_process_fails_its_run_and_the_same_command_resumes(
    victim: Any, experiment: Path, results: Path
) -> None:
    line = run_py("run", experiment, results, *LONG_OPTIONS, "--processes", "2")
    folder = Path(runs_by_stage(experiment, results, **LONG)["finetune"]["folder"])
    with started(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until((folder / "checkpoint.safetensors").exists, process)
        killed = victim(folder)
        killed.kill()
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    state = Store(results).run(folder.name).state()
    assert state.name == "failed"
    assert "killed by signal 9" in state.message
    assert "same command" in state.message
    assert folder.name in errors
    assert not killed.is_running()
    # the same command resumes: a shorter training of the same run would have another id
    with started(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        log = folder / METRICS
        steps = len(log.read_text().splitlines())
        wait_until(lambda: len(log.read_text().splitlines()) > steps + 1, process)
        assert Store(results).run(folder.name).state().name == "running"
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert Store(results).run(folder.name).state().name == "preempted"
