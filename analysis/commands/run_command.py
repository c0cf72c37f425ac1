"""The command `run`: computes experiments or a sweep, and prints tables."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.commands.plan_commands import make_plan_of
from core.runtime.errors import UserError
from experiments.cli.conversion import PlanOptions, compute_options
from experiments.cli.output import print_json
from sweeps.engine.cli import is_sweep_command, run_sweep

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.tables.table import Table
    from experiments.planning.plan import Plan
    from experiments.running.local import LaunchResult
    from experiments.running.options import ComputeOptions
    from results.store import State, Store


def run_command(arguments: argparse.Namespace) -> int:
    """Run `run`; returns the exit code."""
    options = PlanOptions.from_arguments(arguments)
    is_sweep = is_sweep_command(options.files)
    compute = compute_options(arguments, is_sweep=is_sweep)
    if is_sweep:
        return run_sweep(options, compute, as_json=arguments.json)
    return _run_experiments(options, compute, as_json=arguments.json)


def _run_experiments(options: PlanOptions, compute: "ComputeOptions", *, as_json: bool) -> int:
    """Compute what is not complete, and print the tables; returns the exit code.

    as_json: print the tables as `compare --json` does.
    """
    from rich.console import Console

    from analysis.tables.planned import refuse_tables_of_other_files
    from experiments.cli.plan_report import describe_plan
    from experiments.cli.plan_text import plan_text
    from experiments.cli.slow_precision import warn_of_slow_precision
    from experiments.cli.unfinished import report_unfinished

    plan, store = make_plan_of(options)
    store.check_writable()
    refuse_tables_of_other_files(plan, store)
    warn_of_slow_precision(plan, store, options.device, options.launcher)
    console = Console(stderr=True, soft_wrap=True)
    device = compute.device if compute.launcher == "local" else ""
    description = describe_plan(plan, store, device=device, micro_batch=compute.micro_batch)
    console.print(plan_text(description), highlight=False, markup=False)
    if compute.dry_run and compute.launcher == "local":
        console.print("nothing was run")
        return _print_tables([], as_json=as_json)
    blocked_experiments = plan.blocked_experiments()
    if blocked_experiments.keys() == plan.experiments.keys():
        file = f"experiments/scales/{plan.scale}.yaml"
        reason = next(iter(blocked_experiments.values()))
        raise UserError(f"{reason}; {file} lists the requirements of scale {plan.scale}")
    plan = plan.excluding(blocked_experiments)
    result, states = launch_plan(plan, store, compute, console)
    if compute.launcher == "slurm" and (compute.dry_run or not compute.wait):
        return _print_tables([], as_json=as_json)
    tables = _tables(plan, store, options)
    _print_tables(tables, as_json=as_json)
    for name, reason in blocked_experiments.items():
        print(f"error: {name} was left out: {reason}", file=sys.stderr)
    return (
        report_unfinished(plan, store, states, result)
        or print_damages(tables)
        or (2 if blocked_experiments else 0)
    )


def launch_plan(
    plan: "Plan", store: "Store", options: "ComputeOptions", console: "Console"
) -> tuple["LaunchResult", Mapping[str, "State"]]:
    """Compute the runs that are not complete; returns how that ended, and the states of the runs.

    plan: the runs.
    store: the results folder.
    options: how runs are computed.
    console: where progress is printed.
    """
    from experiments.running.capacity import check_plan
    from experiments.running.local import LaunchResult, launch

    if options.launcher == "slurm":
        from experiments.slurm.launcher import launch_slurm

        if not options.dry_run:
            print_notes(console, check_plan(plan, store, "", options))
        return launch_slurm(plan, store, options, console)
    from experiments.planning.device import find_device, find_gpus

    result = LaunchResult()
    if any(store.run(name).state().name != "complete" for name in plan.runs):
        gpus = () if options.gpus is None else find_gpus(options.gpus)
        device = find_device("cuda" if gpus else options.device)
        jobs = options.jobs or _default_jobs(options, device, len(plan.cells))
        resolved = options.on_this_machine(device, jobs)
        print_notes(console, check_plan(plan, store, device, resolved))
        result = launch(plan.runs.values(), store, resolved, console, gpus)
    return result, {name: store.run(name).state() for name in plan.runs}


def _default_jobs(options: "ComputeOptions", device: str, cells: int) -> int:
    """Runs at a time: one for each named GPU, else as many as the cores allow, or one on a GPU.

    options: how runs are computed.
    device: as `find_device` returns it.
    cells: evaluations of the plan; more runs than that would wait for one another.
    """
    from core.runtime.processes import cores
    from experiments.planning.device import find_gpus

    if options.gpus is not None:
        return max(1, len(find_gpus(options.gpus)) // options.processes)
    if device == "cpu":
        return max(1, min(cores() // options.processes, cells))
    return 1


def print_notes(console: "Console", notes: Iterable[str]) -> None:
    """Print notes for the user."""
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _tables(plan: "Plan", store: "Store", options: PlanOptions) -> "list[Table]":
    """The tables of a plan; each keeps the seeds that were run before."""
    from analysis.tables.planned import recorded_seeds, tables_of, with_complete

    shown = plan
    if seeds := recorded_seeds(plan, store):
        shown = with_complete(plan, make_plan_of(options, recorded=seeds)[0], store)
    return tables_of(shown, store, recorded=False)


def _print_tables(tables: "Sequence[Table]", *, as_json: bool) -> int:
    """Write the tables with a measured value, then print them; returns the exit code 0."""
    from analysis.tables.content import as_json as to_json
    from analysis.tables.render import markdown

    measured = [table for table in tables if any(table.measured)]
    for table in measured:  # first: printing may fail
        table.write()
    if as_json:
        print_json([to_json(table.content) for table in measured])
        return 0
    for table in measured:
        print(markdown([table.content]))
    return 0


def print_damages(tables: "Iterable[Table]") -> int:
    """Print an error for each record that cannot be read; returns the exit code."""
    damages = dict.fromkeys(
        sentence for table in tables for sentence in table.records.damaged.values()
    )
    for sentence in damages:
        print(f"error: {sentence}", file=sys.stderr)
    return 2 if damages else 0
