"""The command `run.py bench`: parser and order of measurements."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.options import (
    add_command,
    add_device_option,
    add_json_option,
    add_results_option,
)
from experiments.cli.output import print_json

if TYPE_CHECKING:
    from analysis.bench.budget import TimeBudget
    from analysis.bench.measure import Timing
    from analysis.bench.setup import BenchSetup

# Name -> its share of the time of the command. Minutes on two slow cores; pre-training has the rest
# of the time, so it is the last one.
MEASUREMENTS = {
    "limits": 0.6,
    "start": 1.0,
    "input": 0.8,
    "feeding": 1.0,
    "profile": 1.0,
    "reading": 2.0,
    "finetune": 2.0,
    "agreement": 1.5,
    "team": 1.5,
    "sharing": 1.5,
    "index": 1.5,
    "views": 0.1,
    "decision": 1.5,
    "pretrain": 4.0,
}


def add_bench(commands: Any) -> None:
    """Add the parser of `bench`."""
    text = (
        "Measure how fast this suite is on this machine.\n"
        "Each optimized path is timed against a plain baseline in alternation, so that ratios are\n"
        "reliable on a busy machine. The command ends within 20 minutes; on a slow machine it has\n"
        "fewer repetitions or leaves measurements out, and says so."
    )
    parser = add_command(commands, "bench", bench_command, text)
    parser.add_argument(
        "measurements",
        nargs="*",
        metavar="MEASUREMENT",
        help=f"{', '.join(MEASUREMENTS)} (default: all of them, in at most 20 minutes)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny models and few repetitions: checks that everything works",
    )
    parser.add_argument(
        "--data",
        type=argument_types.path_or_name,
        metavar="ROOT",
        help="an LMDB of word images (default: 512 rendered words)",
    )
    add_device_option(parser)
    add_results_option(parser, "views draws DIR/bench/views.png (default: results)")
    add_json_option(parser, "print JSON with the seconds of each repetition")


def bench_command(arguments: argparse.Namespace) -> int:
    """Run the measurements and print the report; 130 after an interruption."""
    names: list[str] = arguments.measurements or list(MEASUREMENTS)
    for name in names:
        if name not in MEASUREMENTS:
            raise UserError(
                f"bench: unknown measurement '{name}'; choose from {', '.join(MEASUREMENTS)}"
            )
    from analysis.bench.budget import TimeBudget, schedule
    from analysis.bench.limits import excluded_precisions
    from analysis.bench.report import BenchReport, describe_machine

    started = time.monotonic()
    setup = make_setup(arguments.data, arguments.device, quick=arguments.quick)
    ends = schedule(names, MEASUREMENTS)
    left_out = excluded_precisions(setup.device)
    timings: list[Timing] = []
    code = 0
    try:
        for number, name in enumerate(names):
            print(f"{number + 1} of {len(names)}: {name}", file=sys.stderr, flush=True)
            budget = TimeBudget(started + ends[number])
            measured, failure = _measure(name, arguments.results, setup, budget)
            timings += measured
            code = max(code, failure)
            cuts = [f"{name}, {cut}" for cut in budget.cuts]
            print("".join(f"note: {cut}\n" for cut in cuts), end="", file=sys.stderr)
            left_out += cuts
    except KeyboardInterrupt:
        print(f"interrupted; timings of measurements before {name} follow", file=sys.stderr)
        code = 130
    report = BenchReport(describe_machine(setup.device), setup.name, left_out, timings)
    if arguments.json:
        print_json(report.to_json())
    else:
        print(report.to_markdown())
    return code


def _measure(
    name: str, results: Path, setup: "BenchSetup", budget: "TimeBudget"
) -> "tuple[list[Timing], int]":
    """The timings of a measurement, and the exit code if it fails, else 0.

    Its budget gets what it leaves out. After a failure the other measurements are still of use.

    name: of the measurement.
    results: the folder for pictures.
    setup: what is measured.
    budget: the time.
    """
    if not budget.allows(0):
        budget.cut("all of it", "the time is over")
        return [], 0
    from core.training.loop import NonFiniteLoss

    failures = (UserError, NonFiniteLoss, RuntimeError, OSError, CalledProcessError)
    try:
        return measurement(name, results)(setup.within(budget)), 0
    except failures as error:
        budget.cut("all of it", f"it failed: {error}")
        return [], 2 if isinstance(error, UserError) else 1


def make_setup(data: str | None, device: str, *, quick: bool) -> "BenchSetup":
    """The setup on a device that works here, with rendered words unless data are named."""
    from analysis.bench.setup import BenchSetup, rendered_words
    from experiments.cli.named_roots import present_roots
    from experiments.planning.device import find_device

    usable_device = find_device(device)
    root = rendered_words(32 if quick else 512) if data is None else present_roots(data)[0]
    return BenchSetup(root, usable_device, quick)


def measurement(name: str, results: Path) -> "Callable[[BenchSetup], list[Timing]]":
    """The function of a measurement. results: the folder for pictures."""
    from analysis.bench import (
        agreement,
        decision,
        decoding,
        inputs,
        limits,
        operators,
        process_groups,
        sharing,
        start,
        training,
        view_grid,
    )

    return {
        "limits": limits.measure_limits,
        "start": start.measure_start,
        "input": inputs.measure_input,
        "pretrain": training.measure_pretraining,
        "feeding": training.measure_feeding,
        "profile": operators.measure_operators,
        "reading": decoding.measure_decoding,
        "finetune": training.measure_finetuning,
        "agreement": agreement.measure_agreement,
        "team": process_groups.measure_process_groups,
        "sharing": sharing.measure_sharing,
        "index": inputs.measure_index,
        "decision": decision.measure_decision,
        "views": lambda setup: view_grid.write_view_grid(setup, results / "bench" / "views.png"),
    }[name]
