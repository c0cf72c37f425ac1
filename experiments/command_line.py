"""What several commands share: argument types, the charset asked for, a progress bar."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from core.errors import UserError

if TYPE_CHECKING:
    from core.text import Charset

Command = Callable[[argparse.Namespace], int]


def positive(text: str) -> int:
    """Argument type: a whole number from 1 on."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """`--set` and `--precision` as settings by dotted key. Raises UserError."""
    from experiments.schema import overrides

    return overrides(arguments.set) | ({"precision": arguments.precision} if arguments.precision else {})


def add_command(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """A parser of its own for one command."""
    parser = commands.add_parser(
        name, help=text, description=text, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=command)
    return parser


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Options for what a recogniser can read."""
    parser.add_argument(
        "--charset", default="ascii94", help="ascii94 (default) or file:PATH, the characters a recogniser knows"
    )
    parser.add_argument(
        "--max-length", type=positive, default=25, help="end mark included (default 25; the Chinese benchmark 40)"
    )


def charset_of(arguments: argparse.Namespace) -> "Charset":
    """The charset that `--charset` names. Raises UserError."""
    from core.text import make_charset, read_charset

    try:
        return make_charset(read_charset(arguments.charset))
    except ValueError as error:
        raise UserError(f"--charset {arguments.charset}: {error}") from error


def processes_of(arguments: argparse.Namespace) -> int:
    """`--processes`, or one for each core."""
    from results.provenance import cores

    return arguments.processes or cores()


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, gone at the end; yields a function of (done, total), or of (done) if total is given."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, total=total: progress.update(task, completed=done, total=total)
