"""SLURM's own words: what its commands say of our jobs, each asked once for all of them."""

import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from core.errors import UserError

# Of jobs that will still do something, be it after a requeue.
ALIVE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"} | {
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
        return self.state in ALIVE


class NoAnswer(Exception):
    """SLURM's commands are missing here, or say nothing: its text is theirs."""


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise NoAnswer(f"{command[0]}: no such command here") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command[0]} did not answer in {SECONDS} s") from error
    if done.returncode:
        raise NoAnswer(last_line(done.stderr) or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def last_line(text: str) -> str:
    """What a command of SLURM's says at last, without its name: the most telling of its lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    for prefix in ("sbatch: error: ", "squeue: error: ", "sacct: error: ", "scancel: error: ", "slurm_load_jobs error: "):
        lines = [line.removeprefix(prefix) for line in lines]
    return lines[-1].removeprefix("Batch job submission failed: ")


def parse(text: str) -> list[Entry]:
    """Lines of JOB|NAME|STATE|REASON, of squeue or sacct; steps of a job left out."""
    entries = []
    for line in text.splitlines():
        job, name, state, reason = (*line.split("|"), "", "", "")[:4]
        if job and "." not in job and "[" not in job:
            entries.append(Entry(job, name, state.split(" ")[0], reason))  # sacct: CANCELLED by 0
    return entries


class Scheduler:
    """Asks squeue for all of the user's jobs, and sacct for those of ours that squeue has forgotten; at most so often."""

    def __init__(self, every: float) -> None:
        self.every, self.asked = every, float("-inf")
        self.entries: dict[str, Entry] = {}
        self.names: dict[str, str] = {}  # name of a job -> its number, without a place in an array
        self.sources: list[str] = []
        self.problem = ""

    def poll(self, jobs: Collection[str], *, now: bool = False) -> None:
        """Bring the entries of these jobs up to date."""
        if not now and time.monotonic() - self.asked < self.every:
            return
        self.asked = time.monotonic()
        self.sources, self.problem = [], ""
        try:
            seen = parse(_ask("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%j|%T|%r"))
        except NoAnswer as silence:
            self.problem = str(silence)
            return
        self.sources.append("squeue")
        ended = {job: entry for job, entry in self.entries.items() if not entry.alive}
        self.entries = ended | {entry.job: entry for entry in seen}
        self.names |= {entry.name: entry.job.partition("_")[0] for entry in seen}
        if unknown := sorted({job.partition("_")[0] for job in jobs if job not in self.entries}):
            self._ask_accounting(unknown)

    def _ask_accounting(self, numbers: Sequence[str]) -> None:
        try:
            columns = "--format=JobID,JobName,State"
            text = _ask("sacct", "-X", "--noheader", "--parsable2", columns, "--jobs", ",".join(numbers))
        except NoAnswer:  # no accounting here: our own state files tell
            return
        self.sources.append("sacct")
        self.entries = {entry.job: entry for entry in parse(text)} | self.entries


def cancel(jobs: Collection[str]) -> None:
    """End jobs. Raises UserError with SLURM's message."""
    try:
        _ask("scancel", *sorted(jobs))
    except NoAnswer as silence:
        raise UserError(f"scancel: {silence}; nothing was cancelled, or not all: `status` shows which") from silence
