"""Processes that work for this one."""

import os
import signal
import threading
import time


def end_with_parent(parent: int) -> None:
    """Let this process end when the one that feeds it was killed, and leave Ctrl-C, which reaches both, to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
