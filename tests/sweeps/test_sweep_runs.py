"""Trials with real runs: pruning, failures, and storages that do not answer for a moment."""

import errno
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from rich.console import Console
from sweep_helpers import (
    DECAY,
    PruneEverySecond,
    create_trials,
    recognizer_of,
    states_of,
)

import experiments.running.execute as execute_module
from core.runtime.artifacts import CHECKPOINT
from core.runtime.errors import UserError
from core.training.loop import NonFiniteLoss
from core.training.run_context import RunContext
from experiments.running.execute import execute
from experiments.running.run_stage import run_stage
from sweeps.engine import sweep_folder as sweep_folder_module
from sweeps.engine import worker as worker_module
from sweeps.engine.objective import logged_validations
from sweeps.engine.sweep_display import SweepDisplay
from sweeps.engine.trials import ClaimedTrial, Trials
from sweeps.engine.worker import run_trials

pytestmark = pytest.mark.slow


@pytest.fixture
def one_thread() -> RunContext:
    torch.set_num_threads(1)
    return RunContext(torch.device("cpu"))


@pytest.fixture
def prune_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_folder_module, "make_pruner", lambda search: PruneEverySecond())


def run_all(trials: Trials, context: RunContext) -> int:
    """Compute trials until the sweep is over; the number of trials that were finished."""
    return run_trials(trials, context, 0.0, threads=1, wait_for_others=True).finished


@pytest.mark.usefixtures("prune_every_second")
def test_pruned_trials_stop_at_a_milestone_and_keep_checkpoints_until_the_end(
    tmp_path: Path, one_thread: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = create_trials(tmp_path, space=DECAY, pruner={"kind": "median", "at": [0.25, 0.5]})
    checkpoint_exists: list[bool] = []
    finish = trials.finish

    def finish_and_look(
        claimed: ClaimedTrial, state: TrialState, value: float | None = None, reason: str = ""
    ) -> None:
        finish(claimed, state, value, reason)
        if state == TrialState.PRUNED:
            run = trials.store.run(recognizer_of(trials, claimed.number))
            checkpoint_exists.append((run.folder / CHECKPOINT).exists())

    monkeypatch.setattr(trials, "finish", finish_and_look)
    assert run_all(trials, one_thread) == 4
    assert states_of(trials) == ["COMPLETE", "PRUNED"] * 2
    assert [sorted(trial.intermediate_values) for trial in trials.all()] == [[25, 50]] * 4
    assert checkpoint_exists == [True, True]
    assert not list(trials.store.root.glob(f"runs/finetune-*/{CHECKPOINT}"))
    pretrainings = list(trials.store.root.glob("runs/pretrain-*"))
    assert len(pretrainings) == 2  # LMIM and its teacher, which all trials share
    run = trials.store.run(recognizer_of(trials, 1))
    assert run.state().name == "preempted"
    assert "pruned" in run.state().message
    assert [share for share, _ in logged_validations(run, (0.25, 0.5))] == [0.25, 0.5]


@pytest.mark.usefixtures("prune_every_second")
def test_a_decision_to_prune_is_kept_if_the_worker_dies(
    tmp_path: Path, one_thread: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = {"kind": "median", "at": [0.5]}
    trials = create_trials(tmp_path, space=DECAY, pruner=pruner, trials=2)
    finish = Trials.finish

    def die_at_pruning(
        self: Trials, claimed: ClaimedTrial, state: TrialState, *rest: Any, **named: Any
    ) -> None:
        if state == TrialState.PRUNED:
            raise MemoryError("the worker dies here")
        finish(self, claimed, state, *rest, **named)

    monkeypatch.setattr(Trials, "finish", die_at_pruning)
    with pytest.raises(MemoryError):
        run_all(trials, one_thread)
    monkeypatch.setattr(Trials, "finish", finish)
    run = trials.store.run(recognizer_of(trials, 1))
    # Another command has continued the run since, so its checkpoint must not be deleted.
    run.set_state("preempted", message="stopped after step 11 of 16; its checkpoint is kept")
    assert run_all(trials, one_thread) == 1
    assert states_of(trials) == ["COMPLETE", "PRUNED"]
    assert (run.folder / CHECKPOINT).exists()


def test_a_storage_error_at_a_report_fails_no_trial(
    tmp_path: Path, one_thread: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = optuna.Trial.report
    calls: list[Any] = []

    def fail_once(self: optuna.Trial, *rest: Any) -> None:
        calls.append(rest)
        if len(calls) == 2:
            raise optuna.exceptions.StorageInternalError("connection reset by peer")
        report(self, *rest)

    monkeypatch.setattr(optuna.Trial, "report", fail_once)
    monkeypatch.setattr(worker_module, "STORAGE_RETRY_SECONDS", 0.01)
    pruner = {"kind": "median", "at": [0.25, 0.5]}
    trials = create_trials(tmp_path, space=DECAY, pruner=pruner, trials=2)
    assert run_all(trials, one_thread) == 2
    assert states_of(trials) == ["COMPLETE"] * 2
    assert [sorted(trial.intermediate_values) for trial in trials.all()] == [[25, 50]] * 2


def test_workers_and_displays_survive_a_storage_that_does_not_answer(
    tmp_path: Path, one_thread: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Trials.fetch
    failing_calls = (1, 2, 5, 9, 14, 20, 27, 35)  # spread, so that each step succeeds at last
    calls: list[Trials] = []

    def fail_sometimes(self: Trials) -> list[optuna.trial.FrozenTrial]:
        calls.append(self)
        if len(calls) in failing_calls:
            raise optuna.exceptions.StorageInternalError("server closed the connection")
        return fetch(self)

    monkeypatch.setattr(worker_module, "STORAGE_RETRY_SECONDS", 0.01)
    trials = create_trials(tmp_path, space=DECAY, trials=2)
    monkeypatch.setattr(Trials, "fetch", fail_sometimes)
    run_all(trials, one_thread)
    monkeypatch.setattr(Trials, "fetch", fetch)
    assert states_of(trials) == ["COMPLETE"] * 2
    assert len(calls) > 20
    display = SweepDisplay(trials, Console(quiet=True))
    calls.clear()
    monkeypatch.setattr(Trials, "fetch", fail_sometimes)
    for _ in range(4):
        display.refreshed_at = 0.0
        display.refresh()
    assert len(calls) >= 4


@pytest.mark.usefixtures("prune_every_second")
def test_a_pruned_run_that_is_continued_ends_as_if_it_never_stopped(
    tmp_path: Path, one_thread: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trials, "delete_pruned_checkpoints", lambda self: None)
    pruner = {"kind": "median", "at": [0.3, 0.6]}
    trials = create_trials(tmp_path, space=DECAY, pruner=pruner, trials=2)
    run_all(trials, one_thread)
    name = recognizer_of(trials, 1)
    run = trials.store.run(name)
    assert (run.folder / CHECKPOINT).exists()
    planned = trials.search.plan("again", trials.all()[1].params, trials.store).runs[name]
    with run.lock():
        assert execute(planned, trials.store, one_thread).state == "complete"
    continued = (run.folder / "model.safetensors").read_bytes()
    shutil.rmtree(run.folder)
    with run.lock():
        assert execute(planned, trials.store, one_thread).state == "complete"
    assert (run.folder / "model.safetensors").read_bytes() == continued


def test_a_diverged_run_fails_its_trial_and_a_full_disk_stops_the_sweep(
    tmp_path: Path, one_thread: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    finetunings: list[str] = []

    def diverge_once(run: Any, *rest: Any) -> Any:
        if run.stage == "finetune":
            finetunings.append(run.id)
            if len(finetunings) == 1:
                raise NonFiniteLoss("loss is nan at step 3: training diverged")
        return run_stage(run, *rest)

    monkeypatch.setattr(execute_module, "run_stage", diverge_once)
    trials = create_trials(tmp_path, space=DECAY, trials=2)
    assert run_all(trials, one_thread) == 3
    assert states_of(trials) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "diverged" in trials.state(trials.all()[0]).message

    def fill_disk(run: Any, *rest: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(execute_module, "run_stage", fill_disk)
    more = create_trials(tmp_path, space=DECAY, trials=3)
    for _ in range(2):
        with pytest.raises(UserError, match="No space left"):
            run_all(more, one_thread)
    monkeypatch.setattr(execute_module, "run_stage", run_stage)
    assert run_all(more, one_thread) == 1
    assert states_of(more) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def first_max_length(trials: Trials) -> Any:
    """The value of the first trial, which is claimed and released."""
    with trials.claim(0.0) as claimed:
        assert claimed is not None
        return claimed.values["finetune.max_length"]


def test_an_impossible_trial_stops_a_new_sweep_once_and_is_then_replaced(
    tmp_path: Path, one_thread: RunContext
) -> None:
    space = {"finetune.max_length": {"categorical": [2, 16]}}  # labels have three letters or more
    sampler = {"kind": "random", "seed": 4}
    trials = create_trials(tmp_path, space=space, trials=2, recipe_first=False, sampler=sampler)
    if first_max_length(trials) == 2:
        with pytest.raises(UserError, match="no usable label"):
            run_all(trials, one_thread)
    run_all(trials, one_thread)
    ends = [(trial.params["finetune.max_length"], trial.state.name) for trial in trials.all()]
    assert (2, "FAIL") in ends
    assert ends.count((16, "COMPLETE")) == 2
