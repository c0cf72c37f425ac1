"""Processes that decode images."""

import multiprocessing
import os
import signal
from pathlib import Path

from conftest import jpeg, write_lmdb

from core.data.batches import load_batches
from core.data.word_images import WordImages


def test_worker_processes_ignore_the_signals_of_a_scheduler(tmp_path: Path) -> None:
    """A scheduler sends them to all processes of a job; the training process reacts."""
    count = 40
    root = write_lmdb(tmp_path / "words", [(jpeg(number), "word") for number in range(count)])
    order = [[number] for number in range(count)]
    batches = iter(load_batches(WordImages([root]), (32, 128), order, labeled=True, num_workers=1))
    loaded = [next(batches).indices]
    for number in (signal.SIGTERM, signal.SIGUSR2):
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, number)
    loaded += [batch.indices for batch in batches]
    assert loaded == order
