"""Runs a plan on a cluster: submits what no job is at yet, and watches; the jobs need neither."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from core.errors import UserError
from experiments.cluster import Cluster, Resources, read_cluster
from experiments.job import JobOptions
from experiments.launch import Ending, Watch
from experiments.plan import Plan, PlannedRun
from experiments.scheduler import Scheduler
from experiments.standing import Standing, standing
from experiments.submit import Array, make_arrays, submit, submitting
from results.store import State, Store

LOOK_SECONDS = 1.0  # between looks at the runs' own state files


@dataclass(frozen=True)
class SlurmOptions:
    """How a command hands its runs to SLURM; no part of any run's identity."""

    cluster: Path | None
    device: str
    workers: int | None
    micro_batch: int | None
    checkpoint_seconds: float
    dry: bool  # say what would be submitted, and submit nothing
    wait: bool


def launch_slurm(plan: Plan, store: Store, options: SlurmOptions, console: Console) -> tuple[Ending, Mapping[str, State]]:
    """Submit, and wait for the end unless told not to; how it ended and how the runs stand. Raises UserError."""
    cluster, resources = read_cluster(options.cluster, plan.scale)
    scheduler = Scheduler(cluster.poll_seconds)
    runs = list(plan.runs.values())
    with submitting(store) as alone:
        if not alone:
            raise UserError(f"{store.root}: another command submits to these results now; try again when it has")
        now = standing(runs, store, scheduler, now=True)
        if scheduler.problem and not options.dry:
            raise UserError(f"SLURM does not answer: {scheduler.problem}; nothing was submitted, nothing is changed")
        arrays = arrays_of(runs, now, cluster, console)
        if options.dry:
            _tell(arrays, {}, resources, console)
            return Ending(), now.states
        numbers = _submit(arrays, store, cluster, resources, options)
        _tell(arrays, numbers, resources, console)
    if not options.wait:
        return Ending(), standing(runs, store, scheduler, now=True).states
    return wait(runs, store, scheduler, console)


def arrays_of(runs: list[PlannedRun], now: Standing, cluster: Cluster, console: Console) -> list[Array]:
    """What is to be submitted: runs that are not complete, of which no job and no other command is in charge."""
    elsewhere = {run.id for run in runs if now.states[run.id].name == "running" and not now.alive(run.id)}
    left: list[PlannedRun] = []
    for run in runs:
        if elsewhere.intersection(run.inputs.values()):
            elsewhere.add(run.id)
        elif run.id not in elsewhere and now.states[run.id].name != "complete" and not now.alive(run.id):
            left.append(run)
    if elsewhere:
        console.print(f"{len(elsewhere)} runs are left to a command that computes them, or their input, now", highlight=False)
    if now.jobs:
        console.print(f"{len(now.jobs)} runs have a job that is queued or running", highlight=False)
    return make_arrays(left, now.jobs, cluster.array_size)


def _submit(
    arrays: list[Array], store: Store, cluster: Cluster, resources: Mapping[str, Resources], options: SlurmOptions
) -> dict[Array, str]:
    common = JobOptions(
        device=options.device,
        threads=1,
        workers=options.workers,
        micro_batch=options.micro_batch,
        checkpoint_seconds=options.checkpoint_seconds,
        warning_seconds=cluster.warning_seconds,
        stops=cluster.lost_after_stops,
    )
    by_stage = {stage: replace(common, threads=asked.cpus_per_task) for stage, asked in resources.items()}
    done = submit(arrays, store, cluster, resources, by_stage)
    return {array: submission.number for array, submission in zip(arrays, done, strict=True)}


def _tell(arrays: list[Array], numbers: Mapping[Array, str], resources: Mapping[str, Resources], console: Console) -> None:
    """One line for each array, and their sum."""
    for place, array in enumerate(arrays, 1):
        asked = resources[array.stage]
        size = f"{asked.nodes} node{'s' * (asked.nodes > 1)} x {asked.tasks} task{'s' * (asked.tasks > 1)}"
        size += f", {asked.gpus_per_node} GPUs a node" if asked.gpus_per_node else ""
        names = {other: numbers.get(other, f"array {number}") for number, other in enumerate(arrays, 1)}
        after = array.dependency(names)
        waits = f", {after}" if after else ""
        text = f"{names[array] if numbers else f'array {place}'}: {array.stage} x {len(array.runs)} ({size}){waits}"
        console.print(text, highlight=False, markup=False)
    jobs = sum(len(array.runs) for array in arrays)
    verb = "submitted" if numbers or not arrays else "would submit"
    console.print(f"{verb} {jobs} jobs in {len(arrays)} arrays", highlight=False, markup=False)


def wait(runs: list[PlannedRun], store: Store, scheduler: Scheduler, console: Console) -> tuple[Ending, Mapping[str, State]]:
    """Show the runs until no job is queued or running. Ctrl-C leaves the jobs to themselves."""
    console.print("Ctrl-C leaves the jobs to themselves: the same command watches again, `status` tells, `cancel` ends them")
    watch, quiet = Watch(runs, console), 0
    now = standing(runs, store, scheduler, now=True)
    try:
        with watch.live:
            while quiet < 2:  # the scheduler is asked again before the end is believed
                started = time.monotonic()
                now = standing(runs, store, scheduler, now=quiet > 0)
                watch.update(now.states)
                quiet = 0 if now.jobs else quiet + 1
                time.sleep(max(LOOK_SECONDS, 10 * (time.monotonic() - started)))
    except KeyboardInterrupt:
        return Ending(left=True), now.states
    return Ending(), now.states
