"""What several commands share: argument types, the charset asked for, a progress bar."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError

if TYPE_CHECKING:
    from core.text.charset import Charset
    from experiments.running.options import ComputeOptions

Command = Callable[[argparse.Namespace], int]


def positive(text: str) -> int:
    """Argument type: a whole number from 1 on."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def not_negative(text: str) -> int:
    """Argument type: a whole number from 0 on."""
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def whole_numbers(text: str) -> list[int]:
    """Argument type: different seeds, separated by commas."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers like 0,1,2"
        ) from error
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError("seeds must be different and not negative")
    return numbers


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """`--set` and `--precision` as settings by dotted key. Raises UserError."""
    from experiments.planning.schema import parse_overrides

    return parse_overrides(arguments.set) | (
        {"precision": arguments.precision} if arguments.precision else {}
    )


def compute_options(arguments: argparse.Namespace) -> "ComputeOptions":
    """The options that say how runs are computed; checkpoints are rarer in jobs of a cluster."""
    from experiments.running.options import ComputeOptions

    minutes = arguments.checkpoint_minutes
    if minutes is None:
        minutes = 10 if arguments.launcher == "slurm" else 1
    return ComputeOptions(
        device=arguments.device,
        launcher=arguments.launcher,
        jobs=arguments.jobs,
        num_workers=arguments.num_workers,
        micro_batch=arguments.micro_batch,
        checkpoint_seconds=60 * minutes,
        compile=arguments.compile,
        cluster=arguments.cluster,
        dry_run=arguments.dry_run,
        wait=not arguments.no_wait,
    )


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that take experiment files or a sweep."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="experiment files (experiments/*.yaml), or a sweep",
    )
    what = parser.add_argument_group("what is computed")
    what.add_argument(
        "--scale",
        help="profile in experiments/scales: smoke, mini (mostly the default), small, paper, ...",
    )
    what.add_argument(
        "--seeds",
        type=whole_numbers,
        metavar="0,1,2",
        help="instead of the files' own (compare adds those recorded)",
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="e.g. pretrain.mask.ratio=0.7",
    )
    what.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="instead of the profile's; part of what is computed",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="all that is written goes below",
    )
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    how.add_argument(
        "--jobs", type=positive, help="runs at a time (default: on CPU one for each core, else 1)"
    )
    how.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="of a sweep: trials at a time (as --jobs; slurm: 4)",
    )
    how.add_argument(
        "--storage",
        metavar="URL",
        help="of a sweep: Optuna's storage (default: a journal in the results folder)",
    )
    how.add_argument(
        "--num-workers",
        "--readers",  # the name of version 0.1
        type=not_negative,
        help="processes that read images, per run (default: 0 on CPU, 8 on GPU)",
    )
    how.add_argument(
        "--micro-batch",
        type=positive,
        help="images at a time; gradients accumulate to the config's batch",
    )
    how.add_argument(
        "--compile",
        action="store_true",
        help="compile encoder blocks with torch.compile on CUDA (not yet tried on a GPU)",
    )
    how.add_argument(
        "--checkpoint-minutes",
        type=float,
        metavar="M",
        help="between checkpoints (default: 1 here, 10 in jobs)",
    )
    how.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="this machine (default), or jobs of SLURM",
    )
    how.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        help="what jobs ask for (default experiments/settings/cluster.yaml)",
    )
    how.add_argument("--json", action="store_true", help="plan and status: JSON on standard output")


def add_command(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """A parser of its own for one command."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Options for what a recognizer can read."""
    parser.add_argument(
        "--charset",
        default="ascii94",
        help="ascii94 (default) or file:PATH, the characters a recognizer knows",
    )
    parser.add_argument(
        "--max-length",
        type=positive,
        default=25,
        help="end mark included (default 25; the Chinese benchmark 40)",
    )


def charset_of(arguments: argparse.Namespace) -> "Charset":
    """The charset that `--charset` names. Raises UserError."""
    from core.text.charset import make_charset, resolve_charset

    try:
        return make_charset(resolve_charset(arguments.charset))
    except ValueError as error:
        raise UserError(f"--charset {arguments.charset}: {error}") from error


def processes_of(arguments: argparse.Namespace) -> int:
    """`--processes`, or one for each core."""
    from core.runtime.processes import cores

    return arguments.processes or cores()


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, gone at the end; yields a function of (done, total), or of (done) if total is given."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, total=total: progress.update(task, completed=done, total=total)
