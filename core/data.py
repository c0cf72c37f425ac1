"""Word images in LMDB: read lazily in each process, counted where they cannot be read, never replaced by another."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from core.errors import UserError
from core.randomness import generator

IMAGE_KEY, LABEL_KEY, COUNT_KEY = "image-{:09d}", "label-{:09d}", b"num-samples"  # numbered from 1


_environments: dict[str, lmdb.Environment] = {}


def open_lmdb(root: str) -> lmdb.Environment:
    """This process's environment of an LMDB folder, opened for reading. Raises UserError if there is none."""
    path = os.path.realpath(root)
    if path not in _environments:
        _environments[path] = _open(root)
    return _environments[path]


def _close_all() -> None:
    while _environments:
        _environments.popitem()[1].close()


# LMDB allows one environment per folder and process, and none across a fork: both sides open theirs again when they read.
os.register_at_fork(before=_close_all)


def _open(root: str) -> lmdb.Environment:
    if not (Path(root) / "data.mdb").is_file():
        raise UserError(f"{root}: no LMDB here (data.mdb is missing); name a folder in the standard layout")
    try:
        return lmdb.open(root, readonly=True, lock=False, readahead=False, meminit=False, max_spare_txns=32)
    except lmdb.Error as error:
        raise UserError(f"{root}: not a readable LMDB ({error})") from error


def count_samples(environment: lmdb.Environment, root: str) -> int:
    """`num-samples` of an open root. Raises UserError if it is missing, not a number, or zero."""
    with environment.begin() as transaction:
        raw = transaction.get(COUNT_KEY)
    try:
        count = int(raw or b"")
    except ValueError as error:
        raise UserError(f"{root}: no usable 'num-samples' key; rebuild this LMDB in the standard layout") from error
    if count < 1:
        raise UserError(f"{root}: the data set is empty (num-samples is {count})")
    return count


def fingerprint(root: str, images: int = 64, labels: int = 100_000) -> tuple[str, int]:
    """(16 hex digits, number of images): the count, evenly spaced images, and labels; quick at any size.

    Up to 100,000 labels all count, so that corrected labels make another data set; of more, as many evenly spaced ones."""
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    digest = hashlib.sha256(str(count).encode())
    with environment.begin() as transaction:
        for pattern, most in ((IMAGE_KEY, images), (LABEL_KEY, labels)):
            for number in np.unique(np.linspace(1, count, min(count, most), dtype=int)):
                value = transaction.get(pattern.format(number).encode())
                digest.update(b"missing" if value is None else len(value).to_bytes(8, "little") + value)
    return digest.hexdigest()[:16], count


class WordImages:
    """Several LMDB roots read as one; image `i` of `len()` has an optional label. Holds no open file."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = list(roots)
        self.ends = np.cumsum([count_samples(open_lmdb(root), root) for root in self.roots])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def _get(self, index: int, pattern: str) -> bytes | None:
        root = int(np.searchsorted(self.ends, index, side="right"))
        number = index - int(self.ends[root - 1] if root else 0) + 1
        with open_lmdb(self.roots[root]).begin() as transaction:
            return transaction.get(pattern.format(number).encode())

    def label(self, index: int) -> str | None:
        """The label, or None if there is none or it is not UTF-8."""
        raw = self._get(index, LABEL_KEY)
        try:
            return None if raw is None else raw.decode("utf-8")
        except UnicodeDecodeError:
            return None

    def image(self, index: int, size: tuple[int, int]) -> Tensor | None:
        """(3, H, W) uint8, resized bicubically to `size` (height, width); None if missing or undecodable."""
        raw = self._get(index, IMAGE_KEY)
        if raw is None:
            return None
        try:
            with Image.open(io.BytesIO(raw)) as image:
                picture = image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        if picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@dataclass
class Dropped:
    """What was not used, and why; shown and recorded, never silent."""

    unreadable: set[int] = field(default_factory=set)  # images that are missing or cannot be decoded
    unlabelled: int = 0
    over_long: int = 0
    unknown_characters: int = 0  # labels with a character outside the charset (kept, the character becomes UNKNOWN)

    def counts(self) -> dict[str, int]:
        return {
            "unreadable": len(self.unreadable),
            "unlabelled": self.unlabelled,
            "over_long": self.over_long,
            "unknown_characters": self.unknown_characters,
        }


@dataclass(frozen=True)
class Batch:
    """Images of one step: those that could be read, their numbers in the data set, their labels ("" where none)."""

    images: Tensor  # (B, 3, H, W) uint8
    indices: list[int]
    labels: list[str]
    unreadable: list[int]


class _Read(Dataset[tuple[int, Tensor | None, str]]):
    def __init__(self, images: WordImages, size: tuple[int, int], labelled: bool) -> None:
        self.images, self.size, self.labelled = images, size, labelled

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str]:
        label = self.images.label(index) if self.labelled else None
        return index, self.images.image(index, self.size), label or ""


def _collate(samples: list[tuple[int, Tensor | None, str]]) -> Batch:
    whole = [(index, image, label) for index, image, label in samples if image is not None]
    return Batch(
        images=torch.stack([image for _, image, _ in whole]) if whole else torch.empty(0),
        indices=[index for index, _, _ in whole],
        labels=[label for _, _, label in whole],
        unreadable=[index for index, image, _ in samples if image is None],
    )


class ShuffledBatches(Sampler[list[int]]):
    """Batches of steps `start` to `stop`, each epoch in its own order, derived from (seed, epoch) alone."""

    def __init__(self, usable: np.ndarray, batch: int, start: int, stop: int, seed: int) -> None:
        self.usable, self.batch, self.start, self.stop, self.seed = usable, batch, start, stop, seed

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch, drawn, order = max(len(self.usable) // self.batch, 1), -1, self.usable
        for step in range(self.start, self.stop):
            epoch, position = divmod(step, per_epoch)
            if epoch != drawn:
                shuffle = torch.randperm(len(self.usable), generator=generator(self.seed, "order", epoch))
                drawn, order = epoch, self.usable[shuffle.numpy()]
            yield order[position * self.batch : (position + 1) * self.batch].tolist()

    def __len__(self) -> int:
        return self.stop - self.start


def load_batches(
    images: WordImages, size: tuple[int, int], batches: Sampler[list[int]] | list[list[int]], *, labelled: bool, workers: int
) -> DataLoader[Batch]:
    """Read the batches named by `batches`, in order, decoded to `size`, with `workers` processes (0: this one)."""
    return DataLoader(
        _Read(images, size, labelled),  # type: ignore[arg-type]  # indexed by the sampler, it needs no length
        batch_sampler=batches,
        collate_fn=_collate,
        num_workers=workers,
    )


def to_unit(images: Tensor, device: torch.device) -> Tensor:
    """uint8 images -> floats in [0, 1] on the device."""
    return images.to(device, non_blocking=True).float() / 255


def normalise(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]: mean 0.5, standard deviation 0.5."""
    return images * 2 - 1
