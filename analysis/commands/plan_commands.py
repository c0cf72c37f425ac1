"""The commands `plan`, `status`, `watch` and `cancel`, on experiments or a sweep."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from core.runtime.errors import UserError
from experiments.cli.conversion import SWEEP_OPTIONS, PlanOptions, refuse_options
from experiments.cli.output import print_json
from sweeps.engine.cli import (
    cancel_sweep,
    is_sweep_command,
    plan_sweep,
    status_sweep,
    watch_sweep,
)

if TYPE_CHECKING:
    from experiments.planning.plan import Plan
    from results.store import Store


def make_plan_of(
    options: PlanOptions, recorded: Mapping[str, Sequence[int]] | None = None
) -> tuple["Plan", "Store"]:
    """The plan of experiment files and the results folder. Raises UserError.

    Prints the plan's notes, unless `recorded` is given.

    recorded: experiment -> seeds, in place of `options.seeds`; for a second plan of a command.
    """
    from experiments.planning.device import automatic_precision
    from experiments.planning.planner import make_plan
    from results.store import Store

    store = Store(options.results)
    plan = make_plan(
        options.files,
        options.scale,
        store,
        precision=automatic_precision(options.device, options.launcher),
        overrides=options.overrides,
        seeds=recorded or options.seeds,
    )
    if not recorded:
        for note in plan.notes:
            print(f"note: {note}", file=sys.stderr)
    return plan, store


def plan_command(arguments: argparse.Namespace) -> int:
    """Run `plan`; returns the exit code."""
    options = PlanOptions.from_arguments(arguments)
    if is_sweep_command(options.files):
        if arguments.power is not None:
            raise UserError("--power is for experiments: a sweep declares no differences")
        return plan_sweep(options, as_json=arguments.json)
    from experiments.cli.plan_report import describe_plan
    from experiments.cli.plan_text import plan_text
    from experiments.cli.slow_precision import warn_of_slow_precision

    refuse_options(arguments, SWEEP_OPTIONS)
    device = options.device if options.launcher == "local" else ""
    plan, store = make_plan_of(options)
    warn_of_slow_precision(plan, store, options.device, options.launcher)
    description = describe_plan(plan, store, device=device)
    points: float | None = arguments.power
    if points is None:
        print_json(description.as_json()) if arguments.json else print(plan_text(description))
        return 0
    from analysis.tables.decision_cost import decision_costs, decision_text
    from analysis.tables.planned import recorded_tables

    _, tables = recorded_tables(
        lambda seeds: make_plan_of(options, recorded=seeds)[0] if seeds else plan, store
    )
    hours = {run.id: run.hours or run.estimated_hours for run in description.runs}
    costs = decision_costs(plan, tables, points, hours)
    if arguments.json:
        print_json(description.as_json() | {"decisions": [cost.as_json() for cost in costs]})
    else:
        print(plan_text(description), decision_text(costs, points), sep="\n")
    return 0


def status_command(arguments: argparse.Namespace) -> int:
    """Run `status`; returns the exit code."""
    options = PlanOptions.from_arguments(arguments)
    if is_sweep_command(options.files):
        return status_sweep(options, as_json=arguments.json)
    from experiments.cli.status_report import describe_status, status_text

    refuse_options(arguments, SWEEP_OPTIONS)
    report = describe_status(*make_plan_of(options))
    if arguments.json:
        print_json(report.as_json())
    else:
        print(status_text(report))
    return 0


def watch_command(arguments: argparse.Namespace) -> int:
    """Run `watch`; returns the exit code."""
    options = PlanOptions.from_arguments(arguments)
    if is_sweep_command(options.files):
        return watch_sweep(options, once=arguments.once)
    from experiments.cli.watch import RunsWatch, watch

    refuse_options(arguments, SWEEP_OPTIONS)
    return watch(RunsWatch(*make_plan_of(options)).view, arguments.once)


def cancel_command(arguments: argparse.Namespace) -> int:
    """Run `cancel`; returns the exit code."""
    options = PlanOptions.from_arguments(arguments)
    if is_sweep_command(options.files):
        return cancel_sweep(options)
    from experiments.cli.jobs import cancel_runs

    refuse_options(arguments, SWEEP_OPTIONS)
    return cancel_runs(*make_plan_of(options))
