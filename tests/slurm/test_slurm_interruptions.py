"""Jobs on a real SLURM that are requeued, signaled or killed end with the results of local runs."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE, REPOSITORY, run_command, started, wait_until
from slurm_runs import (
    SCRIPTS,
    USES_SLURM,
    LocalRun,
    cluster_options,
    is_up,
    job_states,
    pretraining,
    printed_by,
    states,
    status,
    submit_without_waiting,
)
from whole_runs import artifacts, copy_words, run_experiment, run_py

pytestmark = USES_SLURM


@pytest.fixture
def results(local_long_run: LocalRun, tmp_path: Path) -> Path:
    """A new results folder that has the synthetic words."""
    return copy_words(local_long_run.results, tmp_path / "results")


def preempt(file: Path, results: Path) -> None:
    """Start a job of higher priority on all CPUs as soon as the pre-training has run 40 steps."""
    wait_until(
        lambda: (progress := pretraining(file, results)["progress"]) and progress["done"] > 40
    )
    cpus = printed_by("sinfo", "-h", "-p", "cpu", "-o", "%c").strip()
    printed_by("srun", "-p", "cpu", "-c", cpus, "sleep", "1")


@pytest.mark.parametrize("cause", ["time limit", "preemption"])
def test_a_requeued_run_ends_with_the_same_bits(
    local_long_run: LocalRun, results: Path, tmp_path: Path, cause: str
) -> None:
    file = local_long_run.file
    changes: dict[str, Any] = {"partition": "low"} if cause == "preemption" else {"time": 1}
    line = run_py("run", file, results, *cluster_options(tmp_path, **changes))
    with started(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        if cause == "preemption":
            preempt(file, results)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    # It was requeued before its last step.
    assert re.search(r"queued .*stopped after step \d+ of \d+; its checkpoint is kept", errors)
    assert artifacts(results) == artifacts(local_long_run.results)
    assert set(job_states(results).values()) == {"COMPLETED"}


def test_a_job_saves_on_sigterm_and_is_requeued_by_the_warning_signal(
    local_long_run: LocalRun, results: Path, tmp_path: Path
) -> None:
    file = local_long_run.file
    options = cluster_options(tmp_path, cpus_per_task=1)
    submit_without_waiting(file, results, *options, "--num-workers", "1")
    job = wait_until(lambda: (run := pretraining(file, results))["progress"] and run["job"])
    printed_by("scancel", "--signal=TERM", job)
    wait_until(lambda: list(results.glob("runs/pretrain-*/checkpoint.safetensors")))
    assert pretraining(file, results)["state"] == "running"
    printed_by("scancel", "--signal=USR2", job)
    wait_until(lambda: "stopped after step" in pretraining(file, results)["detail"])
    wait_until(lambda: set(states(file, results)) == {"complete"})
    assert artifacts(results) == artifacts(local_long_run.results)


def test_a_restart_of_the_controller_loses_nothing(
    local_long_run: LocalRun, results: Path, tmp_path: Path
) -> None:
    file = local_long_run.file
    options = cluster_options(tmp_path)
    line = run_py("run", file, results, *options)
    with started(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until(lambda: pretraining(file, results)["progress"])
        controller = int(Path("/var/lib/slurm-ci/run/slurmctld.pid").read_text())
        os.kill(controller, signal.SIGTERM)
        wait_until(lambda: not is_up())
        assert "SLURM does not answer" in status(file, results)["source"]
        assert states(file, results) == ["running", "queued", "queued"]
        refused = run_experiment(file, results, *options)
        assert refused.returncode == 2
        assert "nothing was submitted" in refused.stderr
        subprocess.run([SCRIPTS / "up"], check=True)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert artifacts(results) == artifacts(local_long_run.results)


def test_a_killed_job_is_failed_and_the_next_command_resumes_it(
    local_long_run: LocalRun, results: Path, tmp_path: Path
) -> None:
    """The process has no time to write its state, as where memory ran out."""
    file = local_long_run.file
    options = cluster_options(tmp_path)
    submit_without_waiting(file, results, *options, "--checkpoint-minutes", "0")
    run = wait_until(lambda: (run := pretraining(file, results))["progress"] and run)
    wait_until(lambda: list(results.glob("runs/pretrain-*/checkpoint.safetensors")))
    process = json.loads((Path(run["folder"]) / "state.json").read_text())["process"]
    os.kill(int(process.partition(":")[2]), signal.SIGKILL)
    failed = wait_until(lambda: (run := pretraining(file, results))["state"] == "failed" and run)
    assert failed["detail"] == f"SLURM: FAILED (job {run['job']})"
    again = run_experiment(file, results, *options)
    assert again.returncode == 0, again.stderr
    assert "submitted 3 jobs" in again.stderr
    assert artifacts(results) == artifacts(local_long_run.results)


def test_a_sweep_has_exactly_its_trials_after_workers_were_killed_and_requeued(
    results: Path, tmp_path: Path
) -> None:
    file = REPOSITORY / "sweeps" / "mask_ratio.yaml"
    options = (*cluster_options(tmp_path), "--workers", "2")
    submitted = submit_without_waiting(file, results, *options)
    assert "submitted 2 workers" in submitted.stderr

    def with_complete_trials(least: int) -> dict[str, Any]:
        sweep = status(file, results)
        return sweep if sweep["counts"].get("complete", 0) >= least else {}

    warned, killed = wait_until(lambda: with_complete_trials(1))["workers"].values()
    printed_by("scancel", "--signal=USR2", warned)  # it releases its trial and is requeued
    printed_by("scancel", "--signal=KILL", killed)
    wait_until(lambda: with_complete_trials(3))
    again = run_experiment(file, results, *options)
    assert again.returncode == 0, again.stderr
    sweep = status(file, results)
    assert sweep["counts"] == {"complete": 12}
    assert sweep["over"] is True
    assert sweep["workers"] == {}
    assert [trial["number"] for trial in sweep["trials"]] == list(range(12))
    jobs = job_states(results)
    assert jobs[killed] in ("FAILED", "CANCELLED", "OUT_OF_MEMORY")
    assert jobs[warned] == "COMPLETED"
    # sacct lists a requeued job once for each of its starts.
    starts = ("sacct", "-X", "--duplicates", "-n", "-P", "-o", "State", "-j", warned)
    assert len(printed_by(*starts).split()) > 1
    report = run_command(run_py("sweep-report", file, results))
    assert "12 complete, of 12" in report.stdout
