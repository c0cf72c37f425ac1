"""Commands of `run.py` on a sweep file: run, plan, status, watch, cancel."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.runtime.errors import UserError
from experiments.cli.conversion import PlanOptions
from experiments.cli.output import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.planning.plan import Plan
    from experiments.running.local import LaunchResult
    from experiments.running.options import ComputeOptions
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status import SweepStatus
    from sweeps.engine.trials import Trials

DEFAULT_CLUSTER_WORKERS = 4


def is_sweep_command(files: Sequence[Path]) -> bool:
    """Whether a command's file is a sweep. Raises UserError for a sweep among other files."""
    from sweeps.engine.schema import is_sweep

    sweeps = [path for path in files if is_sweep(path)]
    if sweeps and len(files) > 1:
        raise UserError(f"{sweeps[0]}: is a sweep; give no other file with it")
    return bool(sweeps)


def trials_of(options: PlanOptions) -> "Trials":
    """The sweep of a command. Raises UserError."""
    from experiments.planning.device import automatic_precision
    from results.store import Store
    from sweeps.engine.make_search import make_search
    from sweeps.engine.trials import Trials

    store = Store(options.results)
    (path,) = options.files
    search = make_search(
        path,
        options.scale,
        store,
        precision=automatic_precision(options.device, options.launcher),
        overrides=options.overrides,
        seeds=options.seeds,
    )
    trials = Trials(search, store, options.storage)
    trials.check_storage()
    return trials


def plan_sweep(options: PlanOptions, *, as_json: bool) -> int:
    """Print the space, the method, and the runs of a trial with the base row's values."""
    from experiments.cli.plan_report import describe_plan
    from experiments.cli.plan_text import plan_text as runs_text
    from experiments.cli.slow_precision import warn_of_slow_precision
    from sweeps.engine.status import sweep_status
    from sweeps.engine.status_text import plan_text, summary_text

    trials = trials_of(options)
    status = sweep_status(trials)
    device = options.device if options.launcher == "local" else ""
    first_trial = _first_trial_plan(trials)
    warn_of_slow_precision(first_trial, trials.store, options.device, options.launcher)
    runs = describe_plan(first_trial, trials.store, device=device)
    if as_json:
        search = trials.search.as_json()
        print_json({"search": search, "sweep": status.as_json(), "first_trial": runs.as_json()})
        return 0
    for note in trials.search.notes:
        print(f"note: {note}", file=sys.stderr)
    print(plan_text(trials.search))
    print("a trial with the base row's values:")
    print(*runs_text(runs).splitlines()[1:], sep="\n")
    print(summary_text(status))
    return 0


def _first_trial_plan(trials: "Trials") -> "Plan":
    """The training runs of a trial with the base row's values."""
    from sweeps.engine.search import training_runs

    search = trials.search
    plan = search.plan("first trial", search.base_values or {}, trials.store)
    return replace(plan, runs={run.id: run for run in training_runs(plan)})


def status_sweep(options: PlanOptions, *, as_json: bool) -> int:
    """Print the state of every trial."""
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status_text import status_text

    status = _status_with_workers(trials_of(options), Scheduler(0))
    if as_json:
        print_json(status.as_json())
    else:
        print(status_text(status))
    return 0


def watch_sweep(options: PlanOptions, *, once: bool) -> int:
    """Show the state of every trial, live. once: show one view and end."""
    from experiments.cli.watch import POLL_SECONDS, watch
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status_text import sweep_view

    trials = trials_of(options)
    scheduler = Scheduler(POLL_SECONDS)
    return watch(
        lambda width: sweep_view(_status_with_workers(trials, scheduler, now=False), width),
        once,
    )


def _status_with_workers(
    trials: "Trials", scheduler: "Scheduler", *, now: bool = True
) -> "SweepStatus":
    """The status with the workers on a cluster. now: ask SLURM even if it was just asked."""
    from sweeps.engine.slurm_workers import find_workers
    from sweeps.engine.status import sweep_status

    workers = find_workers(trials, scheduler, now=now)
    status = sweep_status(trials)
    source = status.source
    if workers.problem:
        source += f"; SLURM does not answer: {workers.problem}"
    elif scheduler.sources:
        programs = " and ".join(scheduler.sources)
        source += f", {programs}: {len(workers.jobs)} workers queued or running"
    return replace(status, workers=workers.jobs, source=source)


def cancel_sweep(options: PlanOptions) -> int:
    """Cancel a sweep's jobs on a cluster."""
    from sweeps.engine.slurm_workers import cancel_workers

    count = cancel_workers(trials_of(options))
    if count:
        print(
            f"cancelled {count} workers; their trials keep their checkpoints. "
            "Run the sweep again to continue them"
        )
    else:
        print("no worker of this sweep is queued or running")
    return 0


def run_sweep(options: PlanOptions, compute: "ComputeOptions", *, as_json: bool) -> int:
    """Compute trials until the sweep has the file's number of trials; returns the exit code.

    as_json: print the sweep's status at the end as JSON.
    """
    from rich.console import Console

    from experiments.cli.slow_precision import warn_of_slow_precision
    from sweeps.engine.status import sweep_status
    from sweeps.engine.status_text import plan_text, summary_text

    trials = trials_of(options)
    if not compute.dry_run:
        trials.store.check_writable()
    console = Console(stderr=True, soft_wrap=True)
    for note in trials.search.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    _check_requirements(trials)
    first_trial = _first_trial_plan(trials)
    warn_of_slow_precision(first_trial, trials.store, options.device, options.launcher)
    status = sweep_status(trials)
    console.print(plan_text(trials.search), highlight=False, markup=False)
    result = None
    if compute.dry_run and compute.launcher == "local":
        console.print("nothing was run")
    else:
        if not compute.dry_run:
            trials.create()
            trials.delete_pruned_checkpoints()
        result = _launch(trials, compute, console, missing=status.total - status.counted)
    is_left = compute.dry_run or (compute.launcher == "slurm" and not compute.wait)
    status = sweep_status(trials)
    if as_json:
        print_json(status.as_json())
    elif not is_left:
        print(summary_text(status))
    if is_left or result is None:
        return 0
    return _finish(trials, status) if status.over else _exit_code(result)


def _check_requirements(trials: "Trials") -> None:
    """Raise UserError if something that the first trial needs is absent."""
    from sweeps.engine.search import unmet_requirements

    search = trials.search
    if unmet := unmet_requirements(_first_trial_plan(trials)):
        file = f"experiments/scales/{search.scale}.yaml"
        raise UserError(f"{unmet[0]}; {file} lists the requirements of scale {search.scale}")


def _finish(trials: "Trials", status: "SweepStatus") -> int:
    """Print what to do with a sweep that is over."""
    hours = trials.search.sweep.budget.hours
    if status.counted < status.total and hours:
        print(f"the budget of {hours:g} hours is used up", file=sys.stderr)
    command = f"python run.py sweep-report {trials.search.path}"
    print(f"next: {command} writes tables and figures", file=sys.stderr)
    return 0


def _exit_code(result: "LaunchResult") -> int:
    """The exit code of a sweep that is not over; prints how to continue it."""
    if result.unwritable:  # a worker has printed what to fix
        return 2
    if result.left:
        print("the workers continue; run the same command again to watch them", file=sys.stderr)
        return 130
    print("run the same command again to resume", file=sys.stderr)
    return 130 if result.interrupted else 1


def _launch(
    trials: "Trials", options: "ComputeOptions", console: "Console", missing: int
) -> "LaunchResult":
    """Start workers on this machine or on a cluster, at most one for each missing trial.

    trials: the sweep.
    options: how trials are computed.
    console: where progress is printed.
    missing: number of trials.
    """
    from core.runtime.processes import cores
    from experiments.planning.device import find_device
    from experiments.running.capacity import check_plan
    from experiments.running.local import LaunchResult
    from sweeps.engine.local_workers import launch_local
    from sweeps.engine.slurm_workers import launch_slurm

    if trials.is_over(trials.all()):
        return LaunchResult()
    missing = max(missing, 1)
    if options.launcher == "slurm":
        workers = min(options.jobs or DEFAULT_CLUSTER_WORKERS, missing)
        if not options.dry_run:
            check_plan(_first_trial_plan(trials), trials.store, "", options)
        return launch_slurm(trials, workers, options, console)
    device = find_device(options.device)
    default = cores() if device == "cpu" else 1
    workers = min(options.jobs or default, missing)
    resolved = options.on_this_machine(device, workers)
    for note in check_plan(_first_trial_plan(trials), trials.store, device, resolved):
        console.print(f"note: {note}", highlight=False, markup=False)
    return launch_local(trials, resolved, workers, console)
