"""Commands of `run.py` on a sweep file: run, plan, status, watch, cancel."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.runtime.errors import UserError
from experiments.cli.options import compute_options, settings_of
from results.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.planning.plan import Plan
    from experiments.running.local import LaunchResult
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status import SweepStatus
    from sweeps.engine.trials import Trials

DEFAULT_CLUSTER_WORKERS = 4


def is_sweep_command(files: list[Path]) -> bool:
    """Whether a command's file is a sweep. Raises UserError for a sweep among other files."""
    from sweeps.engine.schema import is_sweep

    sweeps = [path for path in files if is_sweep(path)]
    if sweeps and len(files) > 1:
        raise UserError(f"{sweeps[0]}: is a sweep; give no other file with it")
    return bool(sweeps)


def check_sweep_options(arguments: argparse.Namespace, *, is_sweep: bool) -> None:
    """Raise UserError for an option of sweeps with an experiment, or the reverse."""
    if is_sweep and arguments.jobs is not None:
        raise UserError(
            "--jobs is for experiments; for a sweep, --workers sets the trials at a time"
        )
    if not is_sweep and arguments.workers is not None:
        raise UserError(
            "--workers is for sweeps; --jobs sets the runs at a time, and --num-workers the "
            "processes that decode images"
        )
    if not is_sweep and arguments.storage is not None:
        raise UserError("--storage is for sweeps: Optuna's storage of the trials")


def trials_of(arguments: argparse.Namespace) -> "Trials":
    """The sweep of a command. Raises UserError."""
    from experiments.planning.device import automatic_precision
    from sweeps.engine.make_search import make_search
    from sweeps.engine.trials import Trials

    check_sweep_options(arguments, is_sweep=True)
    store = Store(arguments.results)
    (path,) = arguments.files
    search = make_search(
        path,
        arguments.scale,
        store,
        precision=automatic_precision(arguments.device, arguments.launcher),
        overrides=settings_of(arguments),
        seeds=arguments.seeds,
    )
    trials = Trials(search, store, arguments.storage)
    trials.check_storage()
    return trials


def plan_sweep(arguments: argparse.Namespace) -> int:
    """Print the space, the method, and the runs of a trial with the base row's values."""
    from experiments.cli.describe import describe_plan
    from experiments.cli.describe import plan_text as runs_text
    from sweeps.engine.status import sweep_status
    from sweeps.engine.status_text import plan_text, summary_text

    trials = trials_of(arguments)
    status = sweep_status(trials)
    runs = describe_plan(_first_trial_plan(trials), trials.store)
    if arguments.json:
        search = trials.search.as_json()
        content = {"search": search, "sweep": status.as_json(), "first_trial": runs}
        print(json.dumps(content, indent=1))
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


def status_sweep(arguments: argparse.Namespace) -> int:
    """Print the state of every trial."""
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status_text import status_text

    status = _status_with_workers(trials_of(arguments), Scheduler(0))
    print(json.dumps(status.as_json(), indent=1) if arguments.json else status_text(status))
    return 0


def watch_sweep(arguments: argparse.Namespace) -> int:
    """Show the state of every trial, live."""
    from experiments.cli.watch import POLL_SECONDS, watch
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status_text import sweep_view

    trials = trials_of(arguments)
    scheduler = Scheduler(POLL_SECONDS)
    return watch(
        lambda width: sweep_view(_status_with_workers(trials, scheduler, now=False), width),
        arguments.once,
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


def cancel_sweep(arguments: argparse.Namespace) -> int:
    """Cancel a sweep's jobs on a cluster."""
    from sweeps.engine.slurm_workers import cancel_workers

    count = cancel_workers(trials_of(arguments))
    if count:
        print(
            f"cancelled {count} workers; their trials keep their checkpoints. "
            "Run the sweep again to continue them"
        )
    else:
        print("no worker of this sweep is queued or running")
    return 0


def run_sweep(arguments: argparse.Namespace) -> int:
    """Compute trials until the sweep has the file's number of trials; returns the exit code."""
    from rich.console import Console

    from sweeps.engine.status import sweep_status
    from sweeps.engine.status_text import plan_text, summary_text

    trials = trials_of(arguments)
    if not arguments.dry_run:
        trials.store.check_writable()
    console = Console(stderr=True, soft_wrap=True)
    for note in trials.search.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    _check_requirements(trials)
    status = sweep_status(trials)
    console.print(plan_text(trials.search), highlight=False, markup=False)
    if arguments.dry_run and arguments.launcher == "local":
        console.print("nothing was run")
        return 0
    if not arguments.dry_run:
        trials.create()
        trials.delete_pruned_checkpoints()
    result = _launch(trials, arguments, console, missing=status.total - status.counted)
    if arguments.dry_run or (arguments.launcher == "slurm" and arguments.no_wait):
        return 0
    status = sweep_status(trials)
    print(summary_text(status))
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
    trials: "Trials", arguments: argparse.Namespace, console: "Console", missing: int
) -> "LaunchResult":
    """Start workers on this machine or on a cluster, at most one for each missing trial."""
    from core.runtime.processes import cores
    from experiments.planning.device import find_device
    from experiments.running.local import LaunchResult
    from sweeps.engine.local_workers import launch_local
    from sweeps.engine.slurm_workers import launch_slurm

    if trials.is_over(trials.all()):
        return LaunchResult()
    options = compute_options(arguments)
    missing = max(missing, 1)
    if options.launcher == "slurm":
        workers = min(arguments.workers or DEFAULT_CLUSTER_WORKERS, missing)
        return launch_slurm(trials, workers, options, console)
    device = find_device(options.device)
    default = cores() if device == "cpu" else 1
    workers = min(arguments.workers or default, missing)
    return launch_local(trials, options.on_this_machine(device, workers), workers, console)
