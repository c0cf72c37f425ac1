"""One run on several processes of this machine.

The worker that has the run's lock is the main process. For each run it starts the other processes.
If one of them dies, the run fails with a clear state, and the worker continues with other runs.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from types import TracebackType

import torch

from core.runtime.distributed import join_local_group, open_rendezvous
from core.runtime.processes import exit_with_parent
from core.training.run_context import RunContext
from experiments.planning.plan import PlannedRun
from experiments.running.execute import Outcome, end_run, execute, fail_run
from experiments.running.options import ComputeOptions
from experiments.running.worker import EXIT_PROCESS_DIED, how_it_ended
from results.store import Run, Store

POLL_SECONDS = 0.2
GRACE_SECONDS = 15.0  # in which the main process can notice by itself that another one died


def execute_in_group(
    run: PlannedRun, store: Store, options: ComputeOptions, devices: Sequence[str], main: RunContext
) -> Outcome:
    """Compute a run whose lock is acquired, with one process for each device.

    run: the run.
    store: the results folder.
    options: resolved for this machine.
    devices: of the processes; the first one is that of this process.
    main: the context of this process."""
    size = len(devices)
    rendezvous = open_rendezvous(size)
    context = get_context("spawn")
    others: list[BaseProcess] = [
        context.Process(
            target=_run_other,
            args=(run, store, options, device, rank, size, rendezvous.port, os.getpid()),
        )
        for rank, device in enumerate(devices[1:], 1)
    ]
    for process in others:
        process.start()
    folder = store.run(run.id)
    started = time.time()
    with GroupWatch(others, folder) as watch:
        try:
            with join_local_group(main.device, rendezvous, 0, size) as group:
                outcome = execute(run, store, replace(main, process_group=group))
        except Exception:  # e.g. another process died before all had joined
            outcome = fail_run(folder, started, main.should_stop())
        if outcome.state != "complete" and watch.wait_for_failure():
            outcome = end_run(folder, "failed", watch.failure)
    return outcome


class GroupWatch:
    """Watches the other processes of a run in a thread; ends them when the run has ended."""

    def __init__(self, processes: Sequence[BaseProcess], folder: Run) -> None:
        """processes: of ranks 1, 2, ... folder: of the run."""
        self.processes = processes
        self.folder = folder
        self.failure = ""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "GroupWatch":
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        deadline = time.monotonic() + GRACE_SECONDS
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def wait_for_failure(self) -> bool:
        """Whether a process died. Waits for it shortly: its connection closes before it is gone."""
        deadline = time.monotonic() + 2.0
        while not self.failure and time.monotonic() < deadline:
            self._find_failure()
            time.sleep(POLL_SECONDS / 4)
        return bool(self.failure)

    def _find_failure(self) -> None:
        size = 1 + len(self.processes)
        for rank, process in enumerate(self.processes, 1):
            if process.exitcode not in (None, 0) and not self.failure:
                self.failure = (
                    f"process {rank} of {size} {how_it_ended(process.exitcode)}; "
                    "run the same command again to resume from the last checkpoint"
                )

    def _watch(self) -> None:
        """End this process if it does not notice that another process of the run died."""
        while not self.ended.wait(POLL_SECONDS):
            self._find_failure()
            if self.failure:
                if self.ended.wait(GRACE_SECONDS):
                    return
                with suppress(OSError):
                    self.folder.set_state("failed", message=self.failure)
                print(f"{self.folder.folder.name} failed: {self.failure}", file=sys.stderr)
                for process in self.processes:
                    process.kill()
                os._exit(EXIT_PROCESS_DIED)


def _run_other(
    run: PlannedRun,
    store: Store,
    options: ComputeOptions,
    device_name: str,
    rank: int,
    size: int,
    port: int,
    parent: int,
) -> None:
    """A process of the group that is not the main one. It follows the main process.

    device_name: of this process. rank: its number. port: of the rendezvous. parent: the main
    process. The other arguments are those of `execute_in_group`."""
    exit_with_parent(parent)  # the main process decides when to stop
    torch.set_num_threads(options.threads)
    device = torch.device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)

    def main_process_died() -> bool:
        """Called after an error. The command then writes the state of the run."""
        deadline = time.monotonic() + 2.0
        while os.getppid() == parent and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 4)
        return os.getppid() != parent

    context = options.run_context(device, main_process_died)
    with join_local_group(device, port, rank, size) as group:
        execute(run, store, replace(context, process_group=group))
