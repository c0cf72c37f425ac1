"""How runs stand: their own state files first, the scheduler as a second witness."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from experiments.planning.plan import PlannedRun
from experiments.slurm.scheduler import Entry, Scheduler
from experiments.slurm.submissions import Submission, latest_submissions
from results.store import Run, State, Store

CANCELLED, AGAIN = "CANCELLED", "the same command goes on"


@dataclass(frozen=True)
class RunStatuses:
    """Every run's state, its job where one was submitted, and who told."""

    states: dict[str, State]
    jobs: dict[str, str]  # run -> job, of those whose job is queued or running
    source: str

    def alive(self, run: str) -> bool:
        """Whether a job will go on with the run, or is at it."""
        return run in self.jobs


def standing(
    runs: Iterable[PlannedRun], store: Store, scheduler: Scheduler, *, now: bool = False
) -> RunStatuses:
    """The states of runs; asks the scheduler where jobs were submitted for some that are not complete."""
    runs = list(runs)
    submissions = latest_submissions(store)
    told = {run.id: store.run(run.id).state() for run in runs}
    open_ = {
        run.id: submissions[run.id]
        for run in runs
        if run.id in submissions and told[run.id].name != "complete"
    }
    if not open_:
        return RunStatuses(told, {}, "state files")
    scheduler.poll(
        [job for run, submission in open_.items() if (job := submission.job(run))], now=now
    )
    jobs: dict[str, str] = {}
    for run, submission in open_.items():
        job = submission.job(run)
        entry = scheduler.entries.get(job)
        told[run] = merged(store.run(run), submission, job, entry, heard=not scheduler.problem)
        if (entry is not None and entry.alive) or (
            scheduler.problem and told[run].name in ("queued", "running")
        ):
            jobs[run] = job
    for planned in runs:
        if told[planned.id].message == CANCELLED:
            told[planned.id] = replace(told[planned.id], message=_why_cancelled(planned, told))
    source = " and ".join(["state files", *scheduler.sources])
    return RunStatuses(
        told,
        jobs,
        f"{source}; SLURM does not answer: {scheduler.problem}" if scheduler.problem else source,
    )


def state_now(run: str, store: Store) -> State:
    """One run's state, whatever plan it is of."""
    submission, scheduler = latest_submissions(store).get(run), Scheduler(0)
    if submission is None:
        return store.run(run).state()
    job = submission.job(run)
    scheduler.poll([job])
    state = merged(
        store.run(run), submission, job, scheduler.entries.get(job), heard=not scheduler.problem
    )
    return (
        replace(state, message="its job was cancelled, or its input failed")
        if state.message == CANCELLED
        else state
    )


def merged(
    run: Run, submission: Submission, job: str, entry: Entry | None, *, heard: bool
) -> State:
    """A run's state as its own file and the scheduler tell it. heard: the scheduler answered."""
    own = run.told()
    if own.name == "complete" or (own.name == "running" and run.held()):
        return own
    since = own.updated > submission.submitted  # its own file tells of this job, not of one before
    if (
        own.name == "failed" and since and not (entry and entry.waits)
    ):  # a job may have been requeued since
        return own
    if entry is not None and entry.alive:
        return _of_alive(own if since else State(), job, entry)
    if not heard:
        return own if since else State("queued", f"job {job}, as it was submitted")
    state = State(
        "preempted" if own.name in ("running", "preempted") else "planned", updated=own.updated
    )
    if entry is None:
        return replace(
            state, name="lost", message=f"SLURM does not know job {job} (any more); {AGAIN}"
        )
    if entry.state == CANCELLED:
        return replace(state, message=CANCELLED)
    if entry.state == "COMPLETED":
        return replace(state, name="lost", message=f"job {job} ended without a record; {AGAIN}")
    return replace(state, name="failed", message=f"SLURM: {entry.state} (job {job})")


def _of_alive(own: State, job: str, entry: Entry) -> State:
    if entry.state in ("RUNNING", "COMPLETING"):
        return (
            own
            if own.name == "running"
            else State("running", f"job {job} starts", updated=own.updated)
        )
    reason = f", {entry.reason}" if entry.reason not in ("", "None") else ""
    again = f"; {own.message}" if own.name == "preempted" and own.message else ""
    return State("queued", f"job {job}{reason}{again}", updated=own.updated)


def _why_cancelled(run: PlannedRun, states: dict[str, State]) -> str:
    """A job that waited for a failed one is cancelled by the scheduler; others by somebody."""
    blocked_experiments = [
        name for name in run.inputs.values() if name in states and states[name].name != "complete"
    ]
    return (
        f"not started: its input {blocked_experiments[0]} is not complete"
        if blocked_experiments
        else f"its job was cancelled; {AGAIN}"
    )
