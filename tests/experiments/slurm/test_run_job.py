"""The job of a run: when it fails, what is requeued, and its logs."""

from pathlib import Path

import pytest
from conftest import call
from plans import plan_of

from core.runtime.safetensors_io import save
from experiments.running.execute import Outcome
from experiments.running.options import ComputeOptions
from experiments.slurm import scheduler as slurm
from experiments.slurm.job import JobLimits, RunJob
from experiments.slurm.scheduler import NoAnswer
from experiments.slurm.submissions import Submission, write_submission
from results.store import Store

OPTIONS = ComputeOptions(device="cpu", threads=1, num_workers=0, checkpoint_seconds=600)
LIMITS = JobLimits(warning_seconds=30, limit_seconds=130, max_idle_stops=2)
LATE = 90  # seconds since the start: in the second half of the job's time
EARLY = 20
STOPPED = Outcome("preempted", "stopped")


@pytest.fixture
def job(tmp_path: Path) -> RunJob:
    """The job of a run of Table 1."""
    return RunJob(next(iter(plan_of(tmp_path).runs.values())), tmp_path, OPTIONS, LIMITS)


def test_a_run_fails_after_too_many_stops_without_a_new_checkpoint(
    job: RunJob, tmp_path: Path
) -> None:
    run = Store(tmp_path).run(job.run.id)
    assert job._count_stop(STOPPED, run, LATE) == STOPPED
    outcome = job._count_stop(STOPPED, run, LATE)
    assert outcome.state == run.state().name == "failed"
    assert "increase time in the cluster's file" in run.state().message


def test_an_early_stop_is_a_preemption_and_does_not_count(job: RunJob, tmp_path: Path) -> None:
    run = Store(tmp_path).run(job.run.id)
    assert job._count_stop(STOPPED, run, LATE) == STOPPED
    assert job._count_stop(STOPPED, run, EARLY) == STOPPED
    assert job.idle_stops == 1


def test_a_new_checkpoint_resets_the_count_of_stops(job: RunJob, tmp_path: Path) -> None:
    run = Store(tmp_path).run(job.run.id)
    assert job._count_stop(STOPPED, run, LATE) == STOPPED
    save(run.folder / "checkpoint.safetensors", {}, {"step": 7})
    assert job._count_stop(STOPPED, run, LATE) == STOPPED
    assert job.idle_stops == 0
    job.steps = 7  # the next job starts from this checkpoint
    assert job._count_stop(STOPPED, run, LATE) == STOPPED
    assert job._count_stop(STOPPED, run, LATE).state == "failed"


def test_a_requeued_job_is_the_same_job(job: RunJob) -> None:
    assert job.checkpoint().function is job


@pytest.fixture
def failed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results with two failed runs, without SLURM. The job of the second has written 100 lines."""

    def refuse(*command: str) -> str:
        raise NoAnswer("no such command here")

    monkeypatch.setattr(slurm, "_ask", refuse)
    store = Store(tmp_path)
    runs = ("pretrain-ab1", "pretrain-ab2")
    for name in runs:
        store.run(name).set_state("failed", message="it broke")
        (store.run(name).folder / "traceback.txt").write_text("Traceback\nKeyError: 'x'\n")
    write_submission(store, Submission("n", "pretrain", runs, 1000.0, "7"))
    log = tmp_path / "jobs" / "n" / "7_1_0_log.err"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    return tmp_path


def test_logs_show_state_traceback_and_the_last_lines_of_the_job(
    capsys: pytest.CaptureFixture[str], failed_runs: Path
) -> None:
    code, out, _ = call(capsys, "logs", "pretrain-ab2", "--results", failed_runs, "--lines", "2")
    assert code == 0
    assert out.startswith("pretrain-ab2: failed  it broke\n")
    assert "KeyError: 'x'" in out
    assert out.endswith("line 98\nline 99\n")
    assert "line 97" not in out


@pytest.mark.parametrize(
    ("name", "expected"), [("pretrain-ab", "pretrain-ab1, pretrain-ab2"), ("x", "no run")]
)
def test_logs_refuse_an_ambiguous_or_unknown_run(
    capsys: pytest.CaptureFixture[str], failed_runs: Path, name: str, expected: str
) -> None:
    code, _, errors = call(capsys, "logs", name, "--results", failed_runs)
    assert code == 2
    assert expected in errors
