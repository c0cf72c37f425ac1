"""Experiments on a real SLURM give the results of local runs; refused ones change nothing."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import REPOSITORY, run_command, wait_until
from slurm_runs import (
    USES_SLURM,
    LocalRun,
    accuracies,
    cluster_options,
    job_states,
    pretraining,
    printed_by,
    states,
    status,
    submit_without_waiting,
    write_experiment,
    write_long_experiment,
)
from whole_runs import artifacts, copy_words, run_experiment, run_py

pytestmark = USES_SLURM


def test_table_1_on_slurm_equals_the_local_one(local_table1: LocalRun, tmp_path: Path) -> None:
    file = local_table1.file
    results = copy_words(local_table1.results, tmp_path / "results")
    output = run_experiment(file, results, *cluster_options(tmp_path))
    assert output.returncode == 0, output.stderr
    assert artifacts(results) == artifacts(local_table1.results)
    assert accuracies(output.stdout) == accuracies(local_table1.printed)
    assert len(accuracies(output.stdout)) == 3
    assert "submitted 10 jobs in 4 arrays" in output.stderr
    jobs = job_states(results)
    assert sorted(jobs.values()) == ["COMPLETED"] * 10
    # Three stages of three rows are elements of arrays.
    assert sum("_" in job for job in jobs) == 9
    scripts = {path.read_text() for path in results.glob("jobs/*/*_submission.sh")}
    dependencies = [
        match[1] for script in scripts if (match := re.search(r"--dependency=(\w+)", script))
    ]
    assert sorted(dependencies) == ["aftercorr", "aftercorr", "afterok"]
    again = run_experiment(file, results, *cluster_options(tmp_path))
    assert (again.returncode, again.stdout) == (0, output.stdout)
    assert "submitted 0 jobs" in again.stderr


def test_running_jobs_are_not_submitted_again_and_cancel_ends_them(
    local_table1: LocalRun, tmp_path: Path
) -> None:
    file = write_long_experiment(tmp_path, 400)
    results = copy_words(local_table1.results, tmp_path / "results")
    options = cluster_options(tmp_path)
    submit_without_waiting(file, results, *options)
    wait_until(lambda: pretraining(file, results)["progress"])
    again = submit_without_waiting(file, results, *options)
    assert "submitted 0 jobs" in again.stderr
    assert "3 runs have a job" in again.stderr
    assert states(file, results) == ["running", "queued", "queued"]
    assert status(file, results)["source"] == "state files and squeue"
    cancelled = run_command(run_py("cancel", file, results))
    assert cancelled.returncode == 0
    assert "cancelled 3 jobs" in cancelled.stdout
    wait_until(lambda: pretraining(file, results)["state"] == "preempted")
    assert states(file, results) == ["preempted", "planned", "planned"]
    assert list(results.glob("runs/pretrain-*/checkpoint.safetensors"))
    assert "no job" in run_command(run_py("cancel", file, results)).stdout


def test_a_failed_run_stops_only_the_runs_that_need_it(
    local_table1: LocalRun, tmp_path: Path
) -> None:
    results = copy_words(local_table1.results, tmp_path / "results")
    file = write_experiment(tmp_path, ["MIM", "SeqCLR"])
    options = cluster_options(tmp_path)
    broken = pretraining(file, results)["id"]
    log = results / "runs" / broken / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"no_step": 1}\n')
    output = run_experiment(file, results, *options)
    assert output.returncode == 1
    assert f"failed    {broken}" in output.stderr
    assert "KeyError: 'step'" in output.stderr
    assert f"its input {broken} is not complete" in output.stderr
    assert sorted(states(file, results)) == ["complete"] * 3 + ["failed"] + ["planned"] * 2
    shown = run_command(run_py("logs", broken, results, scale=None))
    assert "KeyError: 'step'" in shown.stdout
    times = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/record.json")}
    log.unlink()
    again = run_experiment(file, results, *options)
    assert again.returncode == 0, again.stderr
    assert "submitted 3 jobs" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_refusal_of_sbatch_is_shown_and_nothing_is_submitted(
    local_table1: LocalRun, tmp_path: Path
) -> None:
    file = local_table1.file
    results = copy_words(local_table1.results, tmp_path / "results")
    options = cluster_options(tmp_path, stages={"evaluate": {"partition": "nowhere"}})
    list_jobs = ("squeue", "--me", "--noheader", "--states=PENDING,RUNNING", "--format=%i")
    before = printed_by(*list_jobs)
    output = run_experiment(file, results, *options)
    assert output.returncode == 2
    reason = "invalid partition specified: nowhere; Invalid partition name specified"
    assert f"stage evaluate: {reason}; nothing was submitted" in output.stderr
    assert "Traceback" not in output.stderr
    assert set(states(file, results)) == {"planned"}
    assert not list(results.glob("jobs/lmim-*"))
    assert printed_by(*list_jobs) == before


def test_without_sbatch_the_command_names_the_local_launcher(
    local_table1: LocalRun, tmp_path: Path
) -> None:
    line = run_py("run", local_table1.file, tmp_path / "results", *cluster_options(tmp_path))
    output = run_command(line, env={"PATH": "/nowhere"})
    assert output.returncode == 2
    assert "no srun and sbatch" in output.stderr
    assert "--launcher local" in output.stderr


def test_a_job_can_submit_jobs(local_table1: LocalRun, tmp_path: Path) -> None:
    file = write_experiment(tmp_path, ["SeqCLR"])
    results = copy_words(local_table1.results, tmp_path / "results")
    line = " ".join(run_py("run", file, results, *cluster_options(tmp_path), "--no-wait"))
    resources = ("-n", "1", "-c", "2", "--mem=1500M", "--gpus=1")
    printed_by("srun", *resources, "bash", "-c", f"cd {REPOSITORY} && {line}")
    wait_until(lambda: set(states(file, results)) == {"complete"})


def first_losses(path: Path) -> dict[int, float]:
    """Step -> loss, of the first 20 steps of a run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line and line["step"] <= 20}


def images_of(path: Path) -> list[list[str]]:
    """Subset and index of every row of predictions.csv."""
    return [line.split(",")[:2] for line in path.read_text().splitlines()]


def test_two_processes_of_a_job_compute_what_one_process_computes(
    local_table1: LocalRun, tmp_path: Path
) -> None:
    """Losses of 20 steps of every stage are equal within 1e-5; every image is recognized once."""
    settings: dict[str, Any] = {"set": {"pretrain.optimizer.epochs": 2.5}}
    file = write_experiment(tmp_path, ["SeqCLR", "LMIM"], **settings)
    folders = {}
    for tasks in (1, 2):
        folder = tmp_path / str(tasks)
        folders[tasks] = copy_words(local_table1.results, folder / "results")
        options = cluster_options(folder, tasks_per_node=tasks)
        output = run_experiment(file, folders[tasks], *options)
        assert output.returncode == 0, output.stderr
    logs = list(folders[1].glob("runs/*/metrics.jsonl"))
    assert logs
    for path in logs:
        of_two = folders[2] / path.relative_to(folders[1])
        assert first_losses(path) == pytest.approx(first_losses(of_two), abs=1e-5)
    for path in folders[1].glob("runs/evaluate-*/predictions.csv"):
        assert images_of(path) == images_of(folders[2] / path.relative_to(folders[1]))
    records = [json.loads(path.read_text()) for path in folders[2].glob("runs/*/record.json")]
    assert {record["hardware"]["processes"] for record in records} == {2}
