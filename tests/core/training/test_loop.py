"""The training loop: accumulation, resume, interruption, divergence."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from line_task import OPTIMIZER, LineTask, batches, make_loop, train, weights

from core.data.batches import Batch
from core.runtime.artifacts import CHECKPOINT, METRICS
from core.runtime.errors import UserError
from core.training.loop import NonFiniteLoss
from core.training.run_context import Interrupted, RunContext, RunProgress


def test_accumulated_gradients_equal_one_large_batch(tmp_path: Path, context: RunContext) -> None:
    whole = train(tmp_path / "whole", context)
    parts = train(tmp_path / "parts", replace(context, micro_batch=3))
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)


def test_a_resumed_run_equals_an_uninterrupted_run(tmp_path: Path, context: RunContext) -> None:
    whole = train(tmp_path / "whole", context)
    answers = iter([False] * 6 + [True])
    with pytest.raises(Interrupted, match="step 7 of 20"):
        train(tmp_path / "cut", replace(context, should_stop=lambda: next(answers)))
    resumed = train(tmp_path / "cut", context)
    assert torch.equal(weights(resumed), weights(whole))
    assert (resumed.step, resumed.images) == (whole.step, whole.images) == (20, 160)
    logs = [(tmp_path / name / METRICS).read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_checkpoint_is_saved_when_asked_for_and_not_after_the_last_step(
    tmp_path: Path, context: RunContext
) -> None:
    answers = iter(range(1, 20))  # one question less than there are steps
    training = train(tmp_path, replace(context, should_save=lambda: next(answers) == 19))
    assert next(answers, None) is None
    resumed = make_loop(tmp_path, context)
    assert (resumed.step, training.step) == (19, 20)


def test_clipping_bounds_the_step(tmp_path: Path, context: RunContext) -> None:
    free = OPTIMIZER.model_copy(update={"weight_decay": 0.0})
    clipped = free.model_copy(update={"clip": 1e-9})
    trainings = [
        train(tmp_path / name, context, config) for name, config in (("a", clipped), ("b", free))
    ]
    assert not torch.equal(*map(weights, trainings))


def test_a_non_finite_loss_stops_before_it_changes_the_weights(
    tmp_path: Path, context: RunContext
) -> None:
    training = make_loop(tmp_path, context, LineTask(diverges_at=5))
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 5: training diverged"):
        training.run(batches(0, 20))
    assert torch.isfinite(weights(training)).all()


def test_a_batch_without_a_readable_image_changes_nothing(
    tmp_path: Path, context: RunContext
) -> None:
    training = make_loop(tmp_path, context)
    before = weights(training)
    with pytest.raises(UserError, match="none of the 2 images"):
        training.run([Batch(torch.empty(0), [], [], [7, 9], [], 2)])
    assert torch.equal(weights(training), before)
    assert (training.step, training.images, training.unreadable) == (1, 0, {7, 9})


def test_non_finite_weights_are_never_saved(tmp_path: Path, context: RunContext) -> None:
    training = make_loop(tmp_path, context)
    training.last_losses = {"loss": torch.tensor(math.nan)}
    with pytest.raises(NonFiniteLoss):
        training.save()
    assert not (tmp_path / CHECKPOINT).exists()


def test_the_last_step_is_reported(tmp_path: Path, context: RunContext) -> None:
    reports: list[RunProgress] = []
    train(tmp_path, replace(context, on_progress=reports.append))
    last = reports[-1]
    assert (last.done, last.total, last.unit, last.seconds_left) == (20, 20, "steps", 0)
    assert last.images_per_second > 0
