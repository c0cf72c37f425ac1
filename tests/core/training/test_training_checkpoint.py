"""The checkpoint of a training: when it is saved, and which files are accepted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from line_task import LineTask, make_loop, train, weights

from core.runtime import safetensors_io
from core.runtime.artifacts import CHECKPOINT
from core.runtime.errors import UserError
from core.training.checkpoint import CheckpointPolicy, Counters
from core.training.run_context import Interrupted, RunContext


def stop_after(steps: int) -> Callable[[], bool]:
    answers = iter([False] * (steps - 1) + [True])
    return lambda: next(answers)


def test_a_checkpoint_is_due_after_the_interval() -> None:
    policy = CheckpointPolicy(60, now=100)
    assert not policy.is_due(159)
    assert policy.is_due(160)
    policy.record_saving(160, 160.5)
    assert not policy.is_due(220)
    assert policy.is_due(220.5)


def test_writing_checkpoints_takes_at_most_one_percent_of_the_time() -> None:
    policy = CheckpointPolicy(60, now=0)
    policy.record_saving(60, 65)
    assert policy.interval == pytest.approx(500)
    assert not policy.is_due(564)
    assert policy.is_due(565)


def test_counters_are_restored_from_their_json() -> None:
    counters = Counters(step=3, images=24, seconds=1.5, unreadable=frozenset({7, 2}))
    metadata = counters.to_json()
    assert metadata["unreadable"] == [2, 7]
    assert metadata["threads"] == torch.get_num_threads()
    assert Counters.from_json(metadata) == counters


def test_a_checkpoint_of_version_0_1_is_resumed(tmp_path: Path, context: RunContext) -> None:
    """Its optimizer's tensors have the prefix `optimiser.`."""
    whole = train(tmp_path / "whole", context)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", replace(context, should_stop=stop_after(7)))
    path = tmp_path / "cut" / CHECKPOINT
    tensors, metadata = safetensors_io.load(path)
    former = {name.replace("optimizer.", "optimiser."): value for name, value in tensors.items()}
    assert former.keys() != tensors.keys()
    safetensors_io.save(path, former, metadata)
    assert torch.equal(weights(train(tmp_path / "cut", context)), weights(whole))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, context: RunContext) -> None:
    make_loop(tmp_path, context).save()
    with pytest.raises(UserError, match=f"{CHECKPOINT}: does not fit this model"):
        make_loop(tmp_path, context, LineTask(hidden=9))
