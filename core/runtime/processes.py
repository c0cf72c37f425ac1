"""Cores, and worker processes that end with their parent and ignore its stop signals."""

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def cores() -> int:
    """Cores that this process may use; in a SLURM job, the cores that the job was given."""
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    return min(usable, int(os.environ.get("SLURM_CPUS_PER_TASK", usable)))


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of `processes` spawned (not forked) processes that end when this process ends."""
    return ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=exit_with_parent, initargs=(os.getpid(),)
    )


def ignore_signals(*_: object) -> None:
    """Ignore signals that stop a command or a job. The parent process decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def exit_with_parent(parent: int) -> None:
    """Ignore stop signals, and exit within a second after process `parent` (an id) has ended."""
    ignore_signals()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
