"""Re-run, check and extend LMIM.

python run.py experiments/ablation_alignment.yaml            run an experiment, or go on with it, and print its table
python run.py plan experiments/ablation_alignment.yaml       what would run, at what cost; nothing is run
python run.py status experiments/ablation_alignment.yaml     the state of every run
python run.py watch experiments/ablation_alignment.yaml      the same, live: progress, curves of the loss, time left
python run.py experiments/ablation_alignment.yaml --launcher slurm   the same on a cluster (experiments/cluster.yaml)
python run.py sweeps/mask_ratio.yaml --workers 2             search settings (sweep-report tells what was found)
python run.py compare experiments/ablation_*.yaml            reported beside measured: intervals, differences, verdicts
python run.py report                                         all notebooks on these results, as one HTML page
python run.py data check iiit5k svt                          counts, broken images, labels, duplicates of data sets
python run.py score predictions.csv --protocol waics         score stored predictions, without a model
python run.py bench                                          how fast it is here, beside the plain way and the hardware's limits
python run.py COMMAND --help                                 what a command takes
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.files import OUT_OF_REACH
from experiments.bench.commands import add_bench
from experiments.command_line import add_command, positive, settings_of
from experiments.data_commands import add_data_commands
from experiments.job_commands import add_job_commands
from experiments.model_commands import add_model_commands
from sweeps.commands import (
    add_sweep_commands,
    cancel_sweep,
    plan_sweep,
    refuse_options,
    run_sweep,
    status_sweep,
    sweep_among,
    watch_sweep,
)

COMMANDS = (
    *("run", "plan", "status", "watch", "compare", "report", "logs", "cancel", "sweep-report"),
    *("data", "score", "import", "export", "predict", "grid", "bench"),
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from analysis.tables import Table
    from experiments.launch import Ending
    from experiments.plan import Plan
    from results.store import State, Store


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("run", run_command, "run experiments, or go on with them, and print their tables (the default command)"),
        ("plan", plan_command, "what would run, at what cost; nothing is run"),
        ("status", status_command, "the state of every run"),
        ("watch", watch_command, "the state of every run, live, with curves of the loss; it looks, and changes nothing"),
        ("compare", compare_command, "tables of what is there: reported, measured, intervals, verdicts; nothing is run"),
        ("cancel", cancel_command, "end the cluster's queued and running jobs of these runs; what they did is kept"),
    ):
        one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(command=command)
        _add_options(one)
        if command is run_command:
            one.add_argument("--no-wait", action="store_true", help="slurm: return once the jobs are submitted")
            one.add_argument("--dry-run", action="store_true", help="say what would be run or submitted, and do nothing")
        if command is watch_command:
            one.add_argument("--once", action="store_true", help="one view, and no more (as where the output is no terminal)")
        if command is compare_command:
            one.add_argument("--format", choices=("md", "csv", "latex", "html", "json"), help="default: md")
    _add_report(commands)
    add_job_commands(commands)
    add_data_commands(commands)
    add_model_commands(commands)
    add_sweep_commands(commands, _add_options)
    add_bench(commands)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="experiment files (experiments/*.yaml), or a sweep")
    what = parser.add_argument_group("what is computed")
    what.add_argument("--scale", help="profile in experiments/scales: smoke, mini (mostly the default), small, paper, ...")
    what.add_argument("--seeds", type=_numbers, metavar="0,1,2", help="instead of the files' own (compare adds those recorded)")
    what.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. pretrain.mask.ratio=0.7")
    what.add_argument("--precision", choices=("fp32", "bf16"), help="instead of the profile's; part of what is computed")
    how = parser.add_argument_group("how")
    how.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="all that is written goes below")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    how.add_argument("--jobs", type=positive, help="runs at a time (default: on CPU one for each core, else 1)")
    how.add_argument("--workers", type=positive, metavar="N", help="of a sweep: trials at a time (as --jobs; slurm: 4)")
    how.add_argument("--storage", metavar="URL", help="of a sweep: Optuna's storage (default: a journal in the results folder)")
    how.add_argument("--readers", type=_not_negative, help="processes that read images, per run (default: 0 on CPU, 8 on GPU)")
    how.add_argument("--micro-batch", type=positive, help="images at a time; gradients accumulate to the config's batch")
    how.add_argument("--checkpoint-minutes", type=float, metavar="M", help="between checkpoints (default: 1 here, 10 in jobs)")
    how.add_argument("--launcher", choices=("local", "slurm"), default="local", help="this machine (default), or jobs of SLURM")
    how.add_argument("--cluster", type=Path, metavar="FILE", help="what jobs ask for (default experiments/cluster.yaml)")
    how.add_argument("--json", action="store_true", help="plan and status: JSON on standard output")


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "the notebooks of analysis/, executed on some results, as one HTML page that needs nothing else"
    one = add_command(commands, "report", report_command, text)
    one.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="experiments and sweeps (default: all that RESULTS holds)"
    )
    one.add_argument("--results", type=Path, metavar="DIR", help="default: results; while it holds no table, what is published")
    one.add_argument("--scale", help="default: that of the results")
    one.add_argument("--out", type=Path, metavar="PAGE", help="default: report.html in the results folder")
    one.add_argument("--jobs", type=positive, help="notebooks at a time (default: one for each core, at most 3)")


def _not_negative(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 0,1,2") from error
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError("seeds must be different and not negative")
    return numbers


def _plan(arguments: argparse.Namespace, recorded: "Mapping[str, Sequence[int]] | None" = None) -> tuple["Plan", "Store"]:
    """The plan that the arguments ask for, and its results folder.

    recorded: by experiment the seeds instead, of a plan that was made, and its notes told, before."""
    from experiments.device import automatic_precision
    from experiments.planner import make_plan
    from results.store import Store

    store = Store(arguments.results)
    precision = automatic_precision(arguments.device, arguments.launcher)
    seeds = recorded or arguments.seeds
    refuse_options(arguments, sweep=False)
    plan = make_plan(
        arguments.files, arguments.scale, store, precision=precision, overrides=settings_of(arguments), seeds=seeds
    )
    for note in () if recorded else plan.notes:
        print(f"note: {note}", file=sys.stderr)
    return plan, store


def plan_command(arguments: argparse.Namespace) -> int:
    if sweep_among(arguments.files):
        return plan_sweep(arguments)
    from experiments.report import describe_plan, plan_text

    plan, store = _plan(arguments)
    description = describe_plan(plan, store)
    print(json.dumps(description, indent=1) if arguments.json else plan_text(description))
    return 0


def status_command(arguments: argparse.Namespace) -> int:
    if sweep_among(arguments.files):
        return status_sweep(arguments)
    from experiments.report import describe_status, status_text

    plan, store = _plan(arguments)
    description = describe_status(plan, store)
    print(json.dumps(description, indent=1) if arguments.json else status_text(description))
    return 0


def watch_command(arguments: argparse.Namespace) -> int:
    if sweep_among(arguments.files):
        return watch_sweep(arguments)
    from experiments.watch import RunsWatch, watch

    return watch(RunsWatch(*_plan(arguments)).look, arguments.once)


def cancel_command(arguments: argparse.Namespace) -> int:
    if sweep_among(arguments.files):
        return cancel_sweep(arguments)
    from experiments.job_commands import cancel_runs

    return cancel_runs(*_plan(arguments))


def compare_command(arguments: argparse.Namespace) -> int:
    if sweep_among(arguments.files):
        raise UserError(f"{arguments.files[0]}: a sweep has no table; `run.py sweep-report {arguments.files[0]}` tells of it")
    from analysis.formats import FORMATS
    from experiments.tables import recorded_tables, tables_of
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
    from analysis.page import PUBLISHED, check_report, write_report
    from experiments.command_line import progress_bar
    from results.provenance import cores
    from results.store import Store

    own = Path("results")
    results = arguments.results or (own if any(own.glob("tables/*.json")) else PUBLISHED)
    if arguments.results is None and results == PUBLISHED:
        print(f"note: {own} holds no table yet; this is the report of what is published with the suite", file=sys.stderr)
    out = arguments.out or (own if results.resolve() == PUBLISHED else results) / "report.html"
    for path in arguments.files:
        if not path.is_file():
            raise UserError(f"{path}: no such file; name experiments or sweeps")
    sweeps = [path for path in arguments.files if sweep_among([path])]
    files = [path for path in arguments.files if path not in sweeps]
    jobs = arguments.jobs or min(cores(), 3)
    check_report(Store(results), out)
    with progress_bar("executing notebooks") as on_progress:
        sections = write_report(Store(results), files, sweeps, arguments.scale, out, jobs, max(1, cores() // jobs), on_progress)
    for one in sections:
        if one.problem:
            print(f"{'error' if one.broken else 'note'}: {one.name}: {one.problem}", file=sys.stderr)
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

    from experiments.report import describe_plan, ending, plan_text

    for option, given in (("--no-wait", arguments.no_wait), ("--cluster", arguments.cluster)):
        if given and arguments.launcher == "local":
            raise UserError(f"{option} goes with --launcher slurm")
    if sweep_among(arguments.files):
        return run_sweep(arguments)
    plan, store = _plan(arguments)
    store.check_writable()
    console = Console(stderr=True, soft_wrap=True)
    console.print(plan_text(describe_plan(plan, store)), highlight=False, markup=False)
    if arguments.dry_run and arguments.launcher == "local":
        console.print("nothing was run")
        return 0
    lacking = plan.lacking()
    if lacking.keys() == plan.experiments.keys():
        needs = f"experiments/scales/{plan.scale}.yaml names what scale {plan.scale} needs"
        raise UserError(f"{next(iter(lacking.values()))}; {needs}")
    plan = plan.without(lacking)
    how, states = _launch(plan, store, arguments, console)
    if arguments.launcher == "slurm" and (arguments.dry_run or arguments.no_wait):
        return 0
    from analysis.formats import markdown
    from experiments.tables import recorded_seeds, tables_of, with_complete

    told = plan
    if seeds := recorded_seeds(plan, store):  # a table keeps the seeds that were run before
        told = with_complete(plan, _plan(arguments, recorded=seeds)[0], store)
    tables = tables_of(told, store, recorded=False)
    for table in tables:
        if any(table.measured):
            print(markdown([table.content]))
            table.write()
    for name, missing in lacking.items():
        print(f"error: {name} was left out: {missing}", file=sys.stderr)
    return ending(plan, store, states, how) or _tell_damages(tables) or (2 if lacking else 0)


def _launch(
    plan: "Plan", store: "Store", arguments: argparse.Namespace, console: "Console"
) -> tuple["Ending", "Mapping[str, State]"]:
    """Compute what is not complete, here or on a cluster; how that ended, and how the runs stand."""
    from experiments.launch import Ending, Options, launch

    if arguments.launcher == "slurm":
        from experiments.launch_slurm import SlurmOptions, launch_slurm

        return launch_slurm(plan, store, SlurmOptions.of(arguments), console)
    from experiments.device import find_device
    from results.provenance import cores

    how = Ending()
    if any(store.run(name).state().name != "complete" for name in plan.runs):
        device = find_device(arguments.device)
        jobs = arguments.jobs or (min(cores(), len(plan.cells)) if device == "cpu" else 1)
        how = launch(plan.runs.values(), store, Options.of(arguments, device, jobs), console)
    return how, {name: store.run(name).state() for name in plan.runs}


def main(argv: list[str]) -> int:
    if argv and argv[0] not in COMMANDS and argv[0] not in ("-h", "--help"):
        argv = ["run", *argv]
    arguments = make_parser().parse_args(argv)
    try:
        code = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in OUT_OF_REACH:
            raise
        place = error.filename or getattr(arguments, "results", "output")
        print(f"error: {place}: {error.strerror}; make room there, or name another place", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
