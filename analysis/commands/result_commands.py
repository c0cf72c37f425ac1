"""The commands on stored results.

compare, false-differences, early-start, report, score, grid, sweep-report.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.commands.plan_commands import make_plan_of
from analysis.commands.run_command import print_damages
from core.runtime.errors import UserError
from experiments.cli.conversion import PlanOptions, charset_of, refuse_options
from experiments.cli.named_roots import names_of_roots, present_roots
from experiments.cli.options import DEFAULT_CHARSET, DEFAULT_LENGTH
from experiments.cli.output import print_json, print_or_write, progress_bar
from sweeps.engine.cli import is_sweep_command, trials_of

if TYPE_CHECKING:
    from analysis.report.notebooks import Section
    from analysis.tables.prediction_photos import PhotoRoot
    from analysis.tables.table import Table

RESULTS = Path("results")  # the default results folder
MAX_NOTEBOOKS = 3  # executed at a time, by default


# compare


def compare_command(arguments: argparse.Namespace) -> int:
    """Run `compare`; returns the exit code."""
    from analysis.tables.content import as_json
    from analysis.tables.render import FORMATS

    tables = _stored_tables(PlanOptions.from_arguments(arguments))
    if arguments.format == "registry":
        from analysis.report.registry import registry_text

        print(registry_text(tables), end="")
        return print_damages(tables)
    contents = [table.content for table in tables]
    if arguments.format == "json":
        print_json([as_json(content) for content in contents])
    else:
        print(FORMATS[arguments.format or "md"](contents), end="")
    return print_damages(tables)


def _stored_tables(options: PlanOptions) -> "list[Table]":
    """The tables of experiments with the seeds of the options, or else with all stored ones."""
    from analysis.tables.planned import recorded_tables, tables_of
    from results.store import Store

    if is_sweep_command(options.files):
        file = options.files[0]
        raise UserError(f"{file}: a sweep has no table; use `run.py sweep-report {file}`")
    store = Store(options.results)
    if options.seeds is not None:
        return tables_of(make_plan_of(options)[0], store, recorded=True)
    return recorded_tables(lambda seeds: make_plan_of(options, recorded=seeds)[0], store)[1]


# false-differences


def false_differences_command(arguments: argparse.Namespace) -> int:
    """Run `false-differences`; returns the exit code."""
    from analysis.tables.content import as_json
    from analysis.tables.false_differences import (
        EXPLANATION,
        false_differences_grid,
        report_false_differences,
    )
    from analysis.tables.render import pipe_table

    tables = _stored_tables(PlanOptions.from_arguments(arguments))
    reports = [
        report_false_differences(
            table, arguments.row, seeds_per_row=arguments.seeds_per_row, pairs=arguments.pairs
        )
        for table in tables
    ]
    if arguments.json:
        print_json([as_json(report) for report in reports])
    else:
        for report in reports:
            groups = f"{report.row}, groups of {report.seeds_per_row} seeds"
            print(f"# {report.experiment} (scale {report.scale}): {groups}", end="\n\n")
            print(*pipe_table(false_differences_grid(report)), sep="\n", end="\n\n")
        print(f"- {EXPLANATION}")
    return print_damages(tables)


# early-start


def early_start_command(arguments: argparse.Namespace) -> int:
    """Run `early-start`; returns the exit code."""
    from analysis.figures.early_start import early_start_figure
    from analysis.style import FigureWriter
    from analysis.tables.content import as_json
    from analysis.tables.early_start import RULE, early_start, early_start_grid, reading_curves
    from analysis.tables.render import pipe_table

    options = PlanOptions.from_arguments(arguments)
    out: Path = arguments.out or options.results / "figures"
    content = {}
    for table in _stored_tables(options):
        curves = reading_curves(table)
        starts = [early_start(row, of_row) for row, of_row in curves.items()]
        content[table.name] = as_json(starts)
        shown = [curve for of_row in curves.values() for curve in of_row]
        saved = FigureWriter(out, table.scale).save(
            early_start_figure(curves),
            f"{table.name}.early_start",
            f"{RULE}.",
            [curve.run for curve in shown],
            sorted({curve.seed for curve in shown}),
        )
        if not arguments.json:
            print(f"# {table.name} (scale {table.scale})", end="\n\n")
            print(*pipe_table(early_start_grid(starts)), sep="\n", end="\n\n")
        print(*saved.files, sep="\n", file=sys.stderr)
    print_json(content) if arguments.json else print(f"- {RULE}.")
    return 0


# report


def report_command(arguments: argparse.Namespace) -> int:
    """Run `report`; returns the exit code."""
    from analysis.report.build import PUBLISHED, check_report, write_report
    from core.runtime.processes import cores
    from results.store import Store

    has_results = any(RESULTS.glob("tables/*.json"))
    results: Path = arguments.results or (RESULTS if has_results else PUBLISHED)
    if arguments.results is None and not has_results:
        print(
            f"note: {RESULTS} has no table; the report shows the published results",
            file=sys.stderr,
        )
    if arguments.venue:
        return _reproducibility(arguments, results)
    folder = RESULTS if results.resolve() == PUBLISHED else results
    out: Path = arguments.out or folder / "report.html"
    for path in arguments.files:
        if not path.is_file():
            raise UserError(f"{path}: no such file; name experiments or sweeps")
    sweeps = [path for path in arguments.files if is_sweep_command([path])]
    jobs = arguments.jobs or min(cores(), MAX_NOTEBOOKS)
    check_report(Store(results), out)
    with progress_bar("executing notebooks") as on_progress:
        sections = write_report(
            Store(results),
            files=[path for path in arguments.files if path not in sweeps],
            sweeps=sweeps,
            scale=arguments.scale,
            out=out,
            jobs=jobs,
            threads=max(1, cores() // jobs),
            on_progress=on_progress,
        )
    print(out)
    return _report_exit_code(sections)


def _reproducibility(arguments: argparse.Namespace, results: Path) -> int:
    """Run `report --for mlrc`; returns the exit code."""
    from analysis.report.reproducibility import reproducibility_report
    from results.store import Store

    refuse_options(arguments, {"jobs": "has no effect with --for: no notebook is executed"})
    for path in arguments.files:
        if is_sweep_command([path]):
            raise UserError(f"{path}: a sweep has no table; with --for, name experiments")
    text = reproducibility_report(Store(results), arguments.files, arguments.scale)
    print_or_write(text, arguments.out)
    return 0


def _report_exit_code(sections: "list[Section]") -> int:
    """Print the problems of the page's sections.

    Returns 1 if a notebook is broken, 2 if no section has content, and else 0."""
    for section in sections:
        if section.problem:
            kind = "error" if section.broken else "note"
            print(f"{kind}: {section.name}: {section.problem}", file=sys.stderr)
    if any(section.broken for section in sections):
        return 1
    return 2 if all(section.problem for section in sections) else 0


# score


def score_command(arguments: argparse.Namespace) -> int:
    """Run `score`; returns the exit code."""
    from analysis.tables.prediction_formats import PredictionReading
    from analysis.tables.score import compare_policies, score_file

    reading = PredictionReading(arguments.format, arguments.truth)
    policy: str | None = arguments.labels
    if policy is None:
        reason = "has an effect only with --labels"
        refuse_options(arguments, {"charset": reason, "max_length": reason})
    arguments.charset = arguments.charset or DEFAULT_CHARSET
    if policy and arguments.protocol == "chinese" and arguments.charset == DEFAULT_CHARSET:
        raise UserError(
            "--labels depends on the characters of the recognizer; "
            "name them with --charset file:PATH"
        )
    recognizer = (charset_of(arguments), arguments.max_length or DEFAULT_LENGTH)
    photo_roots = [_photo_root(argument) for argument in arguments.photos]
    scoring = (arguments.file, arguments.protocol)
    if policy == "both":
        both = compare_policies(*scoring, *recognizer, reading, photo_roots)
        if arguments.json:
            print_json(both.as_json())
        else:
            print(both.text())
        return 0
    result = score_file(*scoring, policy, *recognizer, reading, photo_roots)
    if arguments.json:
        print_json(result.as_json())
    else:
        print(result.text())
    return 0


def _photo_root(argument: str) -> "PhotoRoot":
    """The test set of `--photos`: a folder or a name in data.yaml."""
    from analysis.tables.prediction_photos import PhotoRoot

    roots = present_roots(argument)
    return PhotoRoot(names_of_roots(argument, roots), roots)


# grid


def grid_command(arguments: argparse.Namespace) -> int:
    """Run `grid`; returns the exit code."""
    from analysis.figures.predictions import write_grids
    from results.store import Store

    out: Path = arguments.out or arguments.results / "figures"
    for path in write_grids(Store(arguments.results), arguments.run, out, arguments.images):
        print(path)
    return 0


# sweep-report


def sweep_report_command(arguments: argparse.Namespace) -> int:
    """Run `sweep-report`; returns the exit code."""
    from analysis.sweep_report.best_experiment import write_experiment
    from analysis.sweep_report.page import write_report
    from analysis.sweep_report.report import find_trials

    options = PlanOptions.from_arguments(arguments)
    if not is_sweep_command(options.files):
        raise UserError(
            f"{options.files[0]}: not a sweep (no space to search); "
            "`compare` prints the tables of experiments"
        )
    experiment: Path | None = arguments.write_experiment
    if experiment is not None and experiment.exists():
        raise UserError(f"--write-experiment {experiment}: already exists; choose another file")
    trials, note = find_trials(trials_of(options))
    page, report = write_report(trials, note)
    if arguments.json:
        print_json(report.as_json())
    else:
        print(page, end="")
    print(f"written with its figures below {trials.folder}", file=sys.stderr)
    if experiment is not None:
        command = write_experiment(trials, report, experiment)
        results = shlex.quote(str(options.results))
        print(f"{command} --results {results} runs the best trial", file=sys.stderr)
    return 0
