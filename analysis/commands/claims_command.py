"""The command `claims`: checks the suite's claims, or reproduces one from nothing."""

import argparse
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from analysis.commands.plan_commands import make_plan_of
from analysis.commands.run_command import launch_plan
from core.runtime.errors import UserError
from core.runtime.files import write_text
from experiments.cli import argument_types
from experiments.cli.conversion import PlanOptions, refuse_options
from experiments.cli.options import DEVICE_HELP, MAX_PROCESSES, add_command, add_json_option
from experiments.cli.output import print_json, progress_bar

if TYPE_CHECKING:
    from analysis.claims.check import Outcome
    from experiments.running.options import ComputeOptions
    from results.claims import Claim, CommandRun, ExperimentRun

FOLDER = Path("results/claims")  # one folder for each claim that is reproduced
OUTPUT = "output.json"  # what the last command of a claim printed
TEST_REPORT = "tests.xml"
ONLY_WITH_RUN = "goes with --run: published results are only read"


def add_claims_command(commands: Any) -> None:
    """Add the parser of `claims` to argparse's subparsers."""
    text = (
        "Check the suite's claims by the published results, or reproduce one from nothing.\n"
        "Without --run nothing is computed but tables. Exit code 1: a claim is outside tolerance."
    )
    parser = add_command(commands, "claims", claims_command, text)
    parser.add_argument(
        "ids",
        nargs="*",
        type=argument_types.not_empty,
        metavar="ID",
        help="such as C3 (default: all claims)",
    )
    parser.add_argument(
        "--file",
        type=argument_types.path,
        metavar="FILE",
        help="claims file (default: results/claims.yaml)",
    )
    add_json_option(parser)
    group = parser.add_argument_group("from nothing")
    group.add_argument(
        "--run",
        type=argument_types.not_empty,
        metavar="ID",
        help="compute the value of this claim; the same command resumes",
    )
    group.add_argument(
        "--results",
        type=argument_types.folder,
        metavar="DIR",
        help="folder of this run (default: results/claims/ID)",
    )
    group.add_argument(
        "--jobs",
        type=argument_types.whole_number(1, MAX_PROCESSES),
        metavar="N",
        help="runs at a time, of an experiment (default: as run)",
    )
    group.add_argument("--device", type=argument_types.device_name, help=DEVICE_HELP)


def claims_command(arguments: argparse.Namespace) -> int:
    """Run `claims`; returns the exit code: 1 if a claim is outside its tolerance."""
    from results.claims import CLAIMS, read_claims

    known = read_claims(arguments.file or CLAIMS)
    if arguments.run:
        if arguments.ids:
            raise UserError(f"--run reproduces {arguments.run} alone; leave out {arguments.ids[0]}")
        return _reproduce(arguments, known.choose([arguments.run])[0])
    claims = known.choose(arguments.ids)
    refuse_options(arguments, dict.fromkeys(("results", "jobs", "device"), ONLY_WITH_RUN))
    from analysis.claims.check import check_published

    with progress_bar("checking claims", len(claims)) as on_progress:
        outcomes = check_published(claims, on_progress)
    return _print_outcomes(outcomes, as_json=arguments.json)


def _print_outcomes(outcomes: "list[Outcome]", *, as_json: bool) -> int:
    """Print one line for each claim; returns the exit code."""
    from analysis.claims.text import outcome_line, summary_line

    if as_json:
        print_json([outcome.as_json() for outcome in outcomes])
    else:
        print(*map(outcome_line, outcomes), summary_line(outcomes), sep="\n")
    return int(any(outcome.state == "outside" for outcome in outcomes))


# --run


def _reproduce(arguments: argparse.Namespace, claim: "Claim") -> int:
    """Compute the value of one claim from nothing, and check it; returns the exit code."""
    from analysis.claims.text import cost_text, reproduction
    from results.claims import CommandRun, ExperimentRun
    from results.store import Store

    results: Path = arguments.results or FOLDER / claim.id
    if not isinstance(claim.reproduce, ExperimentRun):
        reason = f"has no effect on {claim.id}: it is reproduced by other commands"
        refuse_options(arguments, {"jobs": reason, "device": reason})
    Store(results).check_writable()
    print(f"{claim.id}: {reproduction(claim)}\n{cost_text(claim)}", file=sys.stderr)
    if isinstance(claim.reproduce, ExperimentRun):
        outcome = _run_experiment(claim, claim.reproduce, results, arguments)
    elif isinstance(claim.reproduce, CommandRun):
        outcome = _run_commands(claim, claim.reproduce, results)
    else:
        outcome = _run_tests(claim, results)
    if isinstance(outcome, int):
        return outcome
    return _print_outcomes([outcome], as_json=arguments.json)


def _run_experiment(
    claim: "Claim", run: "ExperimentRun", results: Path, arguments: argparse.Namespace
) -> "Outcome | int":
    """Compute the rows that a claim needs. Returns an exit code if runs are not complete."""
    from rich.console import Console

    from analysis.claims.check import check_experiment
    from experiments.cli.plan_report import describe_plan
    from experiments.cli.plan_text import plan_text
    from experiments.cli.unfinished import report_unfinished
    from experiments.planning.device import automatic_precision
    from results.provenance import REPOSITORY

    compute = _compute_options(arguments)
    options = PlanOptions(
        files=(REPOSITORY / run.experiment,),
        scale=claim.scale,
        seeds=run.seeds,
        overrides={},
        results=results,
        device=compute.device,
        launcher="local",
        storage=None,
    )
    whole_plan, store = make_plan_of(options)
    plan = whole_plan.with_rows(claim.rows())
    if not plan.cells:
        raise UserError(f"{claim.id}: {run.experiment} has no row {' or '.join(claim.rows())}")
    if blocked := plan.blocked_experiments():
        raise UserError(f"{claim.id}: {next(iter(blocked.values()))}")
    console = Console(stderr=True, soft_wrap=True)
    description = describe_plan(plan, store, device=compute.device)
    console.print(plan_text(description), highlight=False, markup=False)
    result, states = launch_plan(plan, store, compute, console)
    if code := report_unfinished(plan, store, states, result):
        return code
    return check_experiment(claim, store, automatic_precision(compute.device, "local"))


def _compute_options(arguments: argparse.Namespace) -> "ComputeOptions":
    from experiments.planning.device import find_device
    from experiments.running.options import ComputeOptions

    device: str = arguments.device or "auto"
    if device != "auto":
        find_device(device)
    return ComputeOptions(device=device, jobs=arguments.jobs)


def _run_commands(claim: "Claim", run: "CommandRun", results: Path) -> "Outcome | int":
    """Run the commands of a claim. Returns the exit code of one that fails."""
    from analysis.claims.check import check_output
    from results.claims import RESULTS
    from results.provenance import REPOSITORY

    folder = results.resolve()
    for number, command in enumerate(run.commands, 1):
        words = [word.replace(RESULTS, str(folder)) for word in shlex.split(command)]
        is_last = number == len(run.commands)
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE if is_last else sys.stderr,
            text=True,
            encoding="utf-8",
        )
        if done.returncode:
            print(f"error: {claim.id}: `{command}` failed", file=sys.stderr)
            return done.returncode
    write_text(folder / OUTPUT, done.stdout)
    return check_output(claim, folder / OUTPUT)


def _run_tests(claim: "Claim", results: Path) -> "Outcome | int":
    """Run the tests of a claim: it is within tolerance if all pass and none is skipped."""
    from analysis.claims.check import Outcome
    from results.claims import TestCheck
    from results.provenance import REPOSITORY

    assert isinstance(claim.check, TestCheck)
    if importlib.util.find_spec("pytest") is None:
        raise UserError(f"{claim.id} needs pytest; pip install -r requirements-dev.txt")
    report = results.resolve() / TEST_REPORT
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *claim.check.nodes]
    code = subprocess.run(command, cwd=REPOSITORY, stdout=sys.stderr).returncode
    if code not in (0, 1) or not report.is_file():
        print(f"error: {claim.id}: the tests could not be run", file=sys.stderr)
        return code or 1
    passed, total = _count_tests(report)
    why = f"{passed} of {total} tests passed"
    return Outcome(claim, "within" if 0 < passed == total else "outside", why=why)


def _count_tests(report: Path) -> tuple[int, int]:
    """(tests that passed, all tests) of a JUnit report."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    problems = ("failure", "error", "skipped")
    failed = sum(any(case.find(name) is not None for name in problems) for case in cases)
    return len(cases) - failed, len(cases)
