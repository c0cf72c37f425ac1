"""Runs a plan on a cluster: submits what no job is at yet, and watches; the jobs need neither."""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from core.config import Evaluate
from core.runtime.distributed import ProcessGroup
from core.runtime.errors import UserError
from experiments.planning.plan import Plan, PlannedRun
from experiments.running.local import LaunchResult, Watch
from experiments.slurm import scheduler as slurm
from experiments.slurm.cluster import Cluster, Resources, read_cluster
from experiments.slurm.job import JobOptions
from experiments.slurm.scheduler import Scheduler
from experiments.slurm.status import RunStatuses, standing
from experiments.slurm.submissions import interrupted_submissions
from experiments.slurm.submit import Array, cancel_submissions, make_arrays, submit, submitting
from results.store import State, Store

LOOK_SECONDS = 1.0  # between looks at the runs' own state files
SETTLE_SECONDS = 60  # that a job may take to end
UNSEEN_SECONDS = 60  # that another node's files may take to be seen here


@dataclass(frozen=True)
class SlurmOptions:
    """How a command hands its runs to SLURM; no part of any run's identity."""

    cluster: Path | None
    device: str
    num_workers: int | None
    micro_batch: int | None
    checkpoint_seconds: float
    dry: bool  # say what would be submitted, and submit nothing
    wait: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "SlurmOptions":
        """As the command line has it."""
        every = arguments.checkpoint_minutes
        return cls(
            cluster=arguments.cluster,
            device=arguments.device,
            num_workers=arguments.num_workers,
            micro_batch=arguments.micro_batch,
            checkpoint_seconds=600 if every is None else 60 * every,
            dry=arguments.dry_run,
            wait=not arguments.no_wait,
        )


def launch_slurm(
    plan: Plan, store: Store, options: SlurmOptions, console: Console
) -> tuple[LaunchResult, Mapping[str, State]]:
    """Submit, and wait for the end unless told not to; how it ended and how the runs stand. Raises UserError."""
    cluster, resources = read_cluster(options.cluster, plan.scale)
    scheduler = Scheduler(cluster.poll_seconds)
    runs = list(plan.runs.values())
    with submitting(store):
        _check(store, runs, resources)
        now = standing(runs, store, scheduler, now=True)
        if not options.dry:
            scheduler.must_have_answered("nothing was submitted, nothing is changed")
            cancel_submissions(store, interrupted_submissions(store))
            now = _settled(runs, store, scheduler, now, console)
        arrays = arrays_of(runs, now, cluster, console)
        if options.dry:
            _tell(arrays, {}, resources, console)
            return LaunchResult(), now.states
        numbers = _submit(arrays, store, cluster, resources, options)
        _tell(arrays, numbers, resources, console)
    if not options.wait or not (arrays or now.jobs):
        return LaunchResult(), standing(runs, store, scheduler, now=True).states
    return wait(runs, store, scheduler, console)


def _check(store: Store, runs: list[PlannedRun], resources: Mapping[str, Resources]) -> None:
    """Raise UserError for what would fail in every job."""
    if "%" in str(store.root.resolve()):
        raise UserError(
            f"{store.root}: SLURM gives % in a path a meaning of its own; choose another folder with --results"
        )
    for run in runs:
        if not isinstance(run.config, Evaluate):
            asked = resources[run.stage]
            ProcessGroup(0, asked.nodes * asked.tasks).local_slice(run.config.optimizer.batch)


def _settled(
    runs: list[PlannedRun], store: Store, scheduler: Scheduler, now: RunStatuses, console: Console
) -> RunStatuses:
    """How runs stand once what is about to end has ended: jobs that complete or are being cancelled, and jobs that wait for an
    input that will not come, which are cancelled here."""

    def ending(job: str) -> bool:
        return job in doomed.values() or (
            job in scheduler.entries and scheduler.entries[job].state == "COMPLETING"
        )

    doomed: dict[str, str] = {}
    for run in runs:  # inputs come before those that need them
        waits = run.id in now.jobs and scheduler.entries[now.jobs[run.id]].waits
        for name in run.inputs.values() if waits else ():
            lacks = name in now.states and now.states[name].name != "complete"
            if lacks and (not now.alive(name) or name in doomed):
                doomed[run.id] = now.jobs[run.id]
    if doomed:
        slurm.cancel(doomed.values())
    deadline, told = time.monotonic() + SETTLE_SECONDS, False
    while any(map(ending, now.jobs.values())) and time.monotonic() < deadline:
        if not told:
            console.print("waiting for jobs that are about to end ...", highlight=False)
            told = True
        time.sleep(1)
        now = standing(runs, store, scheduler, now=True)
    return now


def arrays_of(
    runs: list[PlannedRun], now: RunStatuses, cluster: Cluster, console: Console
) -> list[Array]:
    """What is to be submitted: runs that are not complete, of which no job and no other command is in charge."""
    elsewhere = {
        run.id for run in runs if now.states[run.id].name == "running" and not now.alive(run.id)
    }
    left: list[PlannedRun] = []
    for run in runs:
        if elsewhere.intersection(run.inputs.values()):
            elsewhere.add(run.id)
        elif (
            run.id not in elsewhere
            and now.states[run.id].name != "complete"
            and not now.alive(run.id)
        ):
            left.append(run)
    if elsewhere:
        console.print(
            f"{len(elsewhere)} runs are left to a command that computes them, or their input, now",
            highlight=False,
        )
    if now.jobs:
        console.print(f"{len(now.jobs)} runs have a job that is queued or running", highlight=False)
    return make_arrays(left, now.jobs, cluster.array_size)


def _submit(
    arrays: list[Array],
    store: Store,
    cluster: Cluster,
    resources: Mapping[str, Resources],
    options: SlurmOptions,
) -> dict[Array, str]:
    by_stage = {stage: job_options(cluster, asked, options) for stage, asked in resources.items()}
    done = submit(arrays, store, cluster, resources, by_stage)
    return {array: submission.number for array, submission in zip(arrays, done, strict=True)}


def job_options(cluster: Cluster, asked: Resources, options: SlurmOptions) -> JobOptions:
    """How a job that asks for these resources computes its run."""
    return JobOptions(
        device=options.device,
        threads=asked.cpus_per_task,
        num_workers=options.num_workers,
        micro_batch=options.micro_batch,
        checkpoint_seconds=options.checkpoint_seconds,
        warning_seconds=cluster.warning_seconds,
        limit_seconds=60 * int(asked.time),
        stops=cluster.lost_after_stops,
    )


def _tell(
    arrays: list[Array],
    numbers: Mapping[Array, str],
    resources: Mapping[str, Resources],
    console: Console,
) -> None:
    """One line for each array, and their sum."""
    for place, array in enumerate(arrays, 1):
        asked = resources[array.stage]
        size = f"{asked.nodes} node{'s' * (asked.nodes > 1)} x {asked.tasks} task{'s' * (asked.tasks > 1)}"
        size += f", {asked.gpus_per_node} GPUs a node" if asked.gpus_per_node else ""
        names = {
            other: numbers.get(other, f"array {number}") for number, other in enumerate(arrays, 1)
        }
        after = array.dependency(names)
        waits = f", {after}" if after else ""
        text = f"{names[array] if numbers else f'array {place}'}: {array.stage} x {len(array.runs)} ({size}){waits}"
        console.print(text, highlight=False, markup=False)
    jobs = sum(len(array.runs) for array in arrays)
    verb = "submitted" if numbers or not arrays else "would submit"
    console.print(f"{verb} {jobs} jobs in {len(arrays)} arrays", highlight=False, markup=False)


def wait(
    runs: list[PlannedRun], store: Store, scheduler: Scheduler, console: Console
) -> tuple[LaunchResult, Mapping[str, State]]:
    """Show the runs until no job is queued or running. Ctrl-C leaves the jobs to themselves."""
    console.print(
        "Ctrl-C leaves the jobs to themselves: the same command watches again, `status` tells, `cancel` ends them"
    )
    watch, quiet, ended = Watch(runs, console), 0, time.monotonic()
    now = standing(runs, store, scheduler, now=True)
    try:
        with watch.live:
            while True:
                started = time.monotonic()
                now = standing(runs, store, scheduler, now=quiet > 0)
                watch.update(now.states)
                quiet = 0 if now.jobs else quiet + 1
                ended = ended if quiet else started
                lost = any(state.name == "lost" for state in now.states.values())
                if quiet > 1 and not (
                    lost and started - ended < UNSEEN_SECONDS
                ):  # asked again before the end is believed
                    break
                time.sleep(max(LOOK_SECONDS, 10 * (time.monotonic() - started)))
    except KeyboardInterrupt:
        return LaunchResult(left=True), now.states
    return LaunchResult(), now.states
