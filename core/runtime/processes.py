"""Processes that work for this one."""

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """So many fresh processes that end with this one."""
    return ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)
    )


def leave_signals(*_: object) -> None:
    """Go on when somebody stops all processes of a command or a job: the one that feeds this one decides what becomes of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def end_with_parent(parent: int) -> None:
    """Let this process end when the one that feeds it was killed, and leave signals that reach both to that one."""
    leave_signals()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
