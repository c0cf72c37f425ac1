"""Standard output and standard error of commands: encodings, JSON, progress."""

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.runtime.files import write_text

REPORT_SECONDS = 30.0  # between lines about progress where standard error is no terminal


def prepare_streams() -> None:
    """Make printing safe: no character and no closed stream is an error.

    A character that the stream's encoding lacks is printed as an escape such as \\u30de. A stream
    that the caller has closed is replaced by /dev/null, so that no file gets its descriptor.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            _occupy(descriptor)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _occupy(descriptor: int) -> None:
    """Open /dev/null with this descriptor if it is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def discard_output() -> None:
    """Send what is still to be printed on standard output to /dev/null."""
    with suppress(io.UnsupportedOperation):  # a stream in memory
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(content: Any) -> None:
    """Print a value as JSON on standard output. Numbers that are not finite become null."""
    finite = _finite(content)
    text = json.dumps(finite, indent=1, ensure_ascii=False, allow_nan=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # JSON has its own escapes
        text = json.dumps(finite, indent=1, ensure_ascii=True, allow_nan=False, default=str)
    print(text)


def print_or_write(text: str, out: Path | None) -> None:
    """Print a text, or write it to the file `out` and print the file's name."""
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)
        print(out)


def _finite(value: Any) -> Any:
    """The value with None in place of each number that JSON cannot express."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error; it disappears at the end.

    Where standard error is no terminal, a plain line is printed every 30 seconds.

    title: names the work.
    total: number of items; None if the calls give it.

    Yields a function of (done, total), or of (done) if `total` is given.
    """
    if not sys.stderr.isatty():
        yield _progress_lines(title, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, total=total: progress.update(task, completed=done, total=total)


def _progress_lines(title: str, total: int | None) -> Callable[..., None]:
    """A function that prints progress and remaining time as a line, at most every 30 seconds."""
    started: tuple[float, int] | None = None  # when the first call came, and what was done then
    printed_at = time.monotonic()

    def show(done: int, total: int | None = total) -> None:
        nonlocal printed_at, started
        now = time.monotonic()
        started = started or (now, done)
        if now - printed_at >= REPORT_SECONDS:
            printed_at = now
            of = "" if total is None else f" of {total:,}"
            left = _time_left(now - started[0], done - started[1], total and total - done)
            print(f"{title}: {done:,}{of}{left}", file=sys.stderr, flush=True)

    return show


def _time_left(seconds: float, done: int, left: int | None) -> str:
    """The remaining time as a text; "" if it is not known.

    seconds: since the first item. done: items since then. left: items that are left, if known.
    """
    if not left or not done:
        return ""
    remaining = seconds / done * left
    if remaining < 60:
        return ", less than a minute left"
    return f", about {remaining / 60:.0f} min left"
