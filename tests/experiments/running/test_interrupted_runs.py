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
from plans import cells_of, plan_of
from whole_runs import artifacts, copy_words, run_experiment, run_py, runs_by_stage

from core.runtime import safetensors_io
from core.runtime.artifacts import CHECKPOINT, METRICS
from results.store import Run, Store

pytestmark = pytest.mark.slow

# Two rows with a moving average of the encoder, which checkpoints hold and weights do not.
AVERAGES = """
title: moving averages
set:
  pretrain.optimizer.epochs: 1
  pretrain.optimizer.batch: 8
  finetune.optimizer.epochs: 1
variants:
  - name: EMA repair
    set:
      pretrain.target: {kind: pixel}
      pretrain.alignment.repair: {kind: ema, momentum: 0.5, final_momentum: 0.9}
  - name: EMA target
    set:
      pretrain.target: {kind: ema_feature, momentum: 0.5}
"""

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


def steps_lost(folder: Path) -> int:
    """How many logged steps of a training its checkpoint lacks; 0 without a checkpoint."""
    checkpoint = folder / CHECKPOINT
    log = folder / METRICS
    if not checkpoint.exists() or not log.exists():
        return 0
    stored: int = safetensors_io.load(checkpoint)[1]["step"]
    logged: list[int] = [json.loads(line)["step"] + 1 for line in log.read_text().splitlines()]
    return max(0, *logged, stored) - stored


def kill_between_checkpoints(arguments: list[str], folder: Path) -> None:
    """Start a command and kill -9 its processes when the last steps of a training are not saved.

    The processes are stopped first, so that none of them writes a checkpoint meanwhile."""
    with started(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

        def stopped_between() -> bool:
            if not steps_lost(folder):
                return False
            os.killpg(process.pid, signal.SIGSTOP)
            if steps_lost(folder):
                return True
            os.killpg(process.pid, signal.SIGCONT)
            return False

        wait_until(stopped_between, process, pause=0.005)
    assert steps_lost(folder) > 0


def wait_for_end(run: Run) -> None:
    """A busy machine needs a moment to end killed processes."""
    wait_until(lambda: run.state().name != "running")


def test_moving_averages_survive_a_kill_between_checkpoints(
    finished: Finished, tmp_path: Path
) -> None:
    file = tmp_path / "averages.yaml"
    file.write_text(AVERAGES)
    whole, killed = (copy_words(finished[0], tmp_path / name) for name in ("whole", "killed"))
    options = ("--checkpoint-minutes", "0")
    for row in ("EMA repair", "EMA target"):
        (cell,) = cells_of(plan_of(killed, file), "averages", row)
        run = Store(killed).run(cell.trainings[0])
        kill_between_checkpoints(run_py("run", file, killed, *options), run.folder)
        wait_for_end(run)
        assert run.state().name == "preempted", row
    for results in (killed, whole):
        done = run_experiment(file, results, *options)
        assert done.returncode == 0, done.stderr
    assert artifacts(killed) == artifacts(whole)
    assert len(artifacts(whole)) == 2 * 3


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
