"""`run.py` on a sweep file: run, plan, status, watch, cancel, sweep-report."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli.options import compute_options, settings_of
from results.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.running.local import LaunchResult
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.trials import Trials


def sweep_among(files: list[Path]) -> bool:
    """Whether a command is about a sweep. Raises UserError where others are given beside it."""
    from sweeps.engine.schema import is_sweep

    sweeps = [path for path in files if is_sweep(path)]
    if sweeps and len(files) > 1:
        raise UserError(f"{sweeps[0]}: a sweep; give it alone")
    return bool(sweeps)


def refuse_options(arguments: argparse.Namespace, sweep: bool) -> None:
    """Raise UserError for an option of sweeps beside an experiment, and the other way about."""
    if sweep and arguments.jobs is not None:
        raise UserError(
            "--jobs is for experiments; a sweep takes --workers, which compute a trial each"
        )
    if not sweep and arguments.workers is not None:
        raise UserError(
            "--workers is for sweeps; --jobs sets how many runs are computed at a time, --num-workers who reads images"
        )
    if not sweep and arguments.storage is not None:
        raise UserError("--storage is for sweeps: it says where Optuna keeps the trials")


def trials_of(arguments: argparse.Namespace) -> "Trials":
    """The sweep that the arguments ask for. Raises UserError."""
    from experiments.planning.device import automatic_precision
    from sweeps.engine.search import make_search
    from sweeps.engine.trials import Trials

    refuse_options(arguments, sweep=True)
    store, precision = (
        Store(arguments.results),
        automatic_precision(arguments.device, arguments.launcher),
    )
    settings = settings_of(arguments)
    (path,) = arguments.files
    search = make_search(
        path, arguments.scale, store, precision=precision, overrides=settings, seeds=arguments.seeds
    )
    trials = Trials(search, store, arguments.storage)
    trials.check_storage()
    return trials


def plan_sweep(arguments: argparse.Namespace) -> int:
    """What is searched, and the runs of the first trial."""
    from experiments.cli.describe import describe_plan
    from experiments.cli.describe import plan_text as runs_text
    from sweeps.engine.search import training_runs
    from sweeps.engine.status import describe, plan_text, sum_text

    trials = trials_of(arguments)
    description = describe(trials)
    plan = trials.search.plan("first trial", trials.search.first or {}, trials.store)
    plan = replace(plan, runs={run.id: run for run in training_runs(plan)})
    runs = describe_plan(plan, trials.store)
    if arguments.json:
        print(
            json.dumps(
                {"search": trials.search.describe(), "sweep": description, "first_trial": runs},
                indent=1,
            )
        )
        return 0
    for note in trials.search.notes:
        print(f"note: {note}", file=sys.stderr)
    print(plan_text(trials, description), "a trial at the base row's values:", sep="\n")
    print(*runs_text(runs).splitlines()[1:], sum_text(description), sep="\n")
    return 0


def status_sweep(arguments: argparse.Namespace) -> int:
    """Every trial's state."""
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status import status_text

    description = _describe(trials_of(arguments), Scheduler(0))
    print(json.dumps(description, indent=1) if arguments.json else status_text(description))
    return 0


def watch_sweep(arguments: argparse.Namespace) -> int:
    """Every trial's state, live."""
    from experiments.cli.watch import POLL_SECONDS, watch
    from experiments.slurm.scheduler import Scheduler
    from sweeps.engine.status import view

    trials, scheduler = trials_of(arguments), Scheduler(POLL_SECONDS)
    return watch(lambda width: view(_describe(trials, scheduler, now=False), width), arguments.once)


def _describe(trials: "Trials", scheduler: "Scheduler", *, now: bool = True) -> dict[str, Any]:
    """The sweep, its trials, and its workers on a cluster."""
    from sweeps.engine.launch import workers_of
    from sweeps.engine.status import describe

    workers = workers_of(trials, scheduler, now=now)
    description = describe(trials) | {"workers": workers.jobs}
    if workers.problem:
        description["source"] += f"; SLURM does not answer: {workers.problem}"
    elif scheduler.sources:
        description["source"] += (
            f", {' and '.join(scheduler.sources)}: {len(workers.jobs)} workers queued or running"
        )
    return description


def cancel_sweep(arguments: argparse.Namespace) -> int:
    """End a sweep's worker jobs."""
    from sweeps.engine.launch import cancel

    count = cancel(trials_of(arguments))
    told = f"cancelled {count} workers; their trials keep their checkpoints, and the same command goes on with them"
    print(told if count else "no worker of this sweep is queued or running")
    return 0


def run_sweep(arguments: argparse.Namespace) -> int:
    """Search, or go on searching, until there are as many trials as the file says."""
    from rich.console import Console

    from sweeps.engine.search import missing
    from sweeps.engine.status import describe, ended, plan_text, sum_text

    trials = trials_of(arguments)
    if not arguments.dry_run:
        trials.store.check_writable()
    console = Console(stderr=True, soft_wrap=True)
    search = trials.search
    for note in search.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    if blocked_experiments := missing(search.plan("first trial", search.first or {}, trials.store)):
        needs = f"experiments/scales/{search.scale}.yaml names what scale {search.scale} needs"
        raise UserError(f"{blocked_experiments[0]}; {needs}")
    description = describe(trials)
    console.print(plan_text(trials, description), highlight=False, markup=False)
    if arguments.dry_run and arguments.launcher == "local":
        console.print("nothing was run")
        return 0
    if not arguments.dry_run:
        trials.begin()
        trials.collect()
    how = _launch(trials, arguments, console, left=description["total"] - ended(description))
    if arguments.dry_run or (arguments.launcher == "slurm" and arguments.no_wait):
        return 0
    description = describe(trials)
    print(sum_text(description))
    if description["over"]:
        if ended(description) < description["total"] and trials.search.sweep.budget.hours:
            print(
                f"the budget of {trials.search.sweep.budget.hours:g} hours is used up",
                file=sys.stderr,
            )
        print(
            f"python run.py sweep-report {search.path} makes tables and pictures of it",
            file=sys.stderr,
        )
        return 0
    return _unfinished(how)


def _unfinished(how: "LaunchResult") -> int:
    """Why a sweep is not over; the exit code."""
    if how.unwritable:  # a worker has said what is to be mended
        return 2
    if how.left:
        print("the workers go on; the same command watches them again", file=sys.stderr)
        return 130
    print("the same command goes on from here", file=sys.stderr)
    return 130 if how.interrupted else 1


def _launch(
    trials: "Trials", arguments: argparse.Namespace, console: "Console", left: int
) -> "LaunchResult":
    from core.runtime.processes import cores
    from experiments.planning.device import find_device
    from experiments.running.local import LaunchResult
    from sweeps.engine.launch import launch, launch_slurm

    if trials.over(trials.all()):
        return LaunchResult()
    options = compute_options(arguments)
    if options.launcher == "slurm":
        workers = min(arguments.workers or 4, max(left, 1))
        return launch_slurm(trials, workers, options, console)
    device = find_device(options.device)
    workers = min(arguments.workers or (cores() if device == "cpu" else 1), max(left, 1))
    return launch(trials, options.on_this_machine(device, jobs=workers), console)
