"""Features of a frozen encoder for the words of a data set: computed once and kept on disk.

Shapes: B words, N patches, D features.

The encoder is in evaluation mode and computes no gradients. Where the features of a data set exceed
the cache's budget, they are computed again in every pass over the words.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from core.config import Encoder, Precision
from core.data.batches import load_batches, normalize, to_unit
from core.data.lmdb_folder import fingerprint
from core.model.vit import VisionTransformer
from core.probes.hidden_pixels import hide
from core.probes.progress import ProbeProgress
from core.probes.words import SelectedWords
from core.runtime.errors import UserError
from core.runtime.files import atomic_path, write_text
from core.training.run_context import RunContext, autocast

FORMAT = 1  # increase when a change of the code alters cached features
BATCH = 64  # words per forward pass
DEFAULT_BUDGET = 8 << 30  # bytes of cached features

Shape = tuple[int, int]  # (1 + N, D) of one word


class FeatureBatch(NamedTuple):
    """Features of some words."""

    features: Tensor  # (B, 1 + N, D) float32: [cls], then the patches
    numbers: list[int]  # (B) of the words in their data set
    labels: list[str]  # (B) "" if there is none


class WordFeatures(Protocol):
    """Features of the words of a data set."""

    @property
    def words(self) -> SelectedWords:
        """The words."""

    def batches(self, order: Iterable[list[int]]) -> Iterator[FeatureBatch]:
        """Features of each group of word numbers. Words that cannot be decoded are omitted."""

    @property
    def unreadable(self) -> int:
        """Words that could not be decoded so far."""


def in_order(numbers: Sequence[int], size: int = BATCH) -> list[list[int]]:
    """The numbers in groups of at most `size`."""
    return [list(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def feature_bytes(encoder: Encoder, words: int) -> int:
    """Size of the features of some words."""
    return 4 * words * (1 + encoder.patches) * encoder.width


class FrozenEncoder:
    """An encoder in evaluation mode whose parameters receive no gradient."""

    def __init__(
        self, encoder: VisionTransformer, precision: Precision, context: RunContext
    ) -> None:
        """encoder: moved to the device. precision: of the forward pass. context: of the run."""
        self.module = encoder.to(context.device).eval().requires_grad_(False)
        self.precision: Precision = precision
        self.context = context

    def content_hash(self) -> str:
        """SHA-256 of all weights and buffers, in hex digits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 1 + N, D) float32."""
        with autocast(self.context.device, self.precision):
            encoded: Tensor = self.module(normalize(to_unit(images, self.context.device)))
        return encoded.float()

    def batches(
        self, words: SelectedWords, order: Iterable[list[int]], unreadable: set[int]
    ) -> Iterator[FeatureBatch]:
        """Features of each group of word numbers, without words that cannot be decoded.

        words: of one data set. order: the groups. unreadable: gets the numbers of those words."""
        loaded = load_batches(
            words.images,
            self.module.config.image,
            order,
            labeled=False,
            num_workers=self.context.num_workers,
            pin_memory=self.context.pinned,
        )
        for batch in loaded:
            unreadable.update(batch.unreadable)
            if batch.indices:
                images = batch.images
                if words.hidden:
                    images = hide(images, [words.hidden[row].columns for row in batch.indices])
                labels = [words.labels[number] for number in batch.indices]
                yield FeatureBatch(self.features(images), batch.indices, labels)


class RecomputedFeatures:
    """Features that are computed again in every pass."""

    def __init__(self, encoder: FrozenEncoder, words: SelectedWords) -> None:
        self.encoder = encoder
        self.words = words
        self._unreadable: set[int] = set()

    def batches(self, order: Iterable[list[int]]) -> Iterator[FeatureBatch]:
        """As `WordFeatures.batches`."""
        return self.encoder.batches(self.words, order, self._unreadable)

    @property
    def unreadable(self) -> int:
        """Words that could not be decoded so far."""
        return len(self._unreadable)


class CachedFeatures:
    """Features in a file, which is read through a memory map."""

    def __init__(
        self,
        path: Path,
        words: SelectedWords,
        numbers: list[int],
        device: torch.device,
        shape: Shape,
    ) -> None:
        """path: of the file. words: that were asked for. numbers: those that could be decoded.

        device: where the features are used. shape: (1 + N, D) of one word."""
        self.words = words
        self.device = device
        self.values = np.memmap(path, np.float32, "r", shape=(len(numbers), *shape))
        self.row_of = {number: row for row, number in enumerate(numbers)}

    def batches(self, order: Iterable[list[int]]) -> Iterator[FeatureBatch]:
        """As `WordFeatures.batches`."""
        for group in order:
            numbers = [number for number in group if number in self.row_of]
            if not numbers:
                continue
            rows = [self.row_of[number] for number in numbers]
            features = torch.from_numpy(self.values[rows]).to(self.device)
            yield FeatureBatch(features, numbers, [self.words.labels[number] for number in numbers])

    @property
    def unreadable(self) -> int:
        """Words that could not be decoded."""
        return len(self.words.numbers) - len(self.row_of)


@dataclass
class FeatureCache:
    """A folder of features. The files used longest ago are removed where the budget needs it.

    A file belongs to the weights of an encoder, its sizes, the precision, the content of the data
    set, the numbers of the words and what is hidden of them. Several runs may share a folder.

    folder: created when it is needed.
    budget: bytes of all files. Features that do not fit in are not kept.
    """

    folder: Path
    budget: int = DEFAULT_BUDGET
    _in_use: set[Path] = field(default_factory=set, init=False)

    def features(self, encoder: FrozenEncoder, words: SelectedWords, note: str) -> WordFeatures:
        """The features of some words, computed now unless a file has them.

        encoder: which computes them. words: of one data set. note: names them in progress reports.
        Raises Interrupted."""
        config = encoder.module.config
        shape = (1 + config.patches, config.width)
        path = self.folder / f"{_cache_key(encoder, words)}.f32"
        size = feature_bytes(config, len(words.numbers))
        self._in_use.add(path)
        numbers = _stored_numbers(path, shape)
        if numbers is None:
            if not self._make_room(size):
                return RecomputedFeatures(encoder, words)
            numbers = _write_features(path, encoder, words, note)
        path.with_suffix(".json").touch()  # the time of the last use
        return CachedFeatures(path, words, numbers, encoder.context.device, shape)

    def clear(self) -> None:
        """Remove the folder with all features."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_room(self, size: int) -> bool:
        """Whether `size` bytes fit into the budget; removes the files used longest ago for that.

        Files that this object uses are kept."""
        files = {path: path.stat() for path in self.folder.glob("*.f32")}
        used = sum(status.st_size for status in files.values())
        kept = sum(status.st_size for path, status in files.items() if path in self._in_use)
        if kept + size > self.budget:
            return False
        for path in sorted(files.keys() - self._in_use, key=_last_use):
            if used + size > self.budget:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                used -= files[path].st_size
        return True


def _last_use(path: Path) -> float:
    description = path.with_suffix(".json")
    return description.stat().st_mtime if description.exists() else 0.0


def _cache_key(encoder: FrozenEncoder, words: SelectedWords) -> str:
    """32 hex digits that follow from everything that the features depend on."""
    parts: list[object] = [
        FORMAT,
        encoder.content_hash(),
        encoder.module.config.model_dump(mode="json"),
        encoder.precision,
        encoder.context.device.type,
        [fingerprint(root) for root in words.images.roots],
        words.numbers,
    ]
    if words.hidden:
        parts.append([words.hidden[number].columns for number in words.numbers])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _stored_numbers(path: Path, shape: Shape) -> list[int] | None:
    """Numbers of the words in a file of features; None if it is absent or incomplete."""
    try:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        numbers: list[int] = content["numbers"]
        size = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return numbers if numbers and size == 4 * len(numbers) * shape[0] * shape[1] else None


def _write_features(
    path: Path, encoder: FrozenEncoder, words: SelectedWords, note: str
) -> list[int]:
    """Compute features into a file; returns the numbers of the words that could be decoded.

    The arguments are those of `FeatureCache.features`. Raises UserError if there is none."""
    progress = ProbeProgress(encoder.context, len(words.numbers), "images", f"features of {note}")
    numbers: list[int] = []
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            for batch in encoder.batches(words, in_order(words.numbers), set()):
                file.write(batch.features.cpu().numpy().tobytes())
                numbers += batch.numbers
                progress.advance(len(batch.numbers), len(batch.numbers))
        if not numbers:
            raise UserError(
                f"{', '.join(words.images.roots)}: none of the {len(words.numbers)} images could "
                "be decoded; `run.py data check` shows why"
            )
    write_text(path.with_suffix(".json"), json.dumps({"numbers": numbers}))
    return numbers
