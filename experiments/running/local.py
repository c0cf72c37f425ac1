"""Computes a plan on this machine: starts worker processes, shows their progress, stops them."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from rich.console import Console

from core.runtime.errors import UserError
from experiments.planning.plan import PlannedRun
from experiments.running.display import RunsDisplay
from experiments.running.options import ComputeOptions
from experiments.running.worker import (
    EXIT_PROCESS_DIED,
    EXIT_STATE_NOT_WRITTEN,
    how_it_ended,
    work,
)
from results.store import Run, Store, process_name

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class LaunchResult:
    """How the launch of runs ended.

    interrupted: the user stopped it.
    unwritable: a worker could not write into a run's folder.
    left: the command ended and its jobs continue."""

    interrupted: bool = False
    unwritable: bool = False
    left: bool = False


class Interrupt:
    """Handler of Ctrl-C and SIGTERM: the first stops the workers, the second kills them."""

    def __init__(self, workers: list[BaseProcess]) -> None:
        self.workers = workers
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        for worker in self.workers:
            if not worker.is_alive():
                continue
            if self.count == 1:
                worker.terminate()
            else:
                worker.kill()
        if self.count == 1:
            message = "\nstopping: runs write their checkpoints (Ctrl-C again: stop at once) ..."
            print(message, file=sys.stderr)


def launch(
    runs: Iterable[PlannedRun],
    store: Store,
    options: ComputeOptions,
    console: Console,
    gpus: Sequence[int] = (),
) -> LaunchResult:
    """Compute the runs that are not complete.

    options: resolved for this machine (`ComputeOptions.on_this_machine`).
    gpus: ids of the GPUs. No two workers share one. (): all workers use the options' device."""
    runs = list(runs)

    def on_killed(process: int, exit_code: int) -> None:
        for run in runs:
            fail_killed_run(store.run(run.id), process, exit_code)

    with RunsDisplay(runs, console) as display:
        return supervise(
            work,
            [(devices, runs, store, options, time.time()) for devices in options.devices(gpus)],
            lambda: display.update({run.id: store.run(run.id).state() for run in runs}),
            on_killed,
        )


def fail_killed_run(run: Run, process: int, exit_code: int) -> None:
    """Write the state of the run that a killed worker was computing. Other runs stay unchanged.

    process: the number of the worker. exit_code: of the worker."""
    with suppress(UserError, OSError):
        state = run.last_written_state()
        if state.name == "running" and state.process == process_name(process):
            message = (
                f"its process {how_it_ended(exit_code)}; run the same command again to resume "
                "from the last checkpoint"
            )
            run.set_state("failed", message=message)


def supervise(
    target: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    on_poll: Callable[[], None],
    on_killed: Callable[[int, int], None] | None = None,
) -> LaunchResult:
    """Run `target(*arguments, parent)` in worker processes and wait until all have ended.

    target: a module's function; `parent` is the number of this process.
    arguments: for each worker its other arguments; they are pickled.
    on_poll: called several times a second, and once at the end.
    on_killed: called with process number and exit code of a worker that was killed, unless the
        user interrupts; another worker then takes its place. None: it is not replaced."""
    context = get_context("spawn")

    def start(number: int) -> BaseProcess:
        worker = context.Process(target=target, args=(*arguments[number], os.getpid()))
        worker.start()
        return worker

    # The workers inherit this: they never see Ctrl-C, not even while they start.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = [start(number) for number in range(len(arguments))]
    interrupt = Interrupt(workers)
    while any(worker.is_alive() for worker in workers):
        time.sleep(POLL_SECONDS)
        for number, worker in enumerate(workers):
            code = worker.exitcode
            if on_killed is None or interrupt.count or worker.pid is None or not was_killed(code):
                continue
            on_killed(worker.pid, code or 0)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            workers[number] = start(number)
            signal.signal(signal.SIGINT, interrupt)
        on_poll()
    on_poll()
    unwritable = any(worker.exitcode == EXIT_STATE_NOT_WRITTEN for worker in workers)
    return LaunchResult(interrupted=interrupt.count > 0, unwritable=unwritable)


def was_killed(exit_code: int | None) -> bool:
    """Whether a worker ended by a signal, or because another process of its run died."""
    return exit_code is not None and (exit_code < 0 or exit_code == EXIT_PROCESS_DIED)
