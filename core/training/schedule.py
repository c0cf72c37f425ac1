"""The steps of a training: which images they use, how many, in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.config import TrainingRun, steps
from core.data.batches import ShuffledBatches
from core.data.word_images import Selection, WordImages
from core.runtime.errors import UserError


def training_groups(
    config: TrainingRun, images: WordImages, unusable: Sequence[int]
) -> list[Selection]:
    """The images of `config.data.roots` and, separately, of `config.data.mix`.

    config: of the run.
    images: those of the roots, then those of the mix.
    unusable: numbers of images to leave out, besides those that a filter list names.

    Raises UserError if a group is empty."""
    mix = config.data.mix
    border = len(images) if mix is None else images.mixed_start
    groups = [images.selection(unusable, 0, border)]
    if mix is not None:
        groups.append(images.selection(unusable, border))
    if not all(map(len, groups)):
        raise UserError(
            f"{', '.join(images.roots)}: no image is left to train on;"
            " `run.py data check` shows why"
        )
    return groups


@dataclass(frozen=True)
class Schedule:
    """Number of steps and the composition of every batch."""

    groups: Sequence[Selection]  # the images of the roots, and of the mix
    sizes: Sequence[int]  # images of each group in a batch
    seed: int
    steps_per_epoch: int
    total_steps: int

    @classmethod
    def of(cls, config: TrainingRun, groups: Sequence[Selection]) -> "Schedule":
        """The schedule of a config. Raises UserError if it has less than one step."""
        batch = config.optimizer.batch
        epoch = config.data.epoch_size([len(group) for group in groups], batch)
        steps_per_epoch, total_steps = steps(epoch, batch, config.optimizer.epochs)
        sizes = config.data.group_sizes(batch)
        return cls(groups, sizes, config.seed, steps_per_epoch, total_steps)

    def batches(self, first_step: int, local_slice: slice) -> ShuffledBatches:
        """Image numbers of the batches from `first_step` on; `local_slice` of each."""
        return ShuffledBatches(
            self.groups, self.sizes, first_step, self.total_steps, self.seed, local_slice
        )

    def ends_epoch(self, steps_done: int) -> bool:
        """Whether an epoch, or the training, ends after `steps_done` steps."""
        return steps_done % self.steps_per_epoch == 0 or steps_done == self.total_steps
