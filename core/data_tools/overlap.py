"""Finds images of a training root that are also in a test root.

Equal files have equal hashes. Near duplicates have similar perceptual hashes: the image in gray at
32 x 64 pixels, its 8 x 32 lowest spatial frequencies (DCT-II), and for each frequency one bit, set
if it is above their median. This is pHash with 256 bits, wide as words are. Scaling, JPEG
compression and a change of light alter few bits; another word alters many.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from core.data.image_display import LYING, as_displayed, exif_orientation
from core.data.lmdb_folder import fingerprint
from core.data.word_images import FILTER_COLUMNS, FORMATS, WordImages
from core.data_tools.scan import file_hash, scan_chunks
from core.runtime.files import write_text

# Size of the gray image, and of the block of low frequencies.
ROWS = 32
COLUMNS = 64
LOW_ROWS = 8
LOW_COLUMNS = 32
BITS = LOW_ROWS * LOW_COLUMNS
# Near duplicates differ in at most this many bits. results/published/real_overlap/README.md says
# how it was chosen.
THRESHOLD = 48
TRAIN_CHUNK = 4096  # training images that are compared at once

Gray = NDArray[np.float32]


@dataclass(frozen=True)
class ImageHashes:
    """Hashes of images; 0 if an image cannot be read."""

    perceptual: NDArray[np.uint8]  # (images, 32): 256 bits each
    files: NDArray[np.uint64]  # (images,)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def unreadable(self) -> int:
        """Number of images that cannot be read."""
        return int((self.files == 0).sum())


def _dct_basis(size: int, frequencies: int) -> Gray:
    """(frequencies, size) basis of the DCT-II."""
    centers = np.arange(size) + 0.5
    return np.cos(np.pi / size * np.arange(frequencies)[:, None] * centers).astype(np.float32)


def decode_gray(raw: bytes) -> Gray | None:
    """(32, 64), or None if the image cannot be decoded."""
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            is_lying = exif_orientation(image) in LYING
            image.draft("L", (ROWS, COLUMNS) if is_lying else (COLUMNS, ROWS))
            small = as_displayed(image).convert("L").resize((COLUMNS, ROWS), Image.Resampling.BOX)
            return np.asarray(small, np.float32)
    except Exception:  # as in core.data.word_images.decode_image
        return None


def perceptual_hashes(pictures: Gray) -> NDArray[np.uint8]:
    """(images, 32, 64) gray -> (images, 32), 256 bits each."""
    low = _dct_basis(ROWS, LOW_ROWS) @ pictures @ _dct_basis(COLUMNS, LOW_COLUMNS).T
    low = low.reshape(len(pictures), BITS)
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def hash_images(root: str, start: int, stop: int) -> ImageHashes:
    """The hashes of images `start` to `stop` of a root."""
    images = WordImages([root])
    pictures = np.zeros((stop - start, ROWS, COLUMNS), np.float32)
    files = np.zeros(stop - start, np.uint64)
    for index in range(start, stop):
        raw = images.raw(index)
        picture = None if raw is None else decode_gray(raw)
        if raw is not None and picture is not None:
            pictures[index - start] = picture
            files[index - start] = file_hash(raw)
    return ImageHashes(perceptual_hashes(pictures), files)


def hash_roots(
    roots: Sequence[str], processes: int, on_progress: Callable[[int], None]
) -> ImageHashes:
    """The hashes of all images of some roots, numbered as in `WordImages(roots)`.

    Args:
        roots: LMDB folders.
        processes: Processes that read images.
        on_progress: Called with the number of hashed images.
    """
    parts: list[ImageHashes] = []
    before = 0
    for root in roots:
        count = len(WordImages([root]))
        for done, part in scan_chunks(hash_images, root, count, processes):
            parts.append(part)
            on_progress(before + done)
        before += count
    return ImageHashes(
        np.concatenate([part.perceptual for part in parts]),
        np.concatenate([part.files for part in parts]),
    )


@dataclass(frozen=True)
class Match:
    """A training image and the test image that is most similar to it."""

    train_index: int
    test_index: int
    exact: bool  # equal files
    distance: int  # differing bits; 0 for equal files

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.train_index,
            "exact": self.exact,
            "distance": self.distance,
            "other": self.test_index,
        }


def _signs(hashes: NDArray[np.uint8]) -> torch.Tensor:
    """(images, 256) bits as -1 and 1."""
    return torch.from_numpy(np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1)


def find_matches(train: ImageHashes, test: ImageHashes, threshold: int) -> list[Match]:
    """The training images that have an equal or near test image.

    With bits as -1 and 1, two images differ in (256 - scalar product) / 2 bits, so that one matrix
    product compares all pairs.

    Args:
        train: Hashes of the training images.
        test: Hashes of the test images.
        threshold: Near images differ in at most this many bits.
    """
    train_indices = np.flatnonzero(train.files)
    test_indices = np.flatnonzero(test.files)
    if not len(test_indices):
        return []
    # In reverse order, so that the first of several equal test images is kept.
    by_file = {int(test.files[index]): int(index) for index in test_indices[::-1]}
    test_signs = _signs(test.perceptual[test_indices]).T.contiguous()
    matches = []
    for start in range(0, len(train_indices), TRAIN_CHUNK):
        chunk = train_indices[start : start + TRAIN_CHUNK]
        products, columns = (_signs(train.perceptual[chunk]) @ test_signs).max(dim=1)
        distances = ((BITS - products) / 2).round().int().tolist()
        for index, distance, column in zip(
            chunk.tolist(), distances, columns.tolist(), strict=True
        ):
            equal = by_file.get(int(train.files[index]))
            if equal is not None:
                matches.append(Match(index, equal, exact=True, distance=0))
            elif distance <= threshold:
                nearest = int(test_indices[column])
                matches.append(Match(index, nearest, exact=False, distance=distance))
    return matches


def write_filter(
    out: Path, train: Sequence[str], test: Sequence[str], matches: Sequence[Match], threshold: int
) -> None:
    """Write a filter list of matched training images, with the reasons in further columns.

    Args:
        out: The file to write.
        train: Roots of the training images.
        test: Roots of the test images.
        matches: What `find_matches` returned.
        threshold: The threshold of `find_matches`, for the file's first line.
    """
    train_images = WordImages(train)
    test_images = WordImages(test)
    fingerprints = [fingerprint(root)[0] for root in train]
    starts = [0, *train_images.ends.tolist()]
    rule = f"equal files, or at most {threshold} of {BITS} bits of the perceptual hash differ"
    columns = (*FILTER_COLUMNS, "kind", "distance", "label", "other_index", "other_label")
    lines = [f"# images of {', '.join(train)} that are also in {', '.join(test)}: {rule}"]
    lines.append("\t".join(columns))
    for match in matches:
        root = int(np.searchsorted(train_images.ends, match.train_index, side="right"))
        cells = (
            fingerprints[root],
            match.train_index - starts[root],
            "exact" if match.exact else "near",
            match.distance,
            _one_line(train_images.label(match.train_index)),
            match.test_index,
            _one_line(test_images.label(match.test_index)),
        )
        lines.append("\t".join(map(str, cells)))
    write_text(out, "\n".join(lines) + "\n")


def _one_line(label: str | None) -> str:
    return " ".join((label or "").split())
