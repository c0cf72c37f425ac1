"""What SLURM's commands answer about our jobs: squeue, sacct and scancel, one call for all jobs."""

import re
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from core.runtime.errors import UserError

# States of jobs that are not finished; a requeued job runs again.
ALIVE = {
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
}
TIMEOUT_SECONDS = 30  # of one command


@dataclass(frozen=True)
class Entry:
    """One job in SLURM's list.

    job: its number, 123, or 123_4 in an array.
    name: its name.
    state: PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, CANCELLED, ...
    reason: why it is pending."""

    job: str
    name: str
    state: str
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether the job is not finished."""
        return self.state in ALIVE and self.reason != "DependencyNeverSatisfied"

    @property
    def waits(self) -> bool:
        """Whether the job is queued, for the first time or again."""
        return self.alive and self.state not in ("RUNNING", "COMPLETING")


class NoAnswer(Exception):
    """A command of SLURM is absent, failed or did not answer in time."""


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise NoAnswer(f"{command[0]}: no such command here") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command[0]} did not answer in {TIMEOUT_SECONDS} s") from error
    if done.returncode:
        raise NoAnswer(reason_of(done.stderr) or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def reason_of(text: str) -> str:
    """The error message of a SLURM command on one line.

    The command's name, its advice and repeated lines are removed."""
    lines = [
        re.sub(r"^(\w+: )?(error: |slurm_load_jobs error: )?", "", line.strip())
        for line in text.splitlines()
    ]
    reasons = [
        line.removeprefix("Batch job submission failed: ")
        for line in lines
        if line and not line.startswith("Try ")
    ]
    return "; ".join(dict.fromkeys(reasons))


def elements(job: str) -> list[str]:
    """The jobs of an array expression: 7_[0-2,5%3] are 7_0, 7_1, 7_2 and 7_5."""
    number, bracket, rest = job.partition("_[")
    if not bracket:
        return [job]
    jobs = []
    for part in rest.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        jobs += [f"{number}_{index}" for index in range(int(first), int(last or first) + 1)]
    return jobs


def parse(text: str) -> list[Entry]:
    """The entries in lines of JOB|NAME|STATE|REASON from squeue or sacct, without job steps."""
    entries = []
    for line in text.splitlines():
        job, name, state, reason = (*line.split("|"), "", "", "")[:4]
        if job and "." not in job:
            word = state.split(" ")[0]  # sacct writes "CANCELLED by 0"
            entries += [Entry(element, name, word, reason) for element in elements(job)]
    return entries


class Scheduler:
    """A cache of SLURM's job list.

    It asks squeue for all jobs of the user, and sacct for our jobs that squeue no longer lists.

    interval: least time in seconds between two polls.
    entries: job -> its entry.
    sources: the commands that answered the last poll.
    problem: why SLURM did not answer the last poll; "" if it did."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.polled_at = float("-inf")
        self.entries: dict[str, Entry] = {}
        self.sources: list[str] = []
        self.problem = ""

    def poll(self, jobs: Collection[str], *, now: bool = False) -> None:
        """Update the entries of these jobs. now: also if the last poll was a moment ago."""
        if not now and time.monotonic() - self.polled_at < self.interval:
            return
        self.polled_at = time.monotonic()
        self.sources = []
        self.problem = ""
        columns = "--format=%i|%j|%T|%r"
        try:
            output = _ask("squeue", "--me", "--array", "--states=all", "--noheader", columns)
        except NoAnswer as error:
            self.problem = str(error)
            return
        self.sources.append("squeue")
        ended = {job: entry for job, entry in self.entries.items() if not entry.alive}
        self.entries = ended | {entry.job: entry for entry in parse(output)}
        if unknown := sorted({job.partition("_")[0] for job in jobs if job not in self.entries}):
            self._ask_accounting(unknown)
        known = {job.partition("_")[0] for job in self.entries}
        for job in jobs:
            # An element that was removed from an array before it started is in neither list.
            if "_" in job and job not in self.entries and job.partition("_")[0] in known:
                self.entries[job] = Entry(job, "", "CANCELLED")

    def require_answer(self, consequence: str) -> None:
        """Raise UserError if SLURM did not answer the last poll.

        consequence: what the command did not do because of it."""
        if self.problem:
            raise UserError(f"SLURM does not answer: {self.problem}; {consequence}")

    def _ask_accounting(self, numbers: Sequence[str]) -> None:
        columns = "--format=JobID,JobName,State"
        try:
            output = _ask(
                "sacct", "-X", "--noheader", "--parsable2", columns, "--jobs", ",".join(numbers)
            )
        except NoAnswer:  # this cluster has no accounting; our state files must suffice
            return
        self.sources.append("sacct")
        self.entries = {entry.job: entry for entry in parse(output)} | self.entries


def cancel(jobs: Collection[str] = (), name: str = "") -> None:
    """Cancel jobs, or all jobs of a name. Raises UserError with SLURM's message."""
    selection = [f"--name={name}", "--me"] if name else sorted(jobs)
    try:
        _ask("scancel", *selection)
    except NoAnswer as error:
        raise UserError(
            f"scancel: {error}; some jobs or all were not cancelled: `status` shows which"
        ) from error
