"""A run whose disk becomes full: its state is failed, one sentence says what to do, it resumes."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from planned_training import planned_finetuning
from safetensors import SafetensorError

from core.runtime import files, safetensors_io
from core.runtime.artifacts import CHECKPOINT
from core.training.metric_log import MetricLog
from core.training.run_context import RunContext
from experiments.planning.plan import PlannedRun
from experiments.running import capacity
from experiments.running.execute import Outcome, execute
from results.store import Run, State, Store

Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def training(tmp_path: Path) -> PlannedRun:
    return planned_finetuning(tmp_path / "words")


def no_space(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def over_quota(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def fail_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetricLog, "write", no_space)


def fail_log_by_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetricLog, "write", over_quota)


def fail_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def save_file(*_: Any) -> NoReturn:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors_io, "save_file", save_file)


def fail_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "write_json", no_space)


def fail_every_new_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a full disk does: no temporary file can be written, whatever it is for."""

    @contextmanager
    def atomic_path(path: Path) -> Iterator[Path]:
        no_space()
        yield path

    def write(log: MetricLog, *_: Any) -> NoReturn:
        monkeypatch.setattr(files, "atomic_path", atomic_path)
        no_space()

    monkeypatch.setattr(MetricLog, "write", write)


FAULTS = [fail_log, fail_log_by_quota, fail_weights, fail_record, fail_every_new_file]


def execute_locked(run: PlannedRun, store: Store, context: RunContext) -> Outcome:
    with store.run(run.id).lock():
        return execute(run, store, context)


def check_failed_state(state: State, folder: Path) -> None:
    assert state.name == "failed"
    assert state.user_error
    assert str(folder) in state.message
    assert "space" in state.message
    assert "run the same command again" in state.message
    assert "\n" not in state.message


@pytest.mark.parametrize("fault", FAULTS)
def test_a_full_disk_fails_the_run_and_the_same_command_resumes(
    training: PlannedRun,
    tmp_path: Path,
    context: RunContext,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    store = Store(tmp_path / "results")
    folder = store.run(training.id)
    with monkeypatch.context() as patched:
        folder.set_state("planned")
        fault(patched)
        outcome = execute_locked(training, store, context)
    assert outcome.environment_failure
    assert outcome.state_written
    check_failed_state(folder.state(), folder.folder)
    assert execute_locked(training, store, context) == Outcome("complete")


def test_a_checkpoint_that_does_not_fit_keeps_the_one_before(
    training: PlannedRun, tmp_path: Path, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results")
    checkpoint = store.run(training.id).folder / CHECKPOINT
    stopping = replace(context, should_stop=lambda: True)
    assert execute_locked(training, store, stopping).state == "preempted"
    first_checkpoint = checkpoint.read_bytes()
    with monkeypatch.context() as patched:
        fail_weights(patched)
        outcome = execute_locked(training, store, stopping)
    assert (outcome.state, outcome.environment_failure) == ("failed", True)
    check_failed_state(store.run(training.id).state(), checkpoint)
    assert checkpoint.read_bytes() == first_checkpoint
    assert execute_locked(training, store, context) == Outcome("complete")


def test_other_errors_of_a_file_are_not_overwritten_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    run.set_state("running")

    def fail(*_: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("results.store.write_text", fail)
    with pytest.raises(PermissionError):
        run.set_state("failed")


@pytest.mark.parametrize("message", ["", "short", "long " * 100])
def test_a_state_is_overwritten_whole_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    run = Run(tmp_path)
    run.set_state("running", message="a message of fair length", device="cuda:1")
    monkeypatch.setattr("results.store.write_text", no_space)
    run.set_state("failed", message=message)
    assert (run.state().name, run.state().message) == ("failed", message)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_run_on_a_disk_without_a_free_byte_is_failed_and_resumes(
    training: PlannedRun, small_disk: Path, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(small_disk)
    run = store.run(training.id)
    filler = small_disk / "filler"

    def fill(*_: object) -> bool:
        with filler.open("ab") as file:
            while True:
                try:
                    file.write(bytes(4096))
                    file.flush()
                except OSError:
                    return True

    monkeypatch.setattr(capacity, "check_disk", lambda *_: None)
    outcome = execute_locked(training, store, replace(context, should_stop=fill))
    assert (outcome.state, outcome.environment_failure) == ("failed", True)
    check_failed_state(run.state(), run.folder)
    filler.unlink()
    assert execute_locked(training, store, context) == Outcome("complete")
