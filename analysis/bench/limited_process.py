"""Calls a function in a new process, with a time limit."""

import os
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from core.runtime.processes import exit_with_parent

EXIT_SECONDS = 10.0  # for a process to exit after it has sent its result


class ProcessDied(Exception):
    """The process ended without a result; most often the machine has too little memory."""


def call_in_process(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `function(*arguments)`, computed in a new process.

    Raises TimeoutError after `seconds`, ProcessDied if the process ends without a result, and the
    function's own exception. All values must be picklable.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(os.getpid(), sender, function, arguments))
    process.start()
    sender.close()  # else the end of the process would not end the pipe
    try:
        if not receiver.poll(min(max(seconds, 0), 86_400)):
            raise TimeoutError
        result = receiver.recv()
        process.join(EXIT_SECONDS)
    except EOFError:
        raise ProcessDied from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(result, Exception):
        raise result
    return result


def _call(
    parent: int, sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """The body of the process. parent: the id of the caller's process."""
    exit_with_parent(parent)
    try:
        result = function(*arguments)
    except Exception as error:  # the caller raises it
        result = error
    sender.send(result)
