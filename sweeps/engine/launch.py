"""Workers of a sweep: processes of this machine, or jobs of a cluster. They need neither this command nor one another."""

import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from core.runtime.errors import UserError
from experiments.running.local import LaunchResult, supervise
from experiments.running.options import ComputeOptions
from experiments.slurm import scheduler as slurm
from experiments.slurm.cluster import Cluster, Resources, read_cluster
from experiments.slurm.job import (
    SIGNAL,
    ClusterJob,
    JobLimits,
    RunFailed,
    checkpoint_steps,
    device_of_job,
    requeue,
)
from experiments.slurm.launcher import POLL_SECONDS
from experiments.slurm.scheduler import Scheduler
from experiments.slurm.submissions import (
    interrupted_submissions,
    latest_submissions,
    new_submission,
)
from experiments.slurm.submit import (
    cancel_submissions,
    clean_environment,
    job_limits,
    submit_array,
    submitting,
)
from results.store import Store
from sweeps.engine.search import Search
from sweeps.engine.status import SweepWatch
from sweeps.engine.trials import Trials
from sweeps.engine.worker import search_on, work

STAGE = "sweep"


def launch(trials: Trials, options: ComputeOptions, console: Console) -> LaunchResult:
    """Search with processes of this machine (`options.jobs`) until the sweep is over."""
    arguments = (trials.search, trials.store, trials.url, options, time.time())
    with SweepWatch(trials, options.jobs or 1, console) as watch:
        return supervise(work, arguments, options.jobs or 1, watch.look)


class WorkerJob(ClusterJob):
    """A worker; after a requeue it goes on with the trial that nobody holds."""

    def __init__(
        self,
        search: Search,
        results: Path,
        url: str | None,
        options: ComputeOptions,
        limits: JobLimits,
        since: float,
    ) -> None:
        super().__init__(results, options, limits)
        self.search = search
        self.url = url
        self.since = since

    def __call__(self) -> str:
        """Compute trials until none is left. Raises RunFailed; ends by a requeue where the job was warned."""
        warned, started = self.begin(), time.time()
        from core.runtime.artifacts import CHECKPOINT

        store = Store(self.results)
        begun = [path.parent.name for path in (self.results / "runs").glob(f"*/{CHECKPOINT}")]
        before = {run: checkpoint_steps(store.run(run)) for run in begun}
        try:
            context = self.run_context(device_of_job(self.options.device), warned)
            trials = Trials(self.search, store, self.url)
            part = search_on(
                trials, context, self.since, threads=self.options.threads, wait_for_others=False
            )
            if warned.to_stop and not trials.over(trials.all()):
                came_on = part.ended or (
                    part.at and checkpoint_steps(store.run(part.at)) > before.get(part.at, 0)
                )
                if self.should_give_up(bool(came_on), time.time() - started):
                    reason = f"stopped {self.idle_stops} times in a row before anything was kept"
                    raise RunFailed(
                        f"{reason}; raise time in the cluster's file (stages: {{sweep: ...}})"
                    )
                requeue(warned, self.limits.warning_seconds)
        except UserError as reason:
            raise RunFailed(str(reason)) from reason
        finally:
            signal.signal(
                SIGNAL, signal.SIG_IGN
            )  # from here on it would kill the interpreter that ends
        return f"{part.ended} trials"


@dataclass(frozen=True)
class Workers:
    """The worker jobs of a sweep that are queued or running: name -> job."""

    jobs: dict[str, str]
    problem: str


def workers_of(trials: Trials, scheduler: Scheduler, *, now: bool = True) -> Workers:
    """The jobs that were submitted for a sweep and are not at their end. now: the scheduler is asked, however soon again."""
    mine = {
        name: submission.job(name)
        for name, submission in latest_submissions(trials.store).items()
        if submission.stage == STAGE and name.startswith(f"{trials.folder.name}-")
    }
    if not mine:
        return Workers({}, "")
    scheduler.poll(mine.values(), now=now)
    alive = {
        name: job
        for name, job in mine.items()
        if job in scheduler.entries and scheduler.entries[job].alive
    }
    return Workers(alive, scheduler.problem)


def launch_slurm(
    trials: Trials, workers: int, options: ComputeOptions, console: Console
) -> LaunchResult:
    """Have so many workers on the cluster, those that are there included; wait for the end unless told not to.

    Raises UserError."""
    cluster, resources = read_cluster(options.cluster, trials.search.scale)
    asked, scheduler = resources[STAGE], Scheduler(0)
    if asked.nodes * asked.tasks > 1:
        advice = "say stages: {sweep: {nodes: 1, tasks_per_node: 1}} in the cluster's file, and have more workers"
        raise UserError(
            f"a worker of a sweep is one process, not {asked.nodes * asked.tasks}; {advice}"
        )
    with submitting(trials.store):
        there = workers_of(trials, scheduler)
        if not options.dry_run:
            scheduler.require_answer("nothing was submitted, nothing is changed")
        further = max(0, workers - len(there.jobs))
        text = f"{len(there.jobs)} workers are queued or running; " if there.jobs else ""
        if options.dry_run:
            console.print(f"{text}would submit {further} workers", highlight=False)
            return LaunchResult()
        cancel_submissions(trials.store, interrupted_submissions(trials.store))
        if further:
            number = _submit(trials, further, cluster, asked, options)
            text += f"submitted {further} workers as job {number}"
        console.print(text or "no worker is needed", highlight=False)
    return (
        _wait(trials, workers, scheduler, cluster.poll_seconds, console)
        if options.wait
        else LaunchResult()
    )


def _submit(
    trials: Trials, count: int, cluster: Cluster, asked: Resources, options: ComputeOptions
) -> str:
    names = [f"{trials.folder.name}-{uuid.uuid4().hex[:6]}" for _ in range(count)]
    since = time.time()
    in_job = options.in_job(asked.cpus_per_task)
    limits = job_limits(cluster, asked)
    jobs: list[Callable[[], str]] = [
        WorkerJob(trials.search, trials.store.root, trials.url, in_job, limits, since)
        for _ in names
    ]
    submission = new_submission(STAGE, names, ())
    try:
        with clean_environment():
            submission = submit_array(submission, jobs, None, trials.store, cluster, asked)
    except BaseException:
        cancel_submissions(trials.store, interrupted_submissions(trials.store))
        raise
    return submission.number


def _wait(
    trials: Trials, workers: int, scheduler: Scheduler, every: float, console: Console
) -> LaunchResult:
    """Show the trials until the sweep is over or no worker is left. Ctrl-C leaves the jobs to themselves."""
    console.print(
        "Ctrl-C leaves the jobs to themselves: the same command watches again, `status` tells, `cancel` ends them"
    )
    asked, quiet = 0.0, 0
    try:
        with SweepWatch(trials, workers, console) as watch:
            while quiet < 2:
                watch.look()
                if time.monotonic() - asked > every:
                    asked = time.monotonic()
                    there = workers_of(trials, scheduler)
                    quiet = 0 if there.jobs or there.problem else quiet + 1
                time.sleep(POLL_SECONDS)
            watch.look()
    except KeyboardInterrupt:
        return LaunchResult(left=True)
    return LaunchResult()


def cancel(trials: Trials) -> int:
    """End the worker jobs of a sweep; returns how many. Raises UserError if SLURM does not answer."""
    scheduler = Scheduler(0)
    there = workers_of(trials, scheduler)
    scheduler.require_answer("nothing was cancelled")
    if there.jobs:
        slurm.cancel(there.jobs.values())
    return len(there.jobs)
