"""The order in which images are shown, and their batches."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from core.data.word_images import Selection, WordImages
from core.runtime.processes import leave_signals
from core.runtime.seeds import generator

PART = 1 << 20  # images shuffled at a time


@dataclass(frozen=True)
class Batch:
    """Images of one step: those that could be read, their numbers in the data set, their labels ("" where none).

    unreadable: numbers of those that could not; under policy `released` another sample stands for them all the same.
    places: where the images stood in the step's batch of `size`, of which this may be one process's share."""

    images: Tensor  # (B, 3, H, W) uint8
    indices: list[int]
    labels: list[str]
    unreadable: list[int]
    places: list[int]
    size: int

    def pin_memory(self) -> "Batch":
        """As DataLoader asks of what it is to pin."""
        return replace(self, images=self.images.pin_memory())


_Sample = tuple[
    int, Tensor | None, str, bool
]  # number, image, label, whether the number's own image could be read


class _Read(Dataset[_Sample]):
    def __init__(
        self, images: WordImages, size: tuple[int, int], labeled: bool, limit: int | None
    ) -> None:
        self.images, self.size, self.labeled, self.limit = images, size, labeled, limit
        self.left_out = frozenset(images.left_out.tolist())

    def __getitem__(self, index: int) -> _Sample:
        own = self.images.image(index, self.size)
        if self.limit is None:
            return (
                index,
                own,
                (self.images.label(index) or "") if self.labeled else "",
                own is not None,
            )
        first, last = (
            (0, self.images.border)
            if index < self.images.border
            else (self.images.border, len(self.images))
        )
        for other in chain(
            range(index, last), range(first, index)
        ):  # as the released code: a later sample instead
            if other in self.left_out:
                continue
            label = self.images.label(other) or ""
            if 0 < len(label) < self.limit:
                image = own if other == index else self.images.image(other, self.size)
                if image is not None:
                    return index, image, label, own is not None
        return index, None, "", False


def _collate(samples: list[_Sample], first: int, size: int | None) -> Batch:
    whole = [
        (place, *sample) for place, sample in enumerate(samples, first) if sample[1] is not None
    ]
    return Batch(
        images=torch.stack([image for _, _, image, _, _ in whole if image is not None])
        if whole
        else torch.empty(0),
        indices=[index for _, index, _, _, _ in whole],
        labels=[label for _, _, _, label, _ in whole],
        unreadable=[index for index, _, _, readable in samples if not readable],
        places=[place for place, *_ in whole],
        size=len(samples) if size is None else size,
    )


class Shuffled:
    """An endless walk over a selection: every epoch shows each image once, in an order derived from (seed, epoch) alone.

    More than 2^20 images are shuffled in parts of at most that size, each spread evenly over the whole, in a random order:
    an epoch starts at once and memory stays flat, whatever the size."""

    def __init__(self, selection: Selection, seed: int, name: str) -> None:
        self.selection, self.seed, self.name = selection, seed, name
        self._parts = -(-len(selection) // PART)
        self._drawn: tuple[int, int] | None = None
        self._order = np.empty(0, dtype=np.int64)

    def take(self, start: int, count: int) -> list[int]:
        """`count` images from position `start` of the walk on."""
        taken: list[int] = []
        while count:
            epoch, position = divmod(start, len(self.selection))
            order = self._part(epoch, position)
            first = position - self._before
            piece = order[first : first + count]
            taken += self.selection[piece].tolist()
            start, count = start + len(piece), count - len(piece)
        return taken

    def _part(self, epoch: int, position: int) -> np.ndarray:
        """The shuffled part of an epoch that holds a position; sets `_before`, the position of its first image."""
        total, self._before = len(self.selection), 0
        for part in torch.randperm(
            self._parts, generator=generator(self.seed, self.name, "parts", epoch)
        ).tolist():
            size = len(range(part, total, self._parts))
            if position < self._before + size:
                break
            self._before += size
        if self._drawn != (epoch, part):
            shuffle = torch.randperm(
                size, generator=generator(self.seed, self.name, epoch, part)
            ).numpy()
            self._drawn, self._order = (epoch, part), shuffle * self._parts + part
        return self._order


class ShuffledBatches(Sampler[list[int]]):
    """The batches of steps `start` to `stop`. Each takes `sizes[i]` images of `groups[i]`, which walks on by itself.

    share: the places of a batch that this process takes; None stands for all."""

    def __init__(
        self,
        groups: Sequence[Selection],
        sizes: Sequence[int],
        start: int,
        stop: int,
        seed: int,
        share: slice | None = None,
    ) -> None:
        self.groups, self.sizes, self.start, self.stop, self.seed = groups, sizes, start, stop, seed
        self.share = share or slice(0, sum(sizes))

    def __iter__(self) -> Iterator[list[int]]:
        walks = [
            Shuffled(group, self.seed, f"order {number}")
            for number, group in enumerate(self.groups)
        ]
        for step in range(self.start, self.stop):
            whole = [
                image
                for walk, size in zip(walks, self.sizes, strict=True)
                for image in walk.take(step * size, size)
            ]
            yield whole[self.share]

    def __len__(self) -> int:
        return self.stop - self.start


def load_batches(
    images: WordImages,
    size: tuple[int, int],
    batches: Iterable[list[int]],
    *,
    labeled: bool,
    workers: int,
    limit: int | None = None,
    pinned: bool = False,
) -> DataLoader[Batch]:
    """Read the batches named by `batches`, in order, decoded to `size`, with `workers` processes (0: this one).

    limit: policy `released`: a broken image, or a label of so many characters, gives way to the next sample that fits.
    pinned: into memory that a GPU copies from while it computes."""
    collate = partial(_collate, first=0, size=None)
    if isinstance(batches, ShuffledBatches):
        collate = partial(_collate, first=batches.share.start, size=sum(batches.sizes))
    return DataLoader(
        _Read(images, size, labeled, limit),  # type: ignore[arg-type]  # indexed by the sampler, it needs no length
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=leave_signals,
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
    )


def to_unit(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images -> floats in [0, 1] on the device."""
    return images.to(device, non_blocking=True).float() / 255


def normalize(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]: mean 0.5, standard deviation 0.5."""
    return images * 2 - 1
