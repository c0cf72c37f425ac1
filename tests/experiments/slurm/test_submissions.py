"""Submissions of a plan: interrupted ones, blocked jobs, and the latest of a run."""

from pathlib import Path

import pytest
from conftest import call
from plans import TABLE1, plan_of
from rich.console import Console

from core.runtime.errors import UserError
from experiments.slurm import scheduler as slurm
from experiments.slurm.cluster import read_cluster
from experiments.slurm.launcher import arrays_to_submit, settled_statuses
from experiments.slurm.scheduler import NoAnswer, Scheduler
from experiments.slurm.status import current_statuses
from experiments.slurm.submissions import Submission, latest_submissions, write_submission
from results.store import Store

SUBMITTED = 1000.0


def test_an_interrupted_submission_is_cancelled_before_the_next_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was killed after it called sbatch and before it wrote the number."""
    commands: list[tuple[str, ...]] = []

    def answer(*command: str) -> str:
        commands.append(command)
        return ""

    monkeypatch.setattr(slurm, "_ask", answer)
    store = Store(tmp_path)
    run = next(iter(plan_of(tmp_path).runs.values()))
    write_submission(store, Submission("lmim-x", "pretrain", (run.id,), SUBMITTED))
    assert current_statuses([run], store, Scheduler(0)).states[run.id].name == "planned"
    monkeypatch.setenv("PATH", "/nowhere")
    options = ("--scale", "smoke", "--results", tmp_path, "--launcher", "slurm")
    code, _, errors = call(capsys, TABLE1, *options)
    assert code == 2
    assert "no srun and sbatch" in errors
    assert ("scancel", "--name=lmim-x", "--me") in commands
    assert not list(tmp_path.glob("jobs/lmim-*"))


class FakeSlurm:
    """SLURM's answers for jobs whose lines a test sets.

    lines: job -> "STATE|REASON".
    """

    def __init__(self, lines: dict[str, str]) -> None:
        self.lines = lines

    def answer(self, command: str, *arguments: str) -> str:
        if command == "scancel":
            self.lines |= dict.fromkeys(arguments, "CANCELLED|None")
        if command != "squeue":
            return ""
        return "".join(f"{job}|lmim-{job}|{line}\n" for job, line in self.lines.items())


def test_jobs_with_a_failed_input_are_cancelled_and_submitted_again_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    fake = FakeSlurm({"7": "RUNNING|None", "8": "PENDING|Dependency", "9": "PENDING|Dependency"})
    monkeypatch.setattr(slurm, "_ask", fake.answer)
    runs = [
        run
        for run in plan_of(tmp_path).runs.values()
        if "no guidance" in run.rows[0] and not run.rows[0].startswith("teacher")
    ]
    for number, run in zip(fake.lines, runs, strict=True):
        name = f"lmim-{number}"
        write_submission(store, Submission(name, run.stage, (run.id,), SUBMITTED, number))
    console = Console(quiet=True)
    cluster, _ = read_cluster(None, "smoke")
    scheduler = Scheduler(0)

    def stages_to_submit() -> list[str]:
        statuses = current_statuses(runs, store, scheduler, now=True)
        statuses = settled_statuses(runs, store, scheduler, statuses, console)
        return [array.stage for array in arrays_to_submit(runs, statuses, cluster, console)]

    assert stages_to_submit() == []
    fake.lines["7"] = "FAILED|NonZeroExitCode"
    assert stages_to_submit() == ["pretrain", "finetune", "evaluate"]
    assert fake.lines["8"] == fake.lines["9"] == "CANCELLED|None"


def test_the_latest_submission_of_a_run_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_submission(store, Submission("second", "pretrain", ("a",), 20.0, "7"))
    write_submission(store, Submission("first", "pretrain", ("a", "b"), 10.0, "7"))
    latest = latest_submissions(store)
    names = {run: submission.name for run, submission in latest.items()}
    assert names == {"a": "second", "b": "first"}
    assert latest["a"].job("a") == "7"
    assert latest["b"].job("b") == "7_1"


def test_a_damaged_submission_file_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_submission(store, Submission("first", "pretrain", ("a", "b"), 10.0, "7"))
    (tmp_path / "jobs" / "first" / "submission.json").write_text("{")
    with pytest.raises(UserError, match=r"first/submission\.json"):
        latest_submissions(store)


@pytest.fixture
def results_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results with a submitted run, on a machine without SLURM's commands."""

    def refuse(*command: str) -> str:
        raise NoAnswer(f"{command[0]}: no such command here")

    monkeypatch.setattr(slurm, "_ask", refuse)
    run = next(iter(plan_of(tmp_path).runs))
    write_submission(Store(tmp_path), Submission("n", "pretrain", (run,), SUBMITTED, "7"))
    return tmp_path


def test_without_slurm_nothing_is_submitted(
    capsys: pytest.CaptureFixture[str], results_without_slurm: Path
) -> None:
    options = ("--scale", "smoke", "--results", results_without_slurm, "--launcher", "slurm")
    code, _, errors = call(capsys, TABLE1, *options)
    assert code == 2
    assert "squeue: no such command" in errors.splitlines()[-1]
    assert "nothing was submitted" in errors.splitlines()[-1]


def test_without_slurm_status_shows_what_the_files_say(
    capsys: pytest.CaptureFixture[str], results_without_slurm: Path
) -> None:
    options = ("--scale", "smoke", "--results", results_without_slurm)
    code, out, _ = call(capsys, "status", TABLE1, *options)
    assert code == 0
    assert "1 queued" in out.splitlines()[-1]
    assert "state files; SLURM does not answer: squeue" in out


def test_without_slurm_nothing_is_cancelled(
    capsys: pytest.CaptureFixture[str], results_without_slurm: Path
) -> None:
    options = ("--scale", "smoke", "--results", results_without_slurm)
    code, _, errors = call(capsys, "cancel", TABLE1, *options)
    assert code == 2
    assert "nothing was cancelled" in errors
