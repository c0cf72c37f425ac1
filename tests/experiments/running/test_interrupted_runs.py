"""Interrupted experiments end with the same bits; two commands compute every run once."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import PATIENCE, started, wait_until
from whole_runs import artifacts, run_experiment, run_py, runs_by_stage

pytestmark = pytest.mark.slow

Finished = tuple[Path, subprocess.CompletedProcess[str]]


def kill_when(arguments: list[str], reached: Callable[[], bool]) -> None:
    """Start a command and kill -9 all its processes as soon as a condition is true."""
    with started(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(reached, process, pause=0.005)


def test_an_experiment_that_is_killed_in_every_stage_ends_with_the_same_bits(
    finished: Finished, experiment: Path, results: Path
) -> None:
    runs = runs_by_stage(experiment, results)
    options = ("--checkpoint-minutes", "0")
    line = run_py("run", experiment, results, *options)

    def state_of(stage: str) -> str:
        state: str = runs_by_stage(experiment, results)[stage]["state"]
        return state

    def wait_for_end_of(stage: str) -> None:
        """A busy machine needs a moment to end killed processes."""
        wait_until(lambda: state_of(stage) != "running")

    for stage in ("teacher", "pretrain", "finetune"):
        checkpoint = Path(runs[stage]["folder"]) / "checkpoint.safetensors"
        kill_when(line, checkpoint.exists)
        assert checkpoint.exists(), stage
        wait_for_end_of(stage)
        assert state_of(stage) == "preempted"
    folder = Path(runs["evaluate"]["folder"])
    kill_when(line, (folder / "state.json").exists)
    assert not (folder / "record.json").exists()
    assert run_experiment(experiment, results, *options).returncode == 0
    assert artifacts(results) == artifacts(finished[0])


def test_ctrl_c_leaves_a_checkpoint_and_the_state_preempted(
    experiment: Path, results: Path
) -> None:
    line = run_py("run", experiment, results, "--set", "finetune.optimizer.epochs=400")
    run = runs_by_stage(experiment, results, finetune__optimizer__epochs=400)["finetune"]
    folder = Path(run["folder"])
    log = folder / "metrics.jsonl"
    with started(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until(lambda: log.exists() and log.read_text(), process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "same command" in errors
    assert (folder / "checkpoint.safetensors").exists()
    run = runs_by_stage(experiment, results, finetune__optimizer__epochs=400)["finetune"]
    assert run["state"] == "preempted"


def test_two_commands_at_the_same_time_compute_every_run_once(
    finished: Finished, experiment: Path, results: Path
) -> None:
    line = run_py("run", experiment, results)
    with ExitStack() as stack:
        both = [
            stack.enter_context(started(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
            for _ in range(2)
        ]
        outputs = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert artifacts(results) == artifacts(finished[0])
    for path in results.glob("runs/*/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        assert len(steps) == len(set(steps)), "two processes wrote to this run"
