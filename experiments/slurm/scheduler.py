"""SLURM's own words: what its commands say of our jobs, each asked once for all of them."""

import re
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from core.runtime.errors import UserError

# Of jobs that will still do something, be it after a requeue.
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
} | {
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"),
}
SECONDS = 30  # that a command may take


@dataclass(frozen=True)
class Entry:
    """One job as SLURM sees it."""

    job: str  # 123, or 123_4 of an array
    name: str
    state: str  # PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, CANCELLED, ...
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether it will still do something."""
        return self.state in ALIVE and self.reason != "DependencyNeverSatisfied"

    @property
    def waits(self) -> bool:
        """Whether it is queued, perhaps again."""
        return self.alive and self.state not in ("RUNNING", "COMPLETING")


class NoAnswer(Exception):
    """SLURM's commands are missing here, or say nothing: its text is theirs."""


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise NoAnswer(f"{command[0]}: no such command here") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command[0]} did not answer in {SECONDS} s") from error
    if done.returncode:
        raise NoAnswer(reason_of(done.stderr) or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def reason_of(text: str) -> str:
    """What a command of SLURM's says, on one line: without its name, its advice, and what it says twice."""
    lines = [
        re.sub(r"^(\w+: )?(error: |slurm_load_jobs error: )?", "", line.strip())
        for line in text.splitlines()
    ]
    lines = [
        line.removeprefix("Batch job submission failed: ")
        for line in lines
        if line and not line.startswith("Try ")
    ]
    return "; ".join(dict.fromkeys(lines))


def elements(job: str) -> list[str]:
    """The jobs that a number stands for: 7_[0-2,5%3] are 7_0, 7_1, 7_2 and 7_5."""
    number, bracket, rest = job.partition("_[")
    if not bracket:
        return [job]
    found = []
    for part in rest.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        found += [f"{number}_{place}" for place in range(int(first), int(last or first) + 1)]
    return found


def parse(text: str) -> list[Entry]:
    """Lines of JOB|NAME|STATE|REASON, of squeue or sacct; steps of a job left out."""
    entries = []
    for line in text.splitlines():
        job, name, state, reason = (*line.split("|"), "", "", "")[:4]
        if job and "." not in job:
            entries += [
                Entry(one, name, state.split(" ")[0], reason) for one in elements(job)
            ]  # sacct: CANCELLED by 0
    return entries


class Scheduler:
    """Asks squeue for all of the user's jobs, and sacct for those of ours that squeue has forgotten; at most so often."""

    def __init__(self, every: float) -> None:
        self.every, self.asked = every, float("-inf")
        self.entries: dict[str, Entry] = {}
        self.sources: list[str] = []
        self.problem = ""

    def poll(self, jobs: Collection[str], *, now: bool = False) -> None:
        """Bring the entries of these jobs up to date."""
        if not now and time.monotonic() - self.asked < self.every:
            return
        self.asked = time.monotonic()
        self.sources, self.problem = [], ""
        try:
            seen = parse(
                _ask(
                    "squeue",
                    "--me",
                    "--array",
                    "--states=all",
                    "--noheader",
                    "--format=%i|%j|%T|%r",
                )
            )
        except NoAnswer as silence:
            self.problem = str(silence)
            return
        self.sources.append("squeue")
        ended = {job: entry for job, entry in self.entries.items() if not entry.alive}
        self.entries = ended | {entry.job: entry for entry in seen}
        if unknown := sorted({job.partition("_")[0] for job in jobs if job not in self.entries}):
            self._ask_accounting(unknown)
        known = {job.partition("_")[0] for job in self.entries}
        for job in jobs:  # one that was taken out of an array before it began is in neither list
            if "_" in job and job not in self.entries and job.partition("_")[0] in known:
                self.entries[job] = Entry(job, "", "CANCELLED")

    def must_have_answered(self, otherwise: str) -> None:
        """Raise UserError if the last question was not answered; otherwise: what became of the user's wish."""
        if self.problem:
            raise UserError(f"SLURM does not answer: {self.problem}; {otherwise}")

    def _ask_accounting(self, numbers: Sequence[str]) -> None:
        try:
            columns = "--format=JobID,JobName,State"
            text = _ask(
                "sacct", "-X", "--noheader", "--parsable2", columns, "--jobs", ",".join(numbers)
            )
        except NoAnswer:  # no accounting here: our own state files tell
            return
        self.sources.append("sacct")
        self.entries = {entry.job: entry for entry in parse(text)} | self.entries


def cancel(jobs: Collection[str] = (), name: str = "") -> None:
    """End jobs, or those of a name. Raises UserError with SLURM's message."""
    try:
        _ask("scancel", *([f"--name={name}", "--me"] if name else sorted(jobs)))
    except NoAnswer as silence:
        raise UserError(
            f"scancel: {silence}; nothing was cancelled, or not all: `status` shows which"
        ) from silence
