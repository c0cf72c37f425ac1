"""A small regression that runs through the training loop, for tests of the loop."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from conftest import STAGE
from torch import nn

from core.config import Encoder, Finetune, Optimizer, TextDecoder
from core.data.batches import Batch
from core.data.word_images import Selection
from core.training.loop import TrainingLoop
from core.training.run_context import RunContext
from core.training.task import LossTerms

BATCH = 8
IMAGES = 40  # five steps per epoch, of which 20 make the training
OPTIMIZER = Optimizer(base_lr=0.1, batch=BATCH, epochs=4, warmup_epochs=1)


class LineTask:
    """Fits the sum of four numbers."""

    def __init__(self, diverges_at: int = -1, hidden: int = 8) -> None:
        torch.manual_seed(0)
        self.model = self.network = nn.Sequential(
            nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )
        self.diverges_at = diverges_at

    def prepare_batch(self, batch: Batch, step: int) -> Callable[[slice], LossTerms]:
        factor = math.nan if step == self.diverges_at else 1.0

        def losses(rows: slice) -> LossTerms:
            x = batch.images[rows].float()
            return {"loss": factor * (self.model(x) - x.sum(1, keepdim=True)).square().mean()}

        return losses

    def validate(self) -> dict[str, float]:
        return {"validated": 1}


def batches(first: int, stop: int) -> Iterator[Batch]:
    """The batches of steps `first` to `stop`."""
    numbers = list(range(BATCH))
    for step in range(first, stop):
        images = torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(step))
        yield Batch(images, numbers, [""] * BATCH, [], numbers, BATCH)


def make_loop(
    folder: Path,
    context: RunContext,
    task: LineTask | None = None,
    optimizer: Optimizer = OPTIMIZER,
) -> TrainingLoop:
    """A loop over 40 images, resumed from the folder's checkpoint."""
    config = Finetune(
        encoder=Encoder(), decoder=TextDecoder(), **(STAGE | {"optimizer": optimizer})
    )
    images = Selection(0, IMAGES, np.empty(0, dtype=int))
    return TrainingLoop(task or LineTask(), config, [images], folder, context)


def train(folder: Path, context: RunContext, optimizer: Optimizer = OPTIMIZER) -> TrainingLoop:
    """A training from the folder's checkpoint to its last step."""
    training = make_loop(folder, context, optimizer=optimizer)
    training.run(batches(training.step, training.schedule.total_steps))
    return training


def weights(training: TrainingLoop) -> torch.Tensor:
    """All weights of the model, in one vector."""
    parameters = training.task.model.parameters()
    return torch.cat([parameter.detach().flatten() for parameter in parameters])
