"""Launches a plan on a cluster: submits the runs that have no job, and shows their progress.

The jobs do not need this process."""

import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from core.config import Evaluate, Probe
from core.runtime.distributed import ProcessGroup
from core.runtime.errors import UserError
from experiments.planning.plan import Plan, PlannedRun
from experiments.running.display import RunsDisplay
from experiments.running.local import LaunchResult
from experiments.running.options import ComputeOptions
from experiments.slurm import scheduler as slurm
from experiments.slurm.arrays import Array, make_arrays
from experiments.slurm.cluster import Cluster, Resources, read_cluster
from experiments.slurm.scheduler import Scheduler
from experiments.slurm.status import RunStatuses, current_statuses
from experiments.slurm.submissions import interrupted_submissions
from experiments.slurm.submit import cancel_submissions, submit, submitting
from results.store import State, Store

POLL_SECONDS = 1.0  # between two reads of the runs' state files
ENDING_SECONDS = 60  # time that a job may take to end
INVISIBLE_SECONDS = 60  # time that files of another node may take to become visible
CTRL_C = "Ctrl-C ends this command and not the jobs; run it again to watch, `cancel` ends the jobs"


def launch_slurm(
    plan: Plan, store: Store, options: ComputeOptions, console: Console
) -> tuple[LaunchResult, Mapping[str, State]]:
    """Submit the runs that are not complete, and wait for them if `options.wait`.

    Returns how it ended, and the state of each run. Raises UserError.

    plan: the runs.
    store: the results folder, which the cluster's nodes share.
    options: how runs are computed.
    console: where progress is printed."""
    cluster, resources = read_cluster(options.cluster, plan.scale)
    scheduler = Scheduler(cluster.poll_seconds)
    runs = list(plan.runs.values())
    with submitting(store):
        _check(store, runs, resources)
        statuses = current_statuses(runs, store, scheduler, now=True)
        if not options.dry_run:
            scheduler.require_answer("nothing was submitted, nothing is changed")
            cancel_submissions(store, interrupted_submissions(store))
            statuses = settled_statuses(runs, store, scheduler, statuses, console)
        arrays = arrays_to_submit(runs, statuses, cluster, console)
        if options.dry_run:
            _print_arrays(arrays, {}, resources, console)
            return LaunchResult(), statuses.states
        submissions = submit(arrays, store, cluster, resources, options)
        numbers = {
            array: submission.number for array, submission in zip(arrays, submissions, strict=True)
        }
        _print_arrays(arrays, numbers, resources, console)
    if not options.wait or not (arrays or statuses.jobs):
        return LaunchResult(), current_statuses(runs, store, scheduler, now=True).states
    return wait(runs, store, scheduler, console)


def _check(store: Store, runs: Sequence[PlannedRun], resources: Mapping[str, Resources]) -> None:
    """Raise UserError for a problem that every job would fail with."""
    if "%" in str(store.root.resolve()):
        raise UserError(
            f"{store.root}: SLURM replaces % in a path; choose another folder with --results"
        )
    for run in runs:
        if not isinstance(run.config, Evaluate | Probe):
            requested = resources[run.stage]
            group = ProcessGroup(0, requested.nodes * requested.tasks)
            group.local_slice(run.config.optimizer.batch)


def settled_statuses(
    runs: Sequence[PlannedRun],
    store: Store,
    scheduler: Scheduler,
    statuses: RunStatuses,
    console: Console,
) -> RunStatuses:
    """The statuses after jobs that are about to end have ended.

    These are jobs that SLURM completes or cancels, and queued jobs whose input will not become
    complete, which are cancelled here.

    runs: inputs before the runs that need them.
    store: the results folder.
    scheduler: has just been polled.
    statuses: the statuses before.
    console: where a notice is printed."""
    blocked = _blocked_jobs(runs, scheduler, statuses)
    if blocked:
        slurm.cancel(blocked.values())

    def is_ending(job: str) -> bool:
        entry = scheduler.entries.get(job)
        return job in blocked.values() or (entry is not None and entry.state == "COMPLETING")

    deadline = time.monotonic() + ENDING_SECONDS
    printed = False
    while any(map(is_ending, statuses.jobs.values())) and time.monotonic() < deadline:
        if not printed:
            console.print("waiting for jobs that are about to end ...", highlight=False)
            printed = True
        time.sleep(1)
        statuses = current_statuses(runs, store, scheduler, now=True)
    return statuses


def _blocked_jobs(
    runs: Sequence[PlannedRun], scheduler: Scheduler, statuses: RunStatuses
) -> dict[str, str]:
    """Run -> job, of queued jobs whose input is neither complete nor computed by a job."""
    blocked: dict[str, str] = {}
    for run in runs:
        if run.id not in statuses.jobs or not scheduler.entries[statuses.jobs[run.id]].waits:
            continue
        for name in run.inputs.values():
            incomplete = name in statuses.states and statuses.states[name].name != "complete"
            if incomplete and (not statuses.has_job(name) or name in blocked):
                blocked[run.id] = statuses.jobs[run.id]
    return blocked


def arrays_to_submit(
    runs: Sequence[PlannedRun], statuses: RunStatuses, cluster: Cluster, console: Console
) -> list[Array]:
    """The arrays of the runs that are not complete and that no job or command computes.

    runs: inputs before the runs that need them.
    statuses: the current statuses.
    cluster: limits the size of an array.
    console: where it is printed which runs are left out."""
    elsewhere = {
        run.id
        for run in runs
        if statuses.states[run.id].name == "running" and not statuses.has_job(run.id)
    }
    remaining: list[PlannedRun] = []
    for run in runs:
        if elsewhere.intersection(run.inputs.values()):
            elsewhere.add(run.id)
        if run.id in elsewhere or statuses.has_job(run.id):
            continue
        if statuses.states[run.id].name != "complete":
            remaining.append(run)
    if elsewhere:
        text = f"{len(elsewhere)} runs are left to a command that computes them or their input"
        console.print(text, highlight=False)
    if statuses.jobs:
        text = f"{len(statuses.jobs)} runs have a job that is queued or running"
        console.print(text, highlight=False)
    return make_arrays(remaining, statuses.jobs, cluster.array_size)


def _print_arrays(
    arrays: Sequence[Array],
    numbers: Mapping[Array, str],
    resources: Mapping[str, Resources],
    console: Console,
) -> None:
    """Print a line for each array, and their sum. numbers: SLURM's, of the submitted arrays."""
    names = {
        array: numbers.get(array, f"array {position}") for position, array in enumerate(arrays, 1)
    }
    for array in arrays:
        requested = resources[array.stage]
        size = f"{_count(requested.nodes, 'node')} x {_count(requested.tasks, 'task')}"
        size += f", {_count(requested.cpus_per_task, 'CPU')} per task"
        if requested.gpus_per_node:
            size += f", {_count(requested.gpus_per_node, 'GPU')} per node"
        if requested.mem:
            size += f", memory {requested.mem} per node"
        size += f", {requested.time} minutes at most"
        dependency = array.dependency(names)
        waits = f", {dependency}" if dependency else ""
        text = f"{names[array]}: {array.stage} x {len(array.runs)} ({size}){waits}"
        console.print(text, highlight=False, markup=False)
    jobs = sum(len(array.runs) for array in arrays)
    verb = "submitted" if numbers or not arrays else "would submit"
    console.print(f"{verb} {jobs} jobs in {len(arrays)} arrays", highlight=False, markup=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def wait(
    runs: Sequence[PlannedRun], store: Store, scheduler: Scheduler, console: Console
) -> tuple[LaunchResult, Mapping[str, State]]:
    """Show the runs until no job is queued or running. Ctrl-C ends the display and not the jobs.

    The end is believed only after a second poll, and if a run is lost, only after its files have
    had time to become visible.

    Returns how it ended, and the state of each run."""
    console.print(CTRL_C, highlight=False)
    quiet_polls = 0
    last_alive = time.monotonic()
    statuses = current_statuses(runs, store, scheduler, now=True)
    try:
        with RunsDisplay(runs, console) as display:
            while True:
                started = time.monotonic()
                statuses = current_statuses(runs, store, scheduler, now=quiet_polls > 0)
                display.update(statuses.states)
                if statuses.jobs:
                    quiet_polls = 0
                    last_alive = started
                else:
                    quiet_polls += 1
                lost = any(state.name == "lost" for state in statuses.states.values())
                if quiet_polls > 1 and not (lost and started - last_alive < INVISIBLE_SECONDS):
                    return LaunchResult(), statuses.states
                time.sleep(max(POLL_SECONDS, 10 * (time.monotonic() - started)))
    except KeyboardInterrupt:
        return LaunchResult(left=True), statuses.states
