"""Images of a training root that are also in a test root: equal files, and near duplicates by a perceptual hash.

The hash: the image in gray at 32 x 64 pixels, its 8 x 32 lowest spatial frequencies (DCT-II), one bit each: above their median
or not (pHash with 256 bits, as wide as words are). Scaling, JPEG and a change of light alter few bits; another word, many.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.data.lmdb_folder import fingerprint
from core.data.word_images import FILTER_COLUMNS, FORMATS, WordImages
from core.data_tools.check import file_hash, in_processes
from core.runtime.files import write_text

ROWS, COLUMNS, LOW_ROWS, LOW_COLUMNS = 32, 64, 8, 32
BITS = LOW_ROWS * LOW_COLUMNS
THRESHOLD = (
    48  # differing bits of 256, at most; how it was chosen: results/published/real_words/README.md
)
OnProgress = Callable[[int], None]  # images done
Hashes = tuple[np.ndarray, np.ndarray]  # (images, 32) perceptual, (images,) of the file


def _cosines(size: int, low: int) -> np.ndarray:
    """(low, size) DCT-II basis."""
    place = np.arange(size) + 0.5
    return np.cos(np.pi / size * np.arange(low)[:, None] * place).astype(np.float32)


def gray(raw: bytes) -> np.ndarray | None:
    """(32, 64) float32, or None if the image cannot be decoded."""
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            image.draft("L", (COLUMNS, ROWS))
            return np.asarray(
                image.convert("L").resize((COLUMNS, ROWS), Image.Resampling.BOX), np.float32
            )
    except Exception:  # as core.data.word_images.decode
        return None


def perceptual_hashes(pictures: np.ndarray) -> np.ndarray:
    """(images, 32, 64) gray -> (images, 32) uint8, 256 bits each."""
    low = _cosines(ROWS, LOW_ROWS) @ pictures @ _cosines(COLUMNS, LOW_COLUMNS).T
    low = low.reshape(len(pictures), BITS)
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def hash_images(root: str, start: int, stop: int) -> Hashes:
    """(images, 32) perceptual hashes and (images,) file hashes; 0 where an image cannot be read."""
    images = WordImages([root])
    pictures, files = (
        np.zeros((stop - start, ROWS, COLUMNS), np.float32),
        np.zeros(stop - start, np.uint64),
    )
    for index in range(start, stop):
        raw = images.raw(index)
        picture = None if raw is None else gray(raw)
        if raw is not None and picture is not None:
            pictures[index - start], files[index - start] = picture, file_hash(raw)
    return perceptual_hashes(pictures), files


@dataclass(frozen=True)
class Match:
    """An image of the training root and the test image most like it; `distance` in bits, 0 for equal files."""

    index: int
    exact: bool
    distance: int
    other: int


def hash_roots(roots: Sequence[str], processes: int, on_progress: OnProgress) -> Hashes:
    """The hashes of every image of some roots, in the order in which `WordImages` reads them."""
    parts: list[Hashes] = []
    before = 0
    for root in roots:
        count = len(WordImages([root]))
        for done, part in in_processes(hash_images, root, count, processes):
            parts.append(part)
            on_progress(before + done)
        before += count
    perceptual, files = zip(*parts, strict=True)
    return np.concatenate(perceptual), np.concatenate(files)


def _signs(hashes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1)


def find_matches(train: Hashes, test: Hashes, threshold: int) -> list[Match]:
    """For each training image its nearest test image within `threshold` bits, equal files first.

    Two images differ in (256 - scalar product) / 2 bits, where bits count as -1 and 1: one matrix product compares all."""
    (near, files), (other_near, other_files) = train, test
    readable, targets = np.flatnonzero(files), np.flatnonzero(other_files)
    if not len(targets):
        return []
    equal = {int(other_files[place]): int(place) for place in targets[::-1]}
    signs, matches = _signs(other_near[targets]).T.contiguous(), []
    for start in range(0, len(readable), 4096):
        part = readable[start : start + 4096]
        best, place = (_signs(near[part]) @ signs).max(dim=1)
        distances = ((BITS - best) / 2).round().int().numpy()
        for index, distance, nearest in zip(
            part.tolist(), distances.tolist(), place.tolist(), strict=True
        ):
            reported_row = equal.get(int(files[index]))
            if reported_row is not None:
                matches.append(Match(index, True, 0, reported_row))
            elif distance <= threshold:
                matches.append(Match(index, False, distance, int(targets[nearest])))
    return matches


def write_filter(
    out: Path, train: Sequence[str], test: Sequence[str], matches: Sequence[Match], threshold: int
) -> None:
    """A filter list: the images of the roots `train` to leave out, and why. The reader takes its first two columns."""
    mine, theirs = WordImages(train), WordImages(test)
    names, starts = [fingerprint(root)[0] for root in train], [0, *mine.ends.tolist()]
    rule = f"equal files, or at most {threshold} of {BITS} bits of the perceptual hash apart"
    lines = [f"# images of {', '.join(train)} that are also in {', '.join(test)}: {rule}"]
    lines.append(
        "\t".join((*FILTER_COLUMNS, "kind", "distance", "label", "other_index", "other_label"))
    )
    for match in matches:
        root = int(np.searchsorted(mine.ends, match.index, side="right"))
        kind, labels = (
            "exact" if match.exact else "near",
            (mine.label(match.index), theirs.label(match.other)),
        )
        texts = [" ".join((label or "").split()) for label in labels]
        cells = (
            names[root],
            match.index - starts[root],
            kind,
            match.distance,
            texts[0],
            match.other,
            texts[1],
        )
        lines.append("\t".join(map(str, cells)))
    write_text(out, "\n".join(lines) + "\n")
