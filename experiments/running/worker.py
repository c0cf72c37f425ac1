"""A worker process of this machine: computes the runs whose inputs are complete until none is left.

Workers coordinate only through the locks and states of runs. A second command on the same plan
therefore shares the work instead of repeating it."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from experiments.planning.plan import PlannedRun
from experiments.running.options import ComputeOptions
from results import provenance
from results.store import Store

if TYPE_CHECKING:
    from experiments.running.execute import Outcome

EXIT_STATE_NOT_WRITTEN = 3  # exit code of a worker that could not write into a run's folder
EXIT_PROCESS_DIED = 4  # exit code of a worker that waited for a process of its run that died
POLL_SECONDS = 0.3


def how_it_ended(exit_code: int | None) -> str:
    """How a process ended, for people. exit_code: negative for a signal."""
    if exit_code is None:
        return "did not end"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    hint = " (perhaps for want of memory)" if -exit_code == signal.SIGKILL else ""
    return f"was killed by signal {-exit_code}{hint}"


def stop_with(parent: int) -> Callable[[], bool]:
    """Install the signal handlers of a worker; returns a function that says whether to stop.

    A worker stops on SIGTERM and when its parent process is gone. It ignores Ctrl-C, which the
    parent passes on as SIGTERM.

    parent: the parent's process number."""
    signals: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    return lambda: bool(signals) or os.getppid() != parent


def is_settled(run: PlannedRun, store: Store, started: float, lost: set[str]) -> bool:
    """Whether this command has nothing left to do for a run.

    A run is settled if it is complete, failed since `started`, or needs a run that is lost.

    started: when the command started (seconds since 1970).
    lost: runs that failed or cannot start; the run is added if it is one of these."""
    state = store.run(run.id).state()
    if state.name == "complete":
        return True
    failed = run.id in lost or (state.name == "failed" and state.updated >= started)
    if failed or lost.intersection(run.inputs.values()):
        lost.add(run.id)
        return True
    return False


def inputs_complete(run: PlannedRun, store: Store) -> bool:
    """Whether every run that `run` needs is complete. Files are checked when the run starts."""
    names = [name for name in run.inputs.values() if not name.startswith("file:")]
    return all(store.run(name).state().name == "complete" for name in names)


def work(
    devices: tuple[str, ...],
    runs: list[PlannedRun],
    store: Store,
    options: ComputeOptions,
    started: float,
    parent: int,
) -> None:
    """Compute runs until every run is settled. Writes a checkpoint and stops if asked to.

    Exits with EXIT_STATE_NOT_WRITTEN if the end of a run could not be written into its folder.

    devices: of the processes that compute a run together; the first one is this process's.
    runs: the runs of the plan.
    store: the results folder.
    options: resolved for this machine.
    started: when the command started (seconds since 1970).
    parent: the process number of the command."""
    worker = Worker(devices, runs, store, options, started, stop_with(parent))
    worker.run()
    sys.exit(EXIT_STATE_NOT_WRITTEN if worker.unwritable else 0)


class Worker:
    """The loop of a worker process. The arguments are those of `work`."""

    def __init__(
        self,
        devices: tuple[str, ...],
        runs: list[PlannedRun],
        store: Store,
        options: ComputeOptions,
        started: float,
        should_stop: Callable[[], bool],
    ) -> None:
        import torch

        provenance.commit()  # before somebody edits the code that this process has imported
        self.runs = list(runs)  # in the order of the plan: depth first, inputs before their users
        self.store = store
        self.options = options
        self.started = started
        self.should_stop = should_stop
        self.devices = devices
        device = torch.device(devices[0])
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)
        self.context = options.run_context(device, should_stop)
        self.lost: set[str] = set()
        self.unwritable = False

    def run(self) -> None:
        """Compute runs until all are settled or the worker is asked to stop."""
        while not self.should_stop():
            open_runs = [run for run in self.runs if not self._is_settled(run)]
            if not open_runs:
                return
            ready = (run for run in open_runs if inputs_complete(run, self.store))
            if not any(self._try_run(run) for run in ready):
                time.sleep(POLL_SECONDS)

    def _is_settled(self, run: PlannedRun) -> bool:
        return is_settled(run, self.store, self.started, self.lost)

    def _try_run(self, run: PlannedRun) -> bool:
        """Compute a run unless another process computes it; returns whether this process did."""
        import torch

        from experiments.running.execute import Outcome

        try:
            with self.store.run(run.id).lock() as free:
                if not free or self._is_settled(run):
                    return False
                torch.set_num_threads(self.options.threads)
                outcome = self._execute(run)
        except OSError as error:  # the lock file cannot be created
            reason = f"{error.filename}: {error.strerror}"
            outcome = Outcome("failed", reason, state_written=False)
        if not outcome.state_written:
            print(f"{run.id} {outcome.state}: {outcome.message}", file=sys.stderr)
            self.lost.add(run.id)
            self.unwritable = True
        return True

    def _execute(self, run: PlannedRun) -> "Outcome":
        """Compute a run whose lock is acquired, in this process or in a group of processes."""
        from experiments.running.execute import execute

        if len(self.devices) == 1:
            return execute(run, self.store, self.context)
        from experiments.running.local_group import execute_in_group

        return execute_in_group(run, self.store, self.options, self.devices, self.context)
