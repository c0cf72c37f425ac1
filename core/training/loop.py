"""The training loop: steps, accumulation, logging, checkpoints, milestones, resume."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from core.config import TrainingRun
from core.data.batches import Batch, ShuffledBatches
from core.data.word_images import Selection
from core.model.kernels.dropout import position_seeded_dropout
from core.runtime.artifacts import CHECKPOINT
from core.runtime.distributed import gradient_sync
from core.runtime.errors import UserError
from core.runtime.seeds import derive_seed
from core.training.checkpoint import (
    CheckpointPolicy,
    Counters,
    restore_checkpoint,
    save_checkpoint,
)
from core.training.metric_log import MetricLog
from core.training.micro_batches import split_batch, zero_weight_batch
from core.training.milestones import Milestones, reason_to_prune
from core.training.optim import learning_rate, make_optimizer, set_rate
from core.training.parameters import count_trainable, trainable
from core.training.run_context import Interrupted, RunContext, RunProgress, autocast
from core.training.schedule import Schedule
from core.training.stage_results import TrainingMetrics, ValidationScore
from core.training.task import LossTerms, TrainingTask

LOG_STEPS = 10  # losses are logged at every tenth step


def ignore(steps_done: int) -> None:
    """The default of `after_step`."""


class NonFiniteLoss(Exception):
    """Training diverged. The last checkpoint is kept; nothing is written after it."""


class TrainingLoop:
    """One training run: a model, its optimizer, its counters. Resumes from its checkpoint."""

    def __init__(
        self,
        task: TrainingTask,
        config: TrainingRun,
        groups: Sequence[Selection],
        folder: Path,
        context: RunContext,
        validate_every: int | None = None,
    ) -> None:
        """Restore the checkpoint in `folder`, if there is one, and open the metric log.

        task: the stage's model and losses.
        config: of the stage.
        groups: the images of `config.data.roots` and of its mix (`training_groups`).
        folder: of the run.
        context: how the run is computed.
        validate_every: steps between validations, besides those at the ends of epochs, or None.

        Raises UserError if the schedule has less than one step or the checkpoint does not fit."""
        self.task = task
        self.config = config
        self.folder = folder
        self.context = context
        self.validate_every = validate_every
        self.schedule = Schedule.of(config, groups)
        self.milestones = Milestones(context.milestones, self.schedule.total_steps)
        self.optimizer = make_optimizer(task.model, config.optimizer, config.encoder.depth)

        counters = restore_checkpoint(folder / CHECKPOINT, task.model, self.optimizer)
        self.step = counters.step
        self.images = counters.images
        self.seconds = counters.seconds
        self.unreadable = set(counters.unreadable)
        if len(set(context.process_group.all_gather(self.step))) > 1:
            raise UserError(
                f"{folder}: the processes read different checkpoints, as happens on a slow file"
                " system; run the same command again to resume"
            )
        self.last_losses: LossTerms = {}
        self.stopping = False
        self.prune_reason = ""
        self.log = MetricLog(folder, self.step) if context.process_group.is_main else None

    def order(self) -> ShuffledBatches:
        """Image numbers of the remaining batches, limited to this process's slice of each."""
        local_slice = self.context.process_group.local_slice(self.config.optimizer.batch)
        return self.schedule.batches(self.step, local_slice)

    def run(self, batches: Iterable[Batch], after_step: Callable[[int], None] = ignore) -> None:
        """Train on the batches of the remaining steps, which `order` lists.

        after_step: called after each step with the number of steps done.

        Raises Interrupted after saving a checkpoint, NonFiniteLoss if training diverges, and
        UserError if no image could be decoded."""
        now = time.monotonic()
        policy = CheckpointPolicy(self.context.checkpoint_seconds, now)
        reporter = ProgressReporter(self, now)
        try:
            for batch in batches:
                self._train_step(batch)
                after_step(self.step)
                now = time.monotonic()
                # No checkpoint after the last step: resuming from it would skip the work that
                # follows that step.
                if self.step < self.schedule.total_steps:
                    self._save_if_due(policy, now)
                reporter.report(now)
        finally:
            if self.log is not None:
                self.log.close()
        if not self.images:
            raise UserError(
                f"none of the {len(self.unreadable)} images could be decoded; check the data"
            )

    def _save_if_due(self, policy: CheckpointPolicy, now: float) -> None:
        if self.stopping:
            self.save()
            total_steps = self.schedule.total_steps
            reason = self.prune_reason or f"stopped after step {self.step} of {total_steps}"
            raise Interrupted(f"{reason}; its checkpoint is kept")
        if policy.is_due(now) or self.context.should_save():
            self.save()
            policy.record_saving(now, time.monotonic())

    def _train_step(self, batch: Batch) -> None:
        """One step with its logging, validation and milestone."""
        started = time.monotonic()
        step = self.step
        group = self.context.process_group
        rate = learning_rate(self.config.optimizer, step / self.schedule.steps_per_epoch)
        # The main process decides, so that all processes stop after the same step.
        asked_to_stop = group.is_main and self.context.should_stop()
        images, unreadable, stopping = group.all_reduce_counts(
            len(batch.indices), len(batch.unreadable), int(asked_to_stop)
        )
        losses = self.update(batch, images, rate) if images else {}
        self.last_losses = losses
        self.step = step + 1
        self.images += images
        self.stopping = bool(stopping)
        if unreadable:
            self.unreadable.update(*group.all_gather(batch.unreadable))
        if losses and (step % LOG_STEPS == 0 or self.step == self.schedule.total_steps):
            check_finite(losses, step)
            values = {name: float(value) for name, value in losses.items()}
            self._log(step, values | {"learning_rate": rate, "images": self.images})
        self._validate(step)
        self.seconds += time.monotonic() - started

    def _validate(self, step: int) -> None:
        """Validate if it is due, and at a milestone; ask there whether to stop."""
        milestone = self.milestones.share_at(self.step)
        if milestone is None:
            if self._is_validation_due():
                self._log(step, self.task.validate())
            return
        values = self.task.validate()
        self._log(step, values | {"milestone": milestone})
        self.prune_reason = reason_to_prune(self.context, milestone, values)
        self.stopping = self.stopping or bool(self.prune_reason)

    def _is_validation_due(self) -> bool:
        every = self.validate_every
        return self.schedule.ends_epoch(self.step) or bool(every and self.step % every == 0)

    def _log(self, step: int, values: dict[str, float]) -> None:
        if self.log is not None:
            self.log.write(step, values)

    def update(self, batch: Batch, images: int, rate: float) -> LossTerms:
        """One optimizer step at learning rate `rate`; returns the mean losses of the batch.

        images: how many images of the batch were decoded, in all processes."""
        losses = self._accumulate_gradients(batch, images)
        if self.context.device.type == "cpu":  # on a GPU, reading a loss would stall every step
            check_finite(losses, self.step)
        if self.config.optimizer.clip is not None:
            parameters = trainable(self.task.model).values()
            nn.utils.clip_grad_norm_(parameters, self.config.optimizer.clip)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return losses

    def _accumulate_gradients(self, batch: Batch, images: int) -> LossTerms:
        """Add up the gradients of all micro-batches; returns the mean losses of the batch."""
        group = self.context.process_group
        device = self.context.device
        seed = derive_seed(self.config.seed, "dropout", self.step)
        local = batch
        if not batch.indices:
            local = zero_weight_batch(batch, group, self.config.encoder.image)
        losses_of = self.task.prepare_batch(local, self.step)
        means: LossTerms = {}
        micro_batches = split_batch(local, self.context.micro_batch)
        for rows in micro_batches:
            weight = len(batch.indices[rows]) / images
            with (
                gradient_sync(self.task.network, rows is micro_batches[-1]),
                autocast(device, self.config.precision),
                position_seeded_dropout(self.task.model, seed, local.positions[rows], local.size),
            ):
                losses = losses_of(rows)
                # DistributedDataParallel divides gradients by the number of processes.
                torch.autograd.backward(losses["loss"] * (weight * group.size))
            for name, value in losses.items():
                mean = means.get(name, torch.zeros((), device=value.device))
                means[name] = mean + value.detach() * weight
        return group.all_reduce_sum(means)

    def metrics(
        self, dropped: dict[str, int], validation: ValidationScore | None = None
    ) -> TrainingMetrics:
        """What the stage records. dropped: reason -> images that were not used."""
        return TrainingMetrics(
            images_seen=self.images,
            steps=self.step,
            train_seconds=self.seconds,
            parameters=count_trainable(self.task.model),
            dropped=dropped,
            validation=validation,
        )

    def save(self) -> None:
        """Write the checkpoint (main process only). Raises NonFiniteLoss if training diverged."""
        if not self.context.process_group.is_main:
            return
        check_finite(self.last_losses, self.step - 1)
        counters = Counters(self.step, self.images, self.seconds, frozenset(self.unreadable))
        save_checkpoint(self.folder / CHECKPOINT, self.task.model, self.optimizer, counters)


class ProgressReporter:
    """Reports a training's progress once a second, with the rate since the last report."""

    def __init__(self, training: TrainingLoop, now: float) -> None:
        self.training = training
        self.last_report = now
        self.images_reported = training.images

    def report(self, now: float) -> None:
        """Report, unless the last report is less than a second old. The last step is reported."""
        step = self.training.step
        total = self.training.schedule.total_steps
        if now - self.last_report < 1 and step < total:
            return
        images = self.training.images
        rate = (images - self.images_reported) / max(now - self.last_report, 1e-9)
        images_left = (total - step) * self.training.config.optimizer.batch
        seconds_left = images_left / max(rate, 1e-9)
        self.training.context.on_progress(RunProgress(step, total, "steps", rate, seconds_left))
        self.last_report = now
        self.images_reported = images


def check_finite(losses: LossTerms, step: int) -> None:
    """Raise NonFiniteLoss unless every loss is finite."""
    for name, value in losses.items():
        if not math.isfinite(float(value)):
            raise NonFiniteLoss(
                f"{name} is {float(value)} at step {step}: training diverged;"
                " lower the learning rate, set optimizer.clip, or use precision fp32"
            )
