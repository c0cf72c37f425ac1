"""A run's state is resolved from its state file and from SLURM's job list."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from experiments.slurm.scheduler import Entry
from experiments.slurm.status import RESUME, resolve_state
from experiments.slurm.submissions import Submission
from results.store import State, Store

SUBMITTED = 1000.0
BEFORE = 900.0
AFTER = 1100.0
NO_ANSWER = "SLURM did not answer the last poll"


def job(state: str, reason: str = "") -> Entry:
    return Entry("7", "n", state, reason)


# (state file, the job in SLURM's list or NO_ANSWER, the run's state, its message)
CASES: list[tuple[State, Entry | str | None, str, str]] = [
    (State("planned"), job("PENDING", "Priority"), "queued", "job 7, Priority"),
    (State("failed", "old", updated=BEFORE), job("PENDING"), "queued", "job 7"),
    (State("failed", "new", updated=AFTER), job("FAILED"), "failed", "new"),
    (State("failed", "new", updated=AFTER), job("RUNNING"), "failed", "new"),
    (
        State("failed", "new", updated=AFTER),
        job("PENDING", "BeginTime"),
        "queued",
        "job 7, BeginTime",
    ),
    (State("running", updated=AFTER, done=3, total=9), job("RUNNING"), "running", ""),
    (State("preempted", "stopped", updated=AFTER), job("PENDING"), "queued", "job 7; stopped"),
    (State("running", updated=AFTER), job("PENDING", "BeginTime"), "queued", "job 7, BeginTime"),
    (State("planned"), job("RUNNING"), "running", "job 7 starts"),
    (State("complete", updated=AFTER), None, "complete", ""),
    (
        State("running", updated=AFTER),
        job("OUT_OF_MEMORY"),
        "failed",
        "SLURM: OUT_OF_MEMORY (job 7)",
    ),
    (State("running", updated=AFTER), job("NODE_FAIL"), "failed", "SLURM: NODE_FAIL (job 7)"),
    (State("running", updated=AFTER), job("COMPLETED"), "lost", "job 7 ended without a record"),
    (State("running", updated=AFTER), None, "lost", "SLURM no longer lists job 7"),
    (State("running", updated=AFTER), NO_ANSWER, "running", ""),
    (State("planned"), NO_ANSWER, "queued", "job 7, as it was submitted"),
    (State("planned"), job("CANCELLED"), "planned", "CANCELLED"),
    (State("preempted", updated=AFTER), job("CANCELLED"), "preempted", "CANCELLED"),
]


@pytest.mark.parametrize(("written", "listed", "name", "message"), CASES)
def test_state_file_and_slurms_list_give_one_state(
    tmp_path: Path, written: State, listed: Entry | str | None, name: str, message: str
) -> None:
    run = Store(tmp_path).run("pretrain-1")
    run.folder.mkdir(parents=True)
    (run.folder / "state.json").write_text(json.dumps(asdict(written)))
    submission = Submission("n", "pretrain", ("pretrain-1",), SUBMITTED, "7")
    entry = listed if isinstance(listed, Entry) else None
    state = resolve_state(run, submission, "7", entry, answered=listed != NO_ANSWER)
    assert state.name == name
    assert state.message.removesuffix(f"; {RESUME}") == message
