"""Processes that decode images."""

import multiprocessing
import os
import pickle
import signal
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from commands import run_command
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


def test_batches_of_workers_need_no_shared_memory(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "words", [(jpeg(number), "word") for number in range(3)])
    order = [[0, 1], [2]]
    images = WordImages([root])
    (batch, _) = load_batches(images, (32, 128), order, labeled=True, num_workers=0)
    sent = ForkingPickler.dumps(batch)
    assert len(sent) > batch.images.numel()  # the values themselves, not a reference to them
    received = pickle.loads(sent)
    assert torch.equal(received.images, batch.images)
    assert (received.indices, received.labels) == (batch.indices, batch.labels)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["long", "absent"])
def test_workers_start_whatever_the_folder_of_temporary_files_is(kind: str, tmp_path: Path) -> None:
    """The path of a socket has at most about 100 characters; clusters set long TMPDIRs."""
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    if kind == "long":
        folder.mkdir(parents=True)
    root = write_lmdb(tmp_path / "words", [(jpeg(number), "word") for number in range(8)])
    code = (
        "from core.data.batches import load_batches\n"
        "from core.data.word_images import WordImages\n"
        "if __name__ == '__main__':\n"
        f"    images = WordImages([{str(root)!r}])\n"
        "    order = [[number] for number in range(8)]\n"
        "    loaded = load_batches(images, (32, 128), order, labeled=True, num_workers=2)\n"
        "    print([batch.indices for batch in loaded])\n"
    )
    environment = os.environ | {"TMPDIR": str(folder)}
    done = run_command([sys.executable, "-c", code], env=environment)
    assert done.stdout.strip() == str([[number] for number in range(8)]), done.stderr
