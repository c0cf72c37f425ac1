"""The states of runs, resolved from their state files and from SLURM's job list."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from experiments.planning.plan import PlannedRun
from experiments.slurm.scheduler import Entry, Scheduler
from experiments.slurm.submissions import Submission, latest_submissions
from results.store import Run, State, Store

CANCELLED = "CANCELLED"
RESUME = "run the same command again to resume"


@dataclass(frozen=True)
class RunStatuses:
    """The states of runs at one moment.

    states: run -> state.
    jobs: run -> job, of the runs whose job is queued or running.
    source: what the states were read from."""

    states: Mapping[str, State]
    jobs: Mapping[str, str]
    source: str

    def has_job(self, run: str) -> bool:
        """Whether a job computes the run or will compute it."""
        return run in self.jobs


def current_statuses(
    runs: Iterable[PlannedRun], store: Store, scheduler: Scheduler, *, now: bool = False
) -> RunStatuses:
    """The statuses of runs. Polls SLURM if one of them was submitted and is not complete.

    runs: the runs.
    store: the results folder.
    scheduler: SLURM's job list.
    now: poll SLURM also if the last poll was a moment ago."""
    runs = list(runs)
    submissions = latest_submissions(store)
    states = {run.id: store.run(run.id).state() for run in runs}
    submitted = {
        run.id: submissions[run.id].job(run.id)
        for run in runs
        if run.id in submissions and states[run.id].name != "complete"
    }
    if not submitted:
        return RunStatuses(states, {}, "state files")
    scheduler.poll([job for job in submitted.values() if job], now=now)
    jobs: dict[str, str] = {}
    answered = not scheduler.problem
    for run, job in submitted.items():
        entry = scheduler.entries.get(job)
        folder = store.run(run)
        states[run] = resolve_state(folder, submissions[run], job, entry, answered=answered)
        alive = entry is not None and entry.alive
        if alive or (not answered and states[run].name in ("queued", "running")):
            jobs[run] = job
    for planned in runs:
        if states[planned.id].message == CANCELLED:
            reason = _why_cancelled(planned, states)
            states[planned.id] = replace(states[planned.id], message=reason)
    source = " and ".join(["state files", *scheduler.sources])
    if scheduler.problem:
        source += f"; SLURM does not answer: {scheduler.problem}"
    return RunStatuses(states, jobs, source)


def current_state(run: str, store: Store) -> State:
    """The state of one run, without its plan."""
    submission = latest_submissions(store).get(run)
    if submission is None:
        return store.run(run).state()
    scheduler = Scheduler(0)
    job = submission.job(run)
    scheduler.poll([job])
    entry = scheduler.entries.get(job)
    answered = not scheduler.problem
    state = resolve_state(store.run(run), submission, job, entry, answered=answered)
    if state.message == CANCELLED:
        return replace(state, message="its job was cancelled, or its input failed")
    return state


def resolve_state(
    run: Run, submission: Submission, job: str, entry: Entry | None, *, answered: bool
) -> State:
    """The state of a submitted run, from its state file and from SLURM.

    The state file is believed if the run is complete, if its process holds the lock, or if the
    submitted job has failed since. Otherwise SLURM decides.

    run: the run's folder.
    submission: the run's last submission.
    job: the run's job in it.
    entry: the job in SLURM's list; None: not listed.
    answered: SLURM answered the last poll."""
    written = run.last_written_state()
    if written.name == "complete" or (written.name == "running" and run.is_locked()):
        return written
    of_this_job = written.updated > submission.submitted
    requeued = entry is not None and entry.waits
    if written.name == "failed" and of_this_job and not requeued:
        return written
    if entry is not None and entry.alive:
        return _state_of_alive_job(written if of_this_job else State(), job, entry)
    if not answered:
        if of_this_job:
            return written
        return State("queued", f"job {job}, as it was submitted")
    interrupted = written.name in ("running", "preempted")
    state = State("preempted" if interrupted else "planned", updated=written.updated)
    if entry is None:
        message = f"SLURM no longer lists job {job}; {RESUME}"
        return replace(state, name="lost", message=message)
    if entry.state == CANCELLED:
        return replace(state, message=CANCELLED)
    if entry.state == "COMPLETED":
        message = f"job {job} ended without a record; {RESUME}"
        return replace(state, name="lost", message=message)
    return replace(state, name="failed", message=f"SLURM: {entry.state} (job {job})")


def _state_of_alive_job(written: State, job: str, entry: Entry) -> State:
    if entry.state in ("RUNNING", "COMPLETING"):
        if written.name == "running":
            return written
        return State("running", f"job {job} starts", updated=written.updated)
    message = f"job {job}"
    if entry.reason not in ("", "None"):
        message += f", {entry.reason}"
    if written.name == "preempted" and written.message:
        message += f"; {written.message}"
    return State("queued", message, updated=written.updated)


def _why_cancelled(run: PlannedRun, states: Mapping[str, State]) -> str:
    """SLURM cancels a job whose input failed; a user cancels any other."""
    incomplete = [
        name for name in run.inputs.values() if name in states and states[name].name != "complete"
    ]
    if incomplete:
        return f"not started: its input {incomplete[0]} is not complete"
    return f"its job was cancelled; {RESUME}"
