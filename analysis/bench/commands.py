"""`run.py bench`: how fast this suite is here, as ratios inside one run."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli.options import add_command

if TYPE_CHECKING:
    from analysis.bench.measure import Row
    from analysis.bench.work import Work

WHAT = {  # what is measured -> minutes on two cores
    "limits": 0.1,
    "start": 0.5,
    "input": 0.5,
    "pretrain": 12,
    "feeding": 0.5,
    "profile": 0.5,
    "reading": 2,
    "finetune": 2,
    "agreement": 2,
    "team": 1,
    "sharing": 3,
    "index": 2,
    "views": 0.1,
}


def add_bench(commands: Any) -> None:
    """Add the parser of `bench`."""
    text = (
        "How fast this suite is on this machine. Every path takes turns with the plain one (eager, fp32, unfused, no cache,"
        " images one by one) and with what the hardware allows, in one run: ratios stay where seconds do not."
    )
    parser = add_command(commands, "bench", bench_command, text)
    whole = sum(WHAT.values())
    what = f"{', '.join(WHAT)} (default: all of them, about {whole:.0f} minutes on two cores)"
    parser.add_argument("what", nargs="*", metavar="WHAT", help=what)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, few turns: a check that everything works"
    )
    parser.add_argument(
        "--data", metavar="ROOT", help="an LMDB of word images (default: 512 rendered photographs)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where pictures go (DIR/bench)",
    )
    parser.add_argument(
        "--json", action="store_true", help="everything, each repetition's seconds too"
    )


def bench_command(arguments: argparse.Namespace) -> int:
    if unknown := [name for name in arguments.what if name not in WHAT]:
        raise UserError(
            f"bench {unknown[0]}: there is no such measurement; choose from {', '.join(WHAT)}"
        )
    from analysis.bench.limits import left_out
    from analysis.bench.work import Work, rendered_words
    from experiments.cli.data import present_roots
    from experiments.planning.device import find_device

    device, quick = find_device(arguments.device), arguments.quick
    data = (
        rendered_words(32 if quick else 512)
        if arguments.data is None
        else present_roots(arguments.data)[0]
    )
    work = Work(data, device, quick)
    found: list[Row] = []
    names = arguments.what or list(WHAT)
    code = 0
    try:
        for number, name in enumerate(names, 1):
            print(f"{number} of {len(names)}: {name}", file=sys.stderr, flush=True)
            found += measurement(name, arguments.results)(work)
    except KeyboardInterrupt:
        print(f"stopped; what was measured before {name} follows", file=sys.stderr)
        code = 130
    measured = [row.to_json() for row in found]
    report = {
        "machine": machine(device),
        "work": work.name,
        "left_out": left_out(device),
        "measured": measured,
    }
    print(json.dumps(report, indent=1, ensure_ascii=False) if arguments.json else text_of(report))
    return code


def measurement(name: str, results: Path) -> "Callable[[Work], list[Row]]":
    """What measures the thing of that name."""
    from analysis.bench import inputs, limits, reading, sharing, start, team, training, views

    return {
        "limits": limits.measure_limits,
        "start": start.measure_start,
        "input": inputs.measure_input,
        "pretrain": lambda work: training.measure_steps(work, "pretrain"),
        "feeding": training.measure_feeding,
        "profile": training.measure_profile,
        "reading": reading.measure_reading,
        "finetune": lambda work: training.measure_steps(work, "finetune"),
        "agreement": training.measure_agreement,
        "team": team.measure_team,
        "sharing": sharing.measure_sharing,
        "index": inputs.measure_index,
        "views": lambda work: views.show_views(work, results / "bench" / "views.png"),
    }[name]


def machine(device: str) -> dict[str, Any]:
    """Where this was measured, and of which code."""
    import torch

    from results.provenance import commit, hardware, versions

    accelerator = None if device == "cpu" else torch.cuda.get_device_name(device)
    hardware_told = {name: value for name, value in hardware(accelerator).items() if name != "host"}
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    where = {"device": device, **hardware_told, "threads": torch.get_num_threads()}
    return where | commit() | {"versions": versions(), "when": when}


def text_of(report: dict[str, Any]) -> str:
    """The report as Markdown: a table for each thing that was measured."""
    where = report["machine"]
    lines = [
        f"{where['processor']}, {where['cores']} cores, {where['accelerator'] or 'no accelerator'}; {where['when']}"
    ]
    lines += report["left_out"]
    what = None
    for row in report["measured"]:
        if row["what"] != what:
            what = row["what"]
            lines += [
                "",
                f"### {what}",
                "",
                "| case | path | median | least to most | memory | ratios |",
                "|" + 6 * "---|",
            ]
        lines.append(f"| {' | '.join(cells(row))} |")
    return "\n".join(lines)


def cells(row: dict[str, Any]) -> list[str]:
    """A row's cells."""
    seconds = sorted(row["seconds"])
    unit = row["unit"]
    rates = (
        [f"{row['count'] / second:,.3g}" for second in (seconds[-1], seconds[0])]
        if len(seconds) > 1
        else []
    )
    median = (
        f"{row['rate']:,.3g} {unit}/s"
        if row["rate"] >= 1
        else f"{row['count'] / row['rate']:.3g} s"
    )
    if row["unit"] in ("starts", "epochs", "turns"):
        median, rates = (
            f"{1 / row['rate']:.2f} s",
            [f"{seconds[0]:.2f} s", f"{seconds[-1]:.2f} s"] if rates else [],
        )
    memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:,.0f} MB"
    ratios = "; ".join(ratio_text(name, value) for name, value in row["ratios"].items())
    return [
        row["case"],
        row["path"],
        median,
        " to ".join(rates),
        memory,
        "; ".join(filter(None, [ratios, row["note"]])),
    ]


def ratio_text(name: str, value: float) -> str:
    """`x plain` -> 2.5 x plain; a share -> 45 % of ..."""
    is_share = not name.startswith(("x ", "times", "largest"))
    return f"{100 * value:.0f} % {name}" if is_share else f"{value:.2g} {name}"
