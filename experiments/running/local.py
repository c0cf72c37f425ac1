"""Computes a plan on this machine: starts worker processes, shows their progress, stops them."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from rich.console import Console

from experiments.planning.plan import PlannedRun
from experiments.running.display import RunsDisplay
from experiments.running.options import ComputeOptions
from experiments.running.worker import EXIT_STATE_NOT_WRITTEN, work
from results.store import Store

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
    runs: Iterable[PlannedRun], store: Store, options: ComputeOptions, console: Console
) -> LaunchResult:
    """Compute the runs that are not complete.

    options: resolved for this machine (`ComputeOptions.on_this_machine`)."""
    runs = list(runs)
    with RunsDisplay(runs, console) as display:
        return supervise(
            work,
            (runs, store, options, time.time()),
            options.jobs or 1,
            lambda: display.update({run.id: store.run(run.id).state() for run in runs}),
        )


def supervise(
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    processes: int,
    on_poll: Callable[[], None],
) -> LaunchResult:
    """Run `target(*arguments, parent)` in worker processes and wait until all have ended.

    target: a module's function; `parent` is the number of this process.
    arguments: its other arguments; they are pickled.
    processes: number of workers.
    on_poll: called several times a second, and once at the end."""
    context = get_context("spawn")
    workers: list[BaseProcess] = [
        context.Process(target=target, args=(*arguments, os.getpid())) for _ in range(processes)
    ]
    # The workers inherit this: they never see Ctrl-C, not even while they start.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for worker in workers:
        worker.start()
    interrupt = Interrupt(workers)
    while any(worker.is_alive() for worker in workers):
        time.sleep(POLL_SECONDS)
        on_poll()
    on_poll()
    unwritable = any(worker.exitcode == EXIT_STATE_NOT_WRITTEN for worker in workers)
    return LaunchResult(interrupted=interrupt.count > 0, unwritable=unwritable)
