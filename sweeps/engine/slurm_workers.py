"""Workers of a sweep as jobs of a cluster: submit, find, watch and cancel them."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from core.runtime.errors import UserError
from experiments.running.local import LaunchResult
from experiments.running.options import ComputeOptions
from experiments.slurm import scheduler as slurm
from experiments.slurm.cluster import Cluster, Resources, read_cluster
from experiments.slurm.launcher import CTRL_C, POLL_SECONDS
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
from sweeps.engine.sweep_display import SweepDisplay
from sweeps.engine.trials import Trials
from sweeps.engine.worker_job import WorkerJob

STAGE = "sweep"  # the key of a worker's resources in the cluster's file
SUFFIX_DIGITS = 6


@dataclass(frozen=True)
class WorkerJobs:
    """The jobs of a sweep that are queued or running.

    jobs: name -> job number.
    problem: why SLURM did not answer; "" if it did.
    """

    jobs: dict[str, str]
    problem: str


def find_workers(trials: Trials, scheduler: Scheduler, *, now: bool = True) -> WorkerJobs:
    """The sweep's jobs that are queued or running.

    trials: the sweep.
    scheduler: asks SLURM.
    now: ask even if SLURM was just asked.
    """
    submitted = {
        name: submission.job(name)
        for name, submission in latest_submissions(trials.store).items()
        if submission.stage == STAGE and name.startswith(f"{trials.folder.name}-")
    }
    if not submitted:
        return WorkerJobs({}, "")
    scheduler.poll(submitted.values(), now=now)
    alive = {
        name: job
        for name, job in submitted.items()
        if job in scheduler.entries and scheduler.entries[job].alive
    }
    return WorkerJobs(alive, scheduler.problem)


def launch_slurm(
    trials: Trials, workers: int, options: ComputeOptions, console: Console
) -> LaunchResult:
    """Submit workers until there are as many as asked for; wait for the end if `options.wait`.

    trials: the sweep.
    workers: number of jobs, with those that are queued or running already.
    options: those of the command.
    console: where messages are printed.

    Raises UserError.
    """
    cluster, stages = read_cluster(options.cluster, trials.search.scale)
    resources = stages[STAGE]
    _check_resources(resources)
    scheduler = Scheduler(0)
    with submitting(trials.store):
        present = find_workers(trials, scheduler)
        missing = max(0, workers - len(present.jobs))
        text = f"{len(present.jobs)} workers are queued or running; " if present.jobs else ""
        if options.dry_run:
            console.print(f"{text}would submit {missing} workers", highlight=False)
            return LaunchResult()
        scheduler.require_answer("nothing was submitted, nothing is changed")
        cancel_submissions(trials.store, interrupted_submissions(trials.store))
        if missing:
            number = _submit(trials, missing, cluster, resources, options)
            text += f"submitted {missing} workers as job {number}"
        console.print(text or "no worker is needed", highlight=False)
    if not options.wait:
        return LaunchResult()
    return _wait(trials, scheduler, cluster.poll_seconds, console)


def _check_resources(resources: Resources) -> None:
    processes = resources.nodes * resources.tasks
    if processes > 1:
        raise UserError(
            f"a worker of a sweep is one process, not {processes}; set stages: "
            "{sweep: {nodes: 1, tasks_per_node: 1}} in the cluster's file, and use more workers"
        )


def _submit(
    trials: Trials, count: int, cluster: Cluster, resources: Resources, options: ComputeOptions
) -> str:
    """Submit workers as an array; returns its job number.

    trials: the sweep.
    count: number of workers.
    cluster, resources: what the jobs request.
    options: those of the command.
    """
    names = [f"{trials.folder.name}-{uuid.uuid4().hex[:SUFFIX_DIGITS]}" for _ in range(count)]
    in_job = options.in_job(resources.cpus_per_task)
    limits = job_limits(cluster, resources)
    since = time.time()
    jobs: list[Callable[[], str]] = [
        WorkerJob(trials.search, trials.store.root, trials.url, in_job, limits, since)
        for _ in names
    ]
    submission = new_submission(STAGE, names, ())
    try:
        with clean_environment():
            submission = submit_array(submission, jobs, None, trials.store, cluster, resources)
    except BaseException:
        cancel_submissions(trials.store, interrupted_submissions(trials.store))
        raise
    return submission.number


def _wait(
    trials: Trials, scheduler: Scheduler, poll_seconds: float, console: Console
) -> LaunchResult:
    """Show the trials until no worker is left. Ctrl-C ends the command and leaves the jobs alone.

    trials: the sweep.
    scheduler: asks SLURM.
    poll_seconds: time between two questions.
    console: where changes of state are printed.
    """
    console.print(CTRL_C, highlight=False)
    asked_at = 0.0
    answers_without_worker = 0  # one answer may be wrong: a job that is requeued is in no list
    try:
        with SweepDisplay(trials, console) as display:
            while answers_without_worker < 2:
                display.refresh()
                if time.monotonic() - asked_at > poll_seconds:
                    asked_at = time.monotonic()
                    workers = find_workers(trials, scheduler)
                    is_over = not workers.jobs and not workers.problem
                    answers_without_worker = answers_without_worker + 1 if is_over else 0
                time.sleep(POLL_SECONDS)
            display.refresh()
    except KeyboardInterrupt:
        return LaunchResult(left=True)
    return LaunchResult()


def cancel_workers(trials: Trials) -> int:
    """Cancel the sweep's jobs; returns their number. Raises UserError if SLURM does not answer."""
    scheduler = Scheduler(0)
    workers = find_workers(trials, scheduler)
    scheduler.require_answer("nothing was cancelled")
    if workers.jobs:
        slurm.cancel(workers.jobs.values())
    return len(workers.jobs)
