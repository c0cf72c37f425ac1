"""The one training loop: precision, accumulation, schedule, metrics, checkpoints, interruption, resume."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from core.config import Precision, TrainingRun, steps
from core.data.batches import Batch, ShuffledBatches
from core.data.word_images import Selection, WordImages
from core.model.kernels.dropout import position_seeded_dropout
from core.runtime import safetensors_io
from core.runtime.artefacts import CHECKPOINT, METRICS, TENSORBOARD
from core.runtime.distributed import SINGLE_PROCESS, ProcessGroup, synchronized
from core.runtime.errors import UserError
from core.runtime.files import write_text
from core.runtime.seeds import chunks_of, derive_seed
from core.training.optim import learning_rate, make_optimizer, set_rate

Losses = dict[str, Tensor]


class Interrupted(Exception):
    """The run was asked to stop; what it had done is in its checkpoint."""


class NonFiniteLoss(Exception):
    """Training diverged. Nothing is written from then on: the last checkpoint stands."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, for people. `done` and `total` count what `unit` says."""

    done: int
    total: int
    unit: str
    images_per_second: float
    seconds_left: float
    note: str = ""


@dataclass(frozen=True)
class RunContext:
    """How a run is computed; no part of its identity. It may change the last bits, no more."""

    device: torch.device
    micro_batch: int | None = (
        None  # images at a time (whole chunks: core/model/kernels/dropout.py); gradients add up to the batch's
    )
    num_workers: int = 0  # processes that read images
    checkpoint_seconds: float = (
        60.0  # between checkpoints; longer where writing one takes over 1 % of it
    )
    should_stop: Callable[[], bool] = lambda: False
    should_save: Callable[[], bool] = lambda: False  # a checkpoint is wanted now, for what may come
    milestones: tuple[float, ...] = ()  # shares of a training after which it is validated too
    should_prune: Callable[[float, Mapping[str, float]], str] = lambda share, values: (
        ""
    )  # at a milestone: why to stop there, or ""
    process_group: ProcessGroup = SINGLE_PROCESS
    on_progress: Callable[[Progress], None] = lambda progress: None

    @property
    def pinned(self) -> bool:
        """Whether batches are read into pinned memory, from which a GPU copies while it computes."""
        return self.device.type == "cuda"


class Task(Protocol):
    """What a stage brings to the loop."""

    @property
    def model(self) -> nn.Module:
        """Its trainable parameters are trained, its others left alone."""

    @property
    def network(self) -> nn.Module:
        """The model as the losses call it (`ProcessGroup.distribute`)."""

    def begin(self, batch: Batch, step: int) -> Callable[[slice], Losses]:
        """DropoutSeeds all that is random for the whole batch; return the losses of any slice of the images, as means over these.

        `loss` is the one minimized."""

    def validate(self) -> dict[str, float]:
        """Numbers to log at the end of an epoch and at milestones, e.g. validation accuracy. Changes nothing."""


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """bf16 where the config says so; fp32 weights and optimizer state in any case."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def exported_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a stage leaves: the trained parameters, and the encoder's position table, so that its kind is known."""
    return {**trainable(model), "encoder.positions": model.get_buffer("encoder.positions")}


def training_groups(
    config: TrainingRun, images: WordImages, unusable: Sequence[int]
) -> list[Selection]:
    """The images of `config.data.roots` and of its mix, each without those filtered and the unusable. Raises UserError."""
    mix = config.data.mix
    border = len(images) if mix is None else images.border
    groups = [images.selection(unusable, 0, border)]
    if mix is not None:
        groups.append(images.selection(unusable, border))
    if not all(map(len, groups)):
        raise UserError(
            f"{', '.join(images.roots)}: not one image is left to train on; `run.py data check` says why"
        )
    return groups


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, of those that are trained."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def trainable_parameters(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in trainable(model).values())


class Training:
    """One run of training: a model, its optimizer, its counters; goes on from the folder's checkpoint if there is one."""

    def __init__(
        self,
        task: Task,
        config: TrainingRun,
        groups: Sequence[Selection],
        folder: Path,
        context: RunContext,
    ) -> None:
        """groups: the images of `config.data`, and of its mix. Raises UserError if the schedule has not one step."""
        self.task, self.folder, self.context, self.groups = task, folder, context, groups
        self.config, self.seed, self.precision = config.optimizer, config.seed, config.precision
        self.image_size = config.encoder.image
        self.sizes = config.data.sizes(self.config.batch)
        epoch = config.data.epoch([len(group) for group in groups], self.config.batch)
        self.per_epoch, self.total = steps(epoch, self.config.batch, self.config.epochs)
        self.optimizer = make_optimizer(task.model, self.config, config.encoder.depth)
        self.step, self.images, self.seconds = 0, 0, 0.0
        self.latest: Losses = {}
        self.stopping = False
        at = {max(1, round(share * self.total)): share for share in context.milestones}
        self.milestones = {step: share for step, share in at.items() if step < self.total}
        self.should_prune = ""
        self.unreadable: set[int] = set()
        self._restore()
        if len(set(context.process_group.gather(self.step))) > 1:
            raise UserError(
                f"{folder}: the processes see different checkpoints; a slow file system? the same command goes on"
            )
        self.log = MetricLog(folder, self.step) if context.process_group.is_main else None

    def order(self) -> ShuffledBatches:
        """The batches of the steps still to be done."""
        share = self.context.process_group.local_slice(self.config.batch)
        return ShuffledBatches(self.groups, self.sizes, self.step, self.total, self.seed, share)

    def run(self, batches: Iterable[Batch]) -> None:
        """Train on the batches of the steps from `self.step` on. Raises Interrupted (after a checkpoint), NonFiniteLoss."""
        saved = shown = time.monotonic()
        interval, images_shown = self.context.checkpoint_seconds, self.images
        try:
            for batch in batches:
                self._one_step(batch)
                now = time.monotonic()
                going_on = (
                    self.step < self.total
                )  # the last step's checkpoint would skip what follows that step
                if going_on and self.stopping:
                    self.save()
                    reason = self.should_prune or f"stopped after step {self.step} of {self.total}"
                    raise Interrupted(f"{reason}; its checkpoint is kept")
                if going_on and (now - saved >= interval or self.context.should_save()):
                    self.save()
                    saved = time.monotonic()
                    interval = max(self.context.checkpoint_seconds, 100 * (saved - now))
                if now - shown >= 1 or self.step == self.total:
                    rate = (self.images - images_shown) / max(now - shown, 1e-9)
                    left = (self.total - self.step) * self.config.batch / max(rate, 1e-9)
                    self.context.on_progress(Progress(self.step, self.total, "steps", rate, left))
                    shown, images_shown = now, self.images
        finally:
            if self.log is not None:
                self.log.close()
        if not self.images:
            raise UserError(
                f"none of the {len(self.unreadable)} images could be decoded; check the data"
            )

    def _one_step(self, batch: Batch) -> None:
        started, step, team = time.monotonic(), self.step, self.context.process_group
        rate = learning_rate(self.config, step / self.per_epoch)
        asked = (
            team.is_main and self.context.should_stop()
        )  # the leader's word counts, so that all stop after the same step
        images, unreadable, stopping = team.totals(
            len(batch.indices), len(batch.unreadable), int(asked)
        )
        losses = self.latest = self.update(batch, images, rate) if images else {}
        self.step, self.images, self.stopping = step + 1, self.images + images, bool(stopping)
        if unreadable:
            self.unreadable.update(*team.gather(batch.unreadable))
        if losses and (step % 10 == 0 or self.step == self.total):
            check_finite(losses, step)
            values = {name: float(value) for name, value in losses.items()}
            self._log(step, values | {"learning_rate": rate, "images": self.images})
        share = self.milestones.get(self.step)
        if self.step % self.per_epoch == 0 or self.step == self.total or share is not None:
            values = self.task.validate()
            self._log(step, values if share is None else values | {"milestone": share})
            if share is not None:
                (self.should_prune, *_) = team.gather(
                    self.context.should_prune(share, values) if team.is_main else ""
                )
                self.stopping = self.stopping or bool(self.should_prune)
        self.seconds += time.monotonic() - started

    def _log(self, step: int, values: dict[str, float]) -> None:
        if self.log is not None:
            self.log.write(step, values)

    def update(self, batch: Batch, images: int, rate: float) -> Losses:
        """One optimizer step on a batch, in as many parts as the machine needs; returns the batch's mean losses.

        images: those of the batch that could be read, by all processes."""
        team, device = self.context.process_group, self.context.device
        seed = derive_seed(self.seed, "dropout", self.step)
        mine = batch if batch.indices else _blank(batch, team, self.image_size)
        losses_of = self.task.begin(mine, self.step)
        means: Losses = {}
        parts = _parts(mine, self.context.micro_batch)
        for part in parts:
            share = len(batch.indices[part]) / images
            with (
                synchronized(self.task.network, part is parts[-1]),
                autocast(device, self.precision),
                position_seeded_dropout(seed, mine.places[part], mine.size),
            ):
                losses = losses_of(part)
                (
                    losses["loss"] * (share * team.size)
                ).backward()  # DistributedDataParallel will divide by the team's size
            for name, value in losses.items():
                means[name] = (
                    means.get(name, torch.zeros((), device=value.device)) + value.detach() * share
                )
        means = team.all_reduce_sum(means)
        if device.type == "cpu":  # elsewhere reading it every step would stall the device
            check_finite(means, self.step)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(trainable(self.task.model).values(), self.config.clip)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return means

    def metrics(self) -> dict[str, object]:
        """What every training stage records."""
        return {
            "images_seen": self.images,
            "steps": self.step,
            "train_seconds": self.seconds,
            "parameters": trainable_parameters(self.task.model),
        }

    def save(self) -> None:
        """Write the checkpoint: trained weights, optimizer state, counters. Raises NonFiniteLoss rather than keep a wreck."""
        if not self.context.process_group.is_main:
            return
        check_finite(self.latest, self.step - 1)
        tensors: dict[str, Tensor] = {
            f"model.{name}": value for name, value in trainable(self.task.model).items()
        }
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        counters = {
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "threads": torch.get_num_threads(),
        }
        safetensors_io.save(
            self.folder / CHECKPOINT, tensors, counters | {"unreadable": sorted(self.unreadable)}
        )

    def _restore(self) -> None:
        if not (self.folder / CHECKPOINT).exists():
            return
        tensors, counters = safetensors_io.load(self.folder / CHECKPOINT)
        weights = {
            name.removeprefix("model."): value
            for name, value in tensors.items()
            if name.startswith("model.")
        }
        shapes = {name: value.shape for name, value in trainable(self.task.model).items()}
        if {name: value.shape for name, value in weights.items()} != shapes:
            reason = "does not fit this model; another version of the code wrote it"
            raise UserError(
                f"{self.folder / CHECKPOINT}: {reason}; delete it to start the run again"
            )
        self.task.model.load_state_dict(weights, strict=False)
        torch.set_num_threads(
            counters["threads"]
        )  # the order of summation, and with it the last bits, depends on them
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(("optimizer.", "optimiser.")):  # the latter in version 0.1
                _, number, key = name.split(".")
                state.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.step, self.images, self.seconds = (
            counters["step"],
            counters["images"],
            counters["seconds"],
        )
        self.unreadable = set(counters["unreadable"])


def _parts(batch: Batch, micro_batch: int | None) -> list[slice]:
    """The images of a batch in parts of whole chunks, each of at most `micro_batch` images where a chunk is no more."""
    if micro_batch is None:
        return [slice(0, len(batch.places))]
    parts: list[slice] = []
    for _, rows in chunks_of(batch.places, batch.size):
        if parts and rows.stop - parts[-1].start <= micro_batch:
            parts[-1] = slice(parts[-1].start, rows.stop)
        else:
            parts.append(rows)
    return parts


def _blank(batch: Batch, team: ProcessGroup, size: tuple[int, int]) -> Batch:
    """A black image of no weight, for a process none of whose images could be read: the others wait for its gradients."""
    return replace(
        batch,
        images=torch.zeros(1, 3, *size, dtype=torch.uint8),
        indices=[-1],
        labels=[""],
        places=[team.local_slice(batch.size).start],
    )


def check_finite(losses: Losses, step: int) -> None:
    """Raise NonFiniteLoss unless every loss is finite."""
    for name, value in losses.items():
        if not math.isfinite(float(value)):
            advice = "lower the learning rate, set optimizer.clip, or use precision fp32"
            raise NonFiniteLoss(
                f"{name} is {float(value)} at step {step}: training diverged; {advice}"
            )


class MetricLog:
    """Numbers by step, as JSON lines and for TensorBoard. Opened again at a step, it forgets what came later."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS
        if self.path.exists():
            lines = self.path.read_text().splitlines(keepends=True)
            kept = [
                line for line in lines if line.endswith("}\n") and json.loads(line)["step"] < step
            ]
            write_text(self.path, "".join(kept))
        self.file = self.path.open("a")
        self.board = SummaryWriter(str(folder / TENSORBOARD), purge_step=step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log `values`, if any, at `step`."""
        if not values:
            return
        self.file.write(json.dumps({"step": step} | values) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()
