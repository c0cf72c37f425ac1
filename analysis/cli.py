"""Parsers of the commands that take experiments or sweeps, or print and draw stored results.

What the commands do is in `analysis/commands`.
"""

from typing import Any

from analysis.commands.plan_commands import (
    cancel_command,
    plan_command,
    status_command,
    watch_command,
)
from analysis.commands.result_commands import (
    compare_command,
    early_start_command,
    false_differences_command,
    grid_command,
    report_command,
    score_command,
    sweep_report_command,
)
from analysis.commands.run_command import run_command
from analysis.tables.prediction_formats import FORMATS as PREDICTION_FORMATS
from core.text.protocols import LABEL_POLICIES, PROTOCOLS
from experiments.cli import argument_types
from experiments.cli.options import (
    add_command,
    add_compute_options,
    add_json_option,
    add_launcher_option,
    add_plan_options,
    add_recognizer_options,
    add_results_option,
)

FORMAT_NAMES = ("md", "csv", "latex", "html", "json", "registry")
REPORT_VENUES = ("mlrc",)
MAX_IMAGES = 10_000  # of a picture
MAX_JOBS = 64  # notebooks at a time
MAX_PAIRS = 100_000  # of groups of seeds
MAX_SEEDS_PER_ROW = 100


def add_analysis_commands(commands: Any) -> None:
    """Add the parsers of these commands to argparse's subparsers."""
    _add_run(commands)
    _add_plan(commands)
    _add_status(commands)
    _add_watch(commands)
    _add_cancel(commands)
    _add_compare(commands)
    _add_false_differences(commands)
    _add_early_start(commands)
    _add_report(commands)
    _add_score(commands)
    _add_grid(commands)
    _add_sweep_report(commands)


def _add_run(commands: Any) -> None:
    text = (
        "Run experiments or a sweep, or resume them, and print their tables.\n"
        "`run` may be left out. No option below but those on what is computed changes a result."
    )
    parser = add_command(commands, "run", run_command, text)
    add_plan_options(parser, device=False)
    group = parser.add_argument_group("where it is computed, and output")
    add_launcher_option(group, "this machine (default), or jobs of a SLURM cluster")
    group.add_argument(
        "--dry-run", action="store_true", help="print what would be run or submitted, and end"
    )
    add_json_option(group, "print the tables as JSON (of a sweep: its status)")
    add_compute_options(parser)


def _add_plan(commands: Any) -> None:
    text = "Print what would run, and its cost. Nothing is run."
    parser = add_command(commands, "plan", plan_command, text)
    add_plan_options(parser)
    add_launcher_option(
        parser, "slurm: refuse precision: auto, as run does: jobs run on other machines"
    )
    parser.add_argument(
        "--power",
        type=argument_types.real_number(0.01, 100),
        metavar="POINTS",
        help="also print how many seeds would detect a difference of POINTS (percentage points)",
    )
    add_json_option(parser)


def _add_status(commands: Any) -> None:
    text = "Print the state of every run. Nothing is run."
    parser = add_command(commands, "status", status_command, text)
    add_plan_options(parser)
    add_json_option(parser)


def _add_watch(commands: Any) -> None:
    text = "Show the state of every run, live, with curves of the loss. Nothing is changed."
    parser = add_command(commands, "watch", watch_command, text)
    add_plan_options(parser)
    parser.add_argument(
        "--once",
        action="store_true",
        help="show one view and end, as it is done where the output is no terminal",
    )


def _add_cancel(commands: Any) -> None:
    text = "Cancel the queued and running jobs of these runs on a cluster. Results are kept."
    parser = add_command(commands, "cancel", cancel_command, text)
    add_plan_options(parser)


def _add_compare(commands: Any) -> None:
    text = "Print reported beside measured values: intervals, differences, verdicts."
    parser = add_command(commands, "compare", compare_command, text)
    add_plan_options(parser, storage=False)
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument(
        "--format",
        choices=FORMAT_NAMES,
        metavar="NAME",
        help=f"{', '.join(FORMAT_NAMES)} (JSON Lines for registries of results); default: md",
    )
    formats.add_argument(
        "--json", action="store_const", const="json", dest="format", help="as --format json"
    )


def _add_false_differences(commands: Any) -> None:
    text = (
        "Count the differences that a table would find in error.\n"
        "Groups of seeds of one row are compared as if they were rows. Needs a row with many seeds."
    )
    parser = add_command(commands, "false-differences", false_differences_command, text)
    add_plan_options(parser, storage=False)
    group = parser.add_argument_group("groups of seeds, and output")
    group.add_argument(
        "--row",
        type=argument_types.not_empty,
        metavar="NAME",
        help="the row (default: the only one of the file)",
    )
    group.add_argument(
        "--seeds-per-row",
        type=argument_types.whole_number(2, MAX_SEEDS_PER_ROW),
        default=3,
        metavar="N",
        help="seeds of each group (default 3)",
    )
    group.add_argument(
        "--pairs",
        type=argument_types.whole_number(1, MAX_PAIRS),
        default=200,
        metavar="N",
        help="pairs of groups, but always all that share no seed (default 200)",
    )
    add_json_option(group)


def _add_pictures_option(parser: Any) -> None:
    """parser: of a command, or a group of it."""
    parser.add_argument(
        "--out",
        type=argument_types.folder,
        metavar="DIR",
        help="folder of the pictures (default: DIR/figures)",
    )


def _add_early_start(commands: Any) -> None:
    text = (
        "Print when recognizers start to read: steps until half of the validation words are read.\n"
        "Draws the curves of all seeds. Set finetune.validate_every for a fine grid of steps."
    )
    parser = add_command(commands, "early-start", early_start_command, text)
    add_plan_options(parser, storage=False)
    group = parser.add_argument_group("output")
    _add_pictures_option(group)
    add_json_option(group)


def _add_report(commands: Any) -> None:
    text = (
        "Execute the notebooks of analysis/ on results; write one self-contained HTML page.\n"
        "With --for mlrc: write the skeleton of a reproducibility report instead, in Markdown."
    )
    parser = add_command(commands, "report", report_command, text)
    parser.add_argument(
        "files",
        nargs="*",
        type=argument_types.path,
        metavar="FILE",
        help="experiments and sweeps (default: all that the results folder has)",
    )
    parser.add_argument(
        "--results",
        type=argument_types.folder,
        metavar="DIR",
        help="default: results, or the published results if it has no table",
    )
    parser.add_argument(
        "--scale",
        type=argument_types.not_empty,
        metavar="NAME",
        help="default: that of the results",
    )
    parser.add_argument(
        "--out",
        type=argument_types.output_file,
        metavar="PAGE",
        help="default: report.html in the results folder; with --for: standard output",
    )
    parser.add_argument(
        "--for",
        dest="venue",
        choices=REPORT_VENUES,
        help="mlrc: headings of the ML Reproducibility Challenge, filled from records and claims",
    )
    parser.add_argument(
        "--jobs",
        type=argument_types.whole_number(1, MAX_JOBS),
        metavar="N",
        help="notebooks at a time (default: one for each core, at most 3)",
    )


def _add_score(commands: Any) -> None:
    text = "Score stored predictions under a protocol, without a model."
    parser = add_command(commands, "score", score_command, text)
    parser.add_argument(
        "file",
        type=argument_types.path,
        metavar="FILE",
        help="our predictions.csv; lines `index [prediction] [label]`; TSV or CSV; JSON; output of "
        "PaddleOCR, MMOCR, DTRB, PARSeq",
    )
    parser.add_argument(
        "--protocol", choices=tuple(PROTOCOLS), default="waics", help="default: waics"
    )
    reading = parser.add_argument_group("what the content of FILE does not say")
    reading.add_argument(
        "--truth",
        type=argument_types.path,
        metavar="LABELS",
        help="label file for predictions that have image names and no labels",
    )
    reading.add_argument(
        "--format",
        choices=PREDICTION_FORMATS,
        metavar="NAME",
        help=f"{', '.join(PREDICTION_FORMATS)} (default: found by the content)",
    )
    parser.add_argument(
        "--photos",
        type=argument_types.path_or_name,
        action="append",
        default=[],
        metavar="ROOT",
        help="test set that names the photos of its words, for intervals over photos (repeatable)",
    )
    policy = parser.add_argument_group("labels that the recognizer cannot express")
    policy.add_argument(
        "--labels",
        choices=(*LABEL_POLICIES, "both"),
        help="their policy (default: as in the file; both: compare the policies)",
    )
    add_recognizer_options(policy)
    parser.set_defaults(charset=None, max_length=None)  # they have an effect only with --labels
    add_json_option(parser)


def _add_grid(commands: Any) -> None:
    text = "Draw correct and wrong predictions, one picture for each subset of an evaluation."
    parser = add_command(commands, "grid", grid_command, text)
    parser.add_argument(
        "run", type=argument_types.not_empty, metavar="RUN", help="an evaluate run's id"
    )
    add_results_option(parser)
    _add_pictures_option(parser)
    parser.add_argument(
        "--images",
        type=argument_types.whole_number(1, MAX_IMAGES),
        default=60,
        metavar="N",
        help="at most N images in a picture (default 60)",
    )


def _add_sweep_report(commands: Any) -> None:
    text = "Print a sweep's best value with its interval and its trials; draw figures."
    parser = add_command(commands, "sweep-report", sweep_report_command, text)
    add_plan_options(parser)
    parser.add_argument(
        "--write-experiment",
        type=argument_types.output_file,
        metavar="OUT.yaml",
        help="write the best trial as an experiment with new seeds",
    )
    add_json_option(parser)
