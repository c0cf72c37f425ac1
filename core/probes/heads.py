"""What all heads of a probe have in common: training words, held-out words, predictions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from core.config import Probe
from core.probes.features import FeatureBatch, WordFeatures
from core.probes.results import HeadPrediction
from core.probes.words import SelectedWords
from core.runtime.seeds import generator
from core.training.run_context import RunContext


class TrainedHead(Protocol):
    """A head after training."""

    @property
    def summary(self) -> dict[str, Any]:
        """What the training records."""

    def predict(self, batch: FeatureBatch, words: SelectedWords) -> list[HeadPrediction]:
        """The prediction for each word of a batch. words: of the subset."""


@dataclass(frozen=True)
class HeadTraining:
    """What a head is trained with: the config, features of the training words, the context."""

    config: Probe
    features: WordFeatures
    context: RunContext


def shuffled_batches(numbers: list[int], batch: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Word numbers of `steps` batches. Each epoch has its own order; its remainder is left out.

    numbers: of the training words.
    batch: words of a batch; a smaller training set is one batch.
    steps: how many batches.
    seed: of the run."""
    per_epoch = max(len(numbers) // batch, 1)
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            source = generator(seed, "probe", "order", epoch)
            order = torch.randperm(len(numbers), generator=source).tolist()
        rows = order[position * batch : (position + 1) * batch]
        yield [numbers[row] for row in rows]
