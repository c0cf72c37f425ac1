"""Commands that print or draw results: run, compare, report, score, grid, sweep-report; and plan, status, watch, cancel.

These commands take experiments or a sweep, and decide which of both they were given. Heavy imports stay inside the
functions, so that `--help` is quick."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from core.text.protocols import LABEL_POLICIES, PROTOCOLS
from experiments.cli.models import add_results
from experiments.cli.options import (
    add_command,
    add_file_options,
    add_reading,
    charset_of,
    compute_options,
    positive,
    settings_of,
)
from sweeps.engine.cli import (
    cancel_sweep,
    check_sweep_options,
    is_sweep_command,
    plan_sweep,
    run_sweep,
    status_sweep,
    trials_of,
    watch_sweep,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from analysis.tables.table import Table
    from experiments.planning.plan import Plan
    from experiments.running.local import LaunchResult
    from results.store import State, Store

PROTOCOL_NAMES = tuple(PROTOCOLS)


def add_analysis_commands(commands: Any) -> None:
    """Add the parsers of these commands."""
    for name, command, text in (
        (
            "run",
            run_command,
            "run experiments, or go on with them, and print their tables (the default command)",
        ),
        ("plan", plan_command, "what would run, at what cost; nothing is run"),
        ("status", status_command, "the state of every run"),
        (
            "watch",
            watch_command,
            "the state of every run, live, with curves of the loss; it looks, and changes nothing",
        ),
        (
            "compare",
            compare_command,
            "tables of what is there: reported, measured, intervals, verdicts; nothing is run",
        ),
        (
            "cancel",
            cancel_command,
            "end the cluster's queued and running jobs of these runs; what they did is kept",
        ),
    ):
        one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(command=command)
        add_file_options(one)
        if command is run_command:
            one.add_argument(
                "--no-wait", action="store_true", help="slurm: return once the jobs are submitted"
            )
            one.add_argument(
                "--dry-run",
                action="store_true",
                help="say what would be run or submitted, and do nothing",
            )
        if command is watch_command:
            one.add_argument(
                "--once",
                action="store_true",
                help="one view, and no more (as where the output is no terminal)",
            )
        if command is compare_command:
            one.add_argument(
                "--format", choices=("md", "csv", "latex", "html", "json"), help="default: md"
            )
    _add_report(commands)
    _add_score(commands)
    _add_grid(commands)
    _add_sweep_report(commands)


def _add_report(commands: Any) -> None:
    text = "the notebooks of analysis/, executed on some results, as one HTML page that needs nothing else"
    one = add_command(commands, "report", report_command, text)
    one.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="experiments and sweeps (default: all that RESULTS holds)",
    )
    one.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="default: results; while it holds no table, what is published",
    )
    one.add_argument("--scale", help="default: that of the results")
    one.add_argument(
        "--out", type=Path, metavar="PAGE", help="default: report.html in the results folder"
    )
    one.add_argument(
        "--jobs", type=positive, help="notebooks at a time (default: one for each core, at most 3)"
    )


def _add_sweep_report(commands: Any) -> None:
    report = add_command(
        commands,
        "sweep-report",
        report_sweep,
        "a sweep's best value with its interval, its trials, pictures",
    )
    add_file_options(report)
    report.add_argument(
        "--write-experiment",
        type=Path,
        metavar="OUT.yaml",
        help="the best trial as an experiment, fresh seeds",
    )


def _add_score(commands: Any) -> None:
    text = "Score stored predictions under a protocol, without a model."
    parser = add_command(commands, "score", score_command, text)
    forms = "our predictions.csv; lines `index [prediction] [label]`; TSV or CSV; JSON lines"
    parser.add_argument("file", type=Path, metavar="FILE", help=forms)
    parser.add_argument("--protocol", choices=PROTOCOL_NAMES, default="waics")
    policies = "what becomes of labels that a recognizer cannot express (default: as the file has them; both: compared)"
    parser.add_argument("--labels", choices=(*LABEL_POLICIES, "both"), help=policies)
    add_reading(parser)
    parser.add_argument("--json", action="store_true")


def score_command(arguments: argparse.Namespace) -> int:
    from analysis.tables.score import compare_policies, score_file

    if arguments.labels and arguments.protocol == "chinese" and arguments.charset == "ascii94":
        raise UserError(
            "--labels asks what a recognizer can read: name its characters with --charset file:PATH"
        )
    how = (charset_of(arguments), arguments.max_length)
    if arguments.labels == "both":
        both = compare_policies(arguments.file, arguments.protocol, *how)
        print(json.dumps(both.as_json(), ensure_ascii=False) if arguments.json else both.text())
        return 0
    result = score_file(arguments.file, arguments.protocol, arguments.labels, *how)
    print(json.dumps(result.as_json(), ensure_ascii=False) if arguments.json else result.text())
    return 0


def _add_grid(commands: Any) -> None:
    parser = add_command(
        commands,
        "grid",
        grid_command,
        "A picture of right and wrong readings, for each subset of an evaluation.",
    )
    parser.add_argument("run", metavar="RUN", help="an evaluate run's id")
    add_results(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the pictures go (default: RESULTS/figures)"
    )
    parser.add_argument(
        "--images", type=positive, default=60, help="at most so many in a picture (default 60)"
    )


def grid_command(arguments: argparse.Namespace) -> int:
    from analysis.figures.predictions import write_grids
    from results.store import Store

    for path in write_grids(
        Store(arguments.results),
        arguments.run,
        arguments.out or arguments.results / "figures",
        arguments.images,
    ):
        print(path)
    return 0


def _plan(
    arguments: argparse.Namespace, recorded: "Mapping[str, Sequence[int]] | None" = None
) -> tuple["Plan", "Store"]:
    """The plan that the arguments ask for, and its results folder.

    recorded: by experiment the seeds instead, of a plan that was made, and its notes told, before."""
    from experiments.planning.device import automatic_precision
    from experiments.planning.planner import make_plan
    from results.store import Store

    store = Store(arguments.results)
    precision = automatic_precision(arguments.device, arguments.launcher)
    seeds = recorded or arguments.seeds
    check_sweep_options(arguments, is_sweep=False)
    plan = make_plan(
        arguments.files,
        arguments.scale,
        store,
        precision=precision,
        overrides=settings_of(arguments),
        seeds=seeds,
    )
    for note in () if recorded else plan.notes:
        print(f"note: {note}", file=sys.stderr)
    return plan, store


def plan_command(arguments: argparse.Namespace) -> int:
    if is_sweep_command(arguments.files):
        return plan_sweep(arguments)
    from experiments.cli.describe import describe_plan, plan_text

    plan, store = _plan(arguments)
    description = describe_plan(plan, store)
    print(json.dumps(description, indent=1) if arguments.json else plan_text(description))
    return 0


def status_command(arguments: argparse.Namespace) -> int:
    if is_sweep_command(arguments.files):
        return status_sweep(arguments)
    from experiments.cli.describe import describe_status, status_text

    plan, store = _plan(arguments)
    description = describe_status(plan, store)
    print(json.dumps(description, indent=1) if arguments.json else status_text(description))
    return 0


def watch_command(arguments: argparse.Namespace) -> int:
    if is_sweep_command(arguments.files):
        return watch_sweep(arguments)
    from experiments.cli.watch import RunsWatch, watch

    return watch(RunsWatch(*_plan(arguments)).look, arguments.once)


def cancel_command(arguments: argparse.Namespace) -> int:
    if is_sweep_command(arguments.files):
        return cancel_sweep(arguments)
    from experiments.cli.jobs import cancel_runs

    return cancel_runs(*_plan(arguments))


def compare_command(arguments: argparse.Namespace) -> int:
    if is_sweep_command(arguments.files):
        raise UserError(
            f"{arguments.files[0]}: a sweep has no table; `run.py sweep-report {arguments.files[0]}` tells of it"
        )
    from analysis.tables.planned import recorded_tables, tables_of
    from analysis.tables.render import FORMATS
    from results.store import Store

    store = Store(arguments.results)
    if arguments.seeds is None:
        _, tables = recorded_tables(lambda seeds: _plan(arguments, recorded=seeds)[0], store)
    else:
        tables = tables_of(_plan(arguments)[0], store, recorded=True)
    form = arguments.format or ("json" if arguments.json else "md")
    print(FORMATS[form]([table.content for table in tables]), end="")
    return _tell_damages(tables)


def report_command(arguments: argparse.Namespace) -> int:
    from analysis.report.build import PUBLISHED, check_report, write_report
    from core.runtime.processes import cores
    from experiments.cli.options import progress_bar
    from results.store import Store

    own = Path("results")
    results = arguments.results or (own if any(own.glob("tables/*.json")) else PUBLISHED)
    if arguments.results is None and results == PUBLISHED:
        print(
            f"note: {own} holds no table yet; this is the report of what is published with the suite",
            file=sys.stderr,
        )
    out = arguments.out or (own if results.resolve() == PUBLISHED else results) / "report.html"
    for path in arguments.files:
        if not path.is_file():
            raise UserError(f"{path}: no such file; name experiments or sweeps")
    sweeps = [path for path in arguments.files if is_sweep_command([path])]
    files = [path for path in arguments.files if path not in sweeps]
    jobs = arguments.jobs or min(cores(), 3)
    check_report(Store(results), out)
    with progress_bar("executing notebooks") as on_progress:
        sections = write_report(
            Store(results),
            files,
            sweeps,
            arguments.scale,
            out,
            jobs,
            max(1, cores() // jobs),
            on_progress,
        )
    for one in sections:
        if one.problem:
            print(
                f"{'error' if one.broken else 'note'}: {one.name}: {one.problem}", file=sys.stderr
            )
    print(out)
    if any(one.broken for one in sections):
        return 1
    return 2 if all(one.problem for one in sections) else 0


def _tell_damages(tables: "Iterable[Table]") -> int:
    """Name the records that could not be read; the exit code."""
    damages = dict.fromkeys(what for table in tables for what in table.records.damaged.values())
    for what in damages:
        print(f"error: {what}", file=sys.stderr)
    return 2 if damages else 0


def run_command(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from experiments.cli.describe import describe_plan, ending, plan_text

    for option, given in (("--no-wait", arguments.no_wait), ("--cluster", arguments.cluster)):
        if given and arguments.launcher == "local":
            raise UserError(f"{option} goes with --launcher slurm")
    if is_sweep_command(arguments.files):
        return run_sweep(arguments)
    plan, store = _plan(arguments)
    store.check_writable()
    console = Console(stderr=True, soft_wrap=True)
    console.print(plan_text(describe_plan(plan, store)), highlight=False, markup=False)
    if arguments.dry_run and arguments.launcher == "local":
        console.print("nothing was run")
        return 0
    blocked_experiments = plan.blocked_experiments()
    if blocked_experiments.keys() == plan.experiments.keys():
        needs = f"experiments/scales/{plan.scale}.yaml names what scale {plan.scale} needs"
        raise UserError(f"{next(iter(blocked_experiments.values()))}; {needs}")
    plan = plan.excluding(blocked_experiments)
    how, states = _launch(plan, store, arguments, console)
    if arguments.launcher == "slurm" and (arguments.dry_run or arguments.no_wait):
        return 0
    from analysis.tables.planned import recorded_seeds, tables_of, with_complete
    from analysis.tables.render import markdown

    told = plan
    if seeds := recorded_seeds(plan, store):  # a table keeps the seeds that were run before
        told = with_complete(plan, _plan(arguments, recorded=seeds)[0], store)
    tables = tables_of(told, store, recorded=False)
    for table in tables:
        if any(table.measured):
            print(markdown([table.content]))
            table.write()
    for name, missing in blocked_experiments.items():
        print(f"error: {name} was left out: {missing}", file=sys.stderr)
    return (
        ending(plan, store, states, how)
        or _tell_damages(tables)
        or (2 if blocked_experiments else 0)
    )


def _launch(
    plan: "Plan", store: "Store", arguments: argparse.Namespace, console: "Console"
) -> tuple["LaunchResult", "Mapping[str, State]"]:
    """Compute what is not complete, here or on a cluster; how that ended, and how the runs stand."""
    from experiments.running.local import LaunchResult, launch

    options = compute_options(arguments)
    if options.launcher == "slurm":
        from experiments.slurm.launcher import launch_slurm

        return launch_slurm(plan, store, options, console)
    from core.runtime.processes import cores
    from experiments.planning.device import find_device

    how = LaunchResult()
    if any(store.run(name).state().name != "complete" for name in plan.runs):
        device = find_device(options.device)
        jobs = options.jobs or (min(cores(), len(plan.cells)) if device == "cpu" else 1)
        resolved = options.on_this_machine(device, jobs)
        how = launch(plan.runs.values(), store, resolved, console)
    return how, {name: store.run(name).state() for name in plan.runs}


def report_sweep(arguments: argparse.Namespace) -> int:
    """Write and print what a sweep found."""
    from analysis.sweep_report.best_experiment import write_experiment
    from analysis.sweep_report.page import write_report
    from analysis.sweep_report.report import find_trials

    if not is_sweep_command(arguments.files):
        raise UserError(
            f"{arguments.files[0]}: not a sweep (no space to search); tables of experiments are `compare`'s"
        )
    if arguments.write_experiment is not None and arguments.write_experiment.exists():
        raise UserError(
            f"--write-experiment {arguments.write_experiment}: there is a file already; name another"
        )
    trials, note = find_trials(trials_of(arguments))
    page, report = write_report(trials, note)
    print(json.dumps(report.as_json(), indent=1) if arguments.json else page, end="")
    print(f"written with its pictures below {trials.folder}", file=sys.stderr)
    if arguments.write_experiment is not None:
        command = write_experiment(trials, report, arguments.write_experiment)
        print(f"{command} --results {arguments.results} runs the best trial", file=sys.stderr)
    return 0
