"""Batches of word images, and the order in which training shows the images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from core.data.word_images import Numbers, Selection, WordImages
from core.runtime.processes import ignore_signals
from core.runtime.seeds import generator

SHUFFLE_PART = 1 << 20  # maximal number of images that are shuffled at once


@dataclass(frozen=True)
class Batch:
    """The decoded images of one step, or of one process's slice of it."""

    images: Tensor  # (B, 3, H, W) uint8; the images that could be read
    indices: list[int]  # (B) their numbers in the data set
    labels: list[str]  # (B) "" if there is none
    # Numbers of images that could not be read. Under policy `released`, `images` has a later sample
    # instead.
    unreadable: list[int]
    positions: list[int]  # (B) positions of the images in the step's batch
    size: int  # images of the step's batch, in all processes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the images as bytes, not in shared memory.

        Shared memory can be too small (64 MB in a container by default), and tensors in it are sent
        through sockets whose paths can be too long (a long TMPDIR); a worker then hangs for ever.
        """
        content = (self.indices, self.labels, self.unreadable, self.positions, self.size)
        return _batch_of_array, (self.images.numpy(), *content)

    def pin_memory(self) -> "Batch":
        """The batch in pinned memory; DataLoader calls this."""
        return replace(self, images=self.images.pin_memory())


def _batch_of_array(images: np.ndarray, *content: Any) -> Batch:
    """The inverse of `Batch.__reduce__`."""
    return Batch(torch.from_numpy(images), *content)


class _LoadedImage(NamedTuple):
    number: int  # in the data set
    image: Tensor | None  # (3, H, W) uint8
    label: str
    readable: bool  # whether the image of this number could be read


class _DecodedImages(Dataset[_LoadedImage]):
    """Word images, decoded to `size`. With `label_limit`, by label policy `released`."""

    def __init__(
        self,
        images: WordImages,
        size: tuple[int, int],
        labeled: bool,
        label_limit: int | None,
    ) -> None:
        self.images = images
        self.size = size
        self.labeled = labeled
        self.label_limit = label_limit
        self.filtered = frozenset(images.filtered.tolist())

    def __getitem__(self, index: int) -> _LoadedImage:
        image = self.images.image(index, self.size)
        if self.label_limit is None:
            label = self.images.label(index) if self.labeled else None
            return _LoadedImage(index, image, label or "", image is not None)
        return self._with_substitute(index, image, self.label_limit)

    def _with_substitute(self, index: int, image: Tensor | None, limit: int) -> _LoadedImage:
        """The sample, or the next one in its group whose image and label fit."""
        border = self.images.mixed_start
        first, last = (0, border) if index < border else (border, len(self.images))
        for candidate in chain(range(index, last), range(first, index)):
            if candidate in self.filtered:
                continue
            label = self.images.label(candidate) or ""
            if not 0 < len(label) < limit:
                continue
            substitute = image if candidate == index else self.images.image(candidate, self.size)
            if substitute is not None:
                return _LoadedImage(index, substitute, label, image is not None)
        return _LoadedImage(index, None, "", False)


def _collate(samples: list[_LoadedImage], first: int, size: int | None) -> Batch:
    """The batch of some samples.

    Args:
        samples: One for each position, in order.
        first: Position of the first sample in the step's batch.
        size: Images of the step's batch. None: the samples are the whole batch.
    """
    images = []
    indices = []
    labels = []
    positions = []
    for position, sample in enumerate(samples, first):
        if sample.image is not None:
            images.append(sample.image)
            indices.append(sample.number)
            labels.append(sample.label)
            positions.append(position)
    return Batch(
        images=torch.stack(images) if images else torch.empty(0),
        indices=indices,
        labels=labels,
        unreadable=[sample.number for sample in samples if not sample.readable],
        positions=positions,
        size=len(samples) if size is None else size,
    )


class ShuffledOrder:
    """An endless sequence of images in which every epoch has each image of a selection once.

    The order of an epoch follows from (seed, name, epoch) alone. More than 2^20 images are shuffled
    in parts of at most that size. Each part is spread evenly over the selection, and the parts come
    in random order. So an epoch starts at once and memory is bounded at any size.
    """

    def __init__(self, selection: Selection, seed: int, name: str) -> None:
        self.selection = selection
        self.seed = seed
        self.name = name
        self._parts = -(-len(selection) // SHUFFLE_PART)
        self._shuffled_part: tuple[int, int] | None = None  # (epoch, part) of `_order`
        self._order: Numbers = np.empty(0, dtype=np.int64)

    def numbers(self, start: int, count: int) -> list[int]:
        """Numbers of `count` images from position `start` of the sequence on."""
        numbers: list[int] = []
        while count:
            epoch, position = divmod(start, len(self.selection))
            order, order_start = self._part_at(epoch, position)
            first = position - order_start
            piece = order[first : first + count]
            numbers += self.selection[piece].tolist()
            start += len(piece)
            count -= len(piece)
        return numbers

    def _part_at(self, epoch: int, position: int) -> tuple[Numbers, int]:
        """The shuffled part of an epoch at a position, and the position of its first image."""
        total = len(self.selection)
        part_generator = generator(self.seed, self.name, "parts", epoch)
        start = 0
        for part in torch.randperm(self._parts, generator=part_generator).tolist():
            size = len(range(part, total, self._parts))
            if position < start + size:
                break
            start += size
        if self._shuffled_part != (epoch, part):
            image_generator = generator(self.seed, self.name, epoch, part)
            shuffle: Numbers = torch.randperm(size, generator=image_generator).numpy()
            self._order = shuffle * self._parts + part
            self._shuffled_part = (epoch, part)
        return self._order, start


class ShuffledBatches(Sampler[list[int]]):
    """Image numbers of the batches of training, from one step to another.

    Args:
        groups: Selections of images; each is shuffled and repeated separately.
        sizes: How many images of a batch come from each group.
        start: The first step.
        stop: The step after the last one.
        seed: Seed of the orders.
        share: The positions of a batch that this process computes. None: all.
    """

    def __init__(
        self,
        groups: Sequence[Selection],
        sizes: Sequence[int],
        start: int,
        stop: int,
        seed: int,
        share: slice | None = None,
    ) -> None:
        self.groups = groups
        self.sizes = sizes
        self.start = start
        self.stop = stop
        self.seed = seed
        self.share = share or slice(0, sum(sizes))

    def __iter__(self) -> Iterator[list[int]]:
        orders = [
            ShuffledOrder(group, self.seed, f"order {number}")
            for number, group in enumerate(self.groups)
        ]
        for step in range(self.start, self.stop):
            batch = [
                number
                for order, size in zip(orders, self.sizes, strict=True)
                for number in order.numbers(step * size, size)
            ]
            yield batch[self.share]

    def __len__(self) -> int:
        return self.stop - self.start


def load_batches(
    images: WordImages,
    size: tuple[int, int],
    batches: Iterable[list[int]],
    *,
    labeled: bool,
    num_workers: int,
    label_limit: int | None = None,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Read and decode batches of images.

    Args:
        images: The data set.
        size: (height, width) of the decoded images.
        batches: The image numbers of each batch.
        labeled: Whether labels are read.
        num_workers: Processes that read images. 0: this process reads them.
        label_limit: If given, label policy `released`: a sample with a broken image, or a label of
            at least this many characters, is replaced by the next sample that fits.
        pin_memory: Whether images are put into pinned memory, from which a GPU copies them while it
            computes.
    """
    first = 0
    batch_size = None
    if isinstance(batches, ShuffledBatches):
        first = batches.share.start
        batch_size = sum(batches.sizes)
    # DataLoader is typed for data sets with a length; with a batch sampler none is needed.
    return DataLoader(
        _DecodedImages(images, size, labeled, label_limit),  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=partial(_collate, first=first, size=batch_size),
        num_workers=num_workers,
        worker_init_fn=ignore_signals,
        pin_memory=pin_memory,
        prefetch_factor=4 if num_workers else None,
    )


def to_unit(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images -> floats in [0, 1] on the device."""
    return images.to(device, non_blocking=True).float() / 255


def normalize(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]: mean 0.5, standard deviation 0.5."""
    return images * 2 - 1
