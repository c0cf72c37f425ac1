"""Commands that tests start. Each one ends, with all its child processes, when its test ends."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE = 900  # seconds until a wait counts as hung; a slow and busy machine needs minutes
Value = TypeVar("Value")


@contextmanager
def started(arguments: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a new process group; kill the whole group at the end of the block.

    options: those of subprocess.Popen."""
    words = [str(word) for word in arguments]
    settings: dict[str, Any] = {"cwd": REPOSITORY, "stdin": subprocess.DEVNULL} | options
    process = subprocess.Popen(words, start_new_session=True, text=True, **settings)
    try:
        yield process
    finally:
        kill_group(process)
        process.communicate()


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill -9 all processes of a command that `started` has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run_command(
    arguments: Sequence[object], check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its output.

    check: raise CalledProcessError if the command fails."""
    with started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate(timeout=PATIENCE)
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, process.args, out, err)
    return done


def wait_until(
    reached: Callable[[], Value], process: subprocess.Popen[str] | None = None, pause: float = 0.05
) -> Value:
    """Wait until `reached()` is true, and return its value. Fails if `process` ends before that."""
    deadline = time.monotonic() + PATIENCE
    while not (value := reached()):
        assert process is None or process.poll() is None or reached(), "the command ended too early"
        assert time.monotonic() < deadline, f"did not happen within {PATIENCE} seconds"
        time.sleep(pause)
    return value
