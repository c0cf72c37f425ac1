"""The output of squeue and sacct is parsed; each is called once for all jobs."""

import pytest

from experiments.slurm import scheduler as slurm
from experiments.slurm.scheduler import Entry, NoAnswer, Scheduler, parse


def test_lines_of_squeue_and_sacct_become_entries_without_job_steps() -> None:
    entries = parse("7|lmim-a|RUNNING|None\n8_0|lmim-b|PENDING|Dependency\n")
    assert entries == [
        Entry("7", "lmim-a", "RUNNING", "None"),
        Entry("8_0", "lmim-b", "PENDING", "Dependency"),
    ]
    assert [entry.alive for entry in entries] == [True, True]
    (cancelled,) = parse("8_1|lmim-b|CANCELLED by 0\n8_1.batch|batch|CANCELLED\n")
    assert cancelled.state == "CANCELLED"
    assert not cancelled.alive


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (
            "sbatch: error: invalid partition specified: x\n"
            "sbatch: error: Batch job submission failed: Invalid partition name\n",
            "invalid partition specified: x; Invalid partition name",
        ),
        (
            "sbatch: unrecognized option '--nonsense=1'\n"
            'Try "sbatch --help" for more information\n',
            "unrecognized option '--nonsense=1'",
        ),
        (
            "slurm_load_jobs error: Unable to contact slurm controller",
            "Unable to contact slurm controller",
        ),
    ],
)
def test_an_error_message_of_slurm_becomes_one_line(printed: str, reason: str) -> None:
    assert slurm.reason_of(printed) == reason


def test_jobs_in_a_common_line_of_an_array_or_in_no_line_have_a_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """sacct lists jobs that never started in one line. A removed job is in neither list."""
    assert slurm.elements("7_[0-2,5%3]") == ["7_0", "7_1", "7_2", "7_5"]
    answers = {
        "squeue": "8_0|b|PENDING|Resources\n8_2|b|PENDING|Resources\n",
        "sacct": "7_[0-1%2]|a|CANCELLED by 0\n",
    }
    monkeypatch.setattr(slurm, "_ask", lambda *command: answers[command[0]])
    scheduler = Scheduler(0)
    scheduler.poll(["7_0", "7_1", "8_0", "8_1", "8_2", "9_0"])
    states = {job: entry.state for job, entry in sorted(scheduler.entries.items())}
    assert states == {
        "7_0": "CANCELLED",
        "7_1": "CANCELLED",
        "8_0": "PENDING",
        "8_1": "CANCELLED",
        "8_2": "PENDING",
    }


def test_squeue_is_called_once_for_all_jobs_and_sacct_for_unlisted_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands: list[tuple[str, ...]] = []

    def answer(*command: str) -> str:
        commands.append(command)
        return "8_0|b|RUNNING|None\n" if command[0] == "squeue" else "7|a|COMPLETED\n9|c|TIMEOUT\n"

    monkeypatch.setattr(slurm, "_ask", answer)
    scheduler = Scheduler(3600)
    scheduler.poll(["7", "8_0", "9"])
    scheduler.poll(["7", "8_0", "9"])
    assert [command[0] for command in commands] == ["squeue", "sacct"]
    assert commands[1][-1] == "7,9"
    states = {job: entry.state for job, entry in scheduler.entries.items()}
    assert states == {"7": "COMPLETED", "8_0": "RUNNING", "9": "TIMEOUT"}
    scheduler.poll(["7", "8_0", "9"], now=True)
    assert [command[0] for command in commands] == ["squeue", "sacct", "squeue"]


def test_without_accounting_squeue_is_the_only_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*command: str) -> str:
        if command[0] == "sacct":
            raise NoAnswer("Slurm accounting storage is disabled")
        return ""

    monkeypatch.setattr(slurm, "_ask", answer)
    scheduler = Scheduler(0)
    scheduler.poll(["7"])
    assert scheduler.problem == ""
    assert scheduler.sources == ["squeue"]
