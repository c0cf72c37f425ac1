"""Commands that tests start. Each one, with all its child processes, ends with the test that started it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE = 900  # seconds until a wait counts as hung; a slow and busy machine needs minutes for what takes seconds here
Found = TypeVar("Found")


@contextmanager
def started(arguments: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a process group of its own, and kill the whole group when the block ends, however it ends.

    options: those of subprocess.Popen."""
    words = [str(word) for word in arguments]
    settings = {"cwd": REPOSITORY, "text": True, "stdin": subprocess.DEVNULL} | options
    process = subprocess.Popen(words, start_new_session=True, **settings)
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
    """Run a command to its end, with its output. Raises CalledProcessError if `check` is set and it fails."""
    with started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate(timeout=PATIENCE)
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, process.args, out, err)
    return done


def wait_until(
    reached: Callable[[], Found], process: subprocess.Popen[str] | None = None, pause: float = 0.05
) -> Found:
    """Wait until `reached()` is true, and return its value. Fails at once when `process` ends before that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := reached()):
        assert process is None or process.poll() is None or reached(), "the command ended too early"
        assert time.monotonic() < deadline, f"did not happen within {PATIENCE} seconds"
        time.sleep(pause)
    return found
