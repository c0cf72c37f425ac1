"""Signals that ask a command to stop, for commands that stop between two items."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM; yields a function that tells whether one has arrived."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    previous = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield lambda: stopped
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
