"""Word images in LMDB folders, read lazily in each process.

Images that cannot be read are counted and never replaced by another image. Memory does not grow
with the number of images, only with the number of filtered ones.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import lmdb
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.data.character_boxes import BOXES, CharacterBoxes, decode_boxes
from core.data.decoded_cache import DecodedCache
from core.data.image_display import LYING, as_displayed, exif_orientation
from core.data.key_layout import IMAGE, LABEL, PHOTO, KeyLayout
from core.data.lmdb_folder import count_samples, fingerprint, key_layout, open_lmdb
from core.runtime.errors import UserError

# Formats that are decoded. EPS is not among them: Pillow would run Ghostscript for it.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "MPO")
FILTER_COLUMNS = ("fingerprint", "index")  # of a filter list; further columns are for people

Numbers = NDArray[np.int64]


def read_filters(paths: Iterable[str]) -> dict[str, Numbers]:
    """Fingerprint of a root -> numbers (from 0) of its images to leave out.

    The files are filter lists: tab-separated values with a header line. Raises UserError if a file
    is missing or is not a filter list.
    """
    filtered: dict[str, list[int]] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
            if not lines or tuple(lines[0][:2]) != FILTER_COLUMNS:
                raise ValueError("its first line must name the columns fingerprint and index")
            for line in lines[1:]:
                filtered.setdefault(line[0], []).append(int(line[1]))
        except FileNotFoundError as error:
            raise UserError(
                f"{path}: no such filter list; `run.py data overlap` writes one"
            ) from error
        except (OSError, ValueError, IndexError) as error:
            raise UserError(
                f"{path}: not a filter list ({error}); `run.py data overlap` writes one"
            ) from error
    return {root: np.unique(np.array(numbers)) for root, numbers in filtered.items()}


def decode_image(raw: bytes) -> Image.Image | None:
    """An image file's pixels as RGB, or None if they cannot be decoded.

    They are upright as EXIF data say, and transparent pixels are composed on white.
    """
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            return as_displayed(image).convert("RGB")
    except Exception:  # decoders raise anything for a broken file; it must not end a long run
        return None


def image_size(raw: bytes) -> tuple[int, int] | None:
    """(width, height) of an image file, upright; None if it cannot be read. It reads the header."""
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            width, height = image.size
            is_lying = exif_orientation(image) in LYING
    except Exception:  # decoders raise anything for a broken file
        return None
    return (height, width) if is_lying else (width, height)


def resize_image(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """(3, H, W) uint8, resized bicubically to `size` (height, width)."""
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


class Selection:
    """The numbers from `start` to `stop` without the excluded ones, in ascending order.

    It behaves like an array of numbers, but stores the excluded ones only.
    """

    def __init__(self, start: int, stop: int, excluded: NDArray[Any]) -> None:
        inside = np.unique(excluded[(excluded >= start) & (excluded < stop)]) - start
        self.start = start
        self._length = stop - start - len(inside)
        # For each excluded number: how many numbers before it are selected.
        self._selected_before = inside - np.arange(len(inside))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, positions: Numbers) -> Numbers:
        skipped = np.searchsorted(self._selected_before, positions, side="right")
        numbers: Numbers = self.start + positions + skipped
        return numbers


class WordImages:
    """The images of several LMDB roots, numbered from 0 in the order of the roots.

    Roots are opened when they are read, so the object can be sent to other processes.

    Args:
        roots: LMDB folders.
        filters: Filter lists. Filtered images keep their numbers, but `selection` omits them.
        mixed: LMDB folders that follow `roots`; their images begin at `mixed_start`.
        cache: Where decoded images are kept. None: images are decoded whenever they are read.

    Raises:
        UserError: A root or a filter list cannot be read, or the lists are of other roots.
    """

    def __init__(
        self,
        roots: Sequence[str],
        filters: Sequence[str] = (),
        mixed: Sequence[str] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        self.roots = [*roots, *mixed]
        self.cache = cache
        self.folders = [os.path.realpath(root) for root in self.roots]
        self.counts = [count_samples(open_lmdb(root), root) for root in self.roots]
        self.ends = np.cumsum(self.counts)
        self.layouts = [key_layout(root) for root in self.roots]
        self.mixed_start = int(self.ends[len(roots) - 1])
        self.filtered: Numbers = np.empty(0, dtype=np.int64)
        if filters:
            self.filtered = self._filtered_numbers(filters)

    def _filtered_numbers(self, filters: Sequence[str]) -> Numbers:
        lists = read_filters(filters)
        none = np.empty(0, dtype=np.int64)
        numbers = np.concatenate(
            [
                lists.get(fingerprint(root)[0], none) + start
                for root, start in zip(self.roots, self._starts(), strict=True)
            ]
        )
        if lists and not len(numbers):
            raise UserError(
                f"{', '.join(filters)}: made for other data than {', '.join(self.roots)}; "
                "make the lists again for these roots"
            )
        return numbers

    def _starts(self) -> list[int]:
        """The number of each root's first image."""
        return [0, *self.ends[:-1].tolist()]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def selection(
        self, excluded: Sequence[int] | Numbers = (), start: int = 0, stop: int | None = None
    ) -> Selection:
        """The images from `start` to `stop` without the filtered and the excluded ones.

        Args:
            excluded: Further numbers to omit.
            start: The first number.
            stop: The number after the last one. None: the end.
        """
        omitted = np.concatenate([self.filtered, np.asarray(excluded, dtype=np.int64)])
        return Selection(start, len(self) if stop is None else stop, omitted)

    def _locate(self, index: int) -> tuple[int, int]:
        """The root of an image, and the image's number in it, from 0."""
        root = int(np.searchsorted(self.ends, index, side="right"))
        return root, index - (int(self.ends[root - 1]) if root else 0)

    def _get(self, index: int, kind: str) -> bytes | None:
        root, number = self._locate(index)
        key = self.layouts[root].key(kind, number)
        try:
            with open_lmdb(self.folders[root]).begin() as transaction:
                value: bytes | None = transaction.get(key.encode())
                return value
        except lmdb.Error:  # a damaged page
            return None

    def label(self, index: int) -> str | None:
        """The label, or None if there is none or it is not UTF-8."""
        return _decode_text(self._get(index, LABEL))

    def has_label(self, index: int) -> bool:
        """Whether there is a label, UTF-8 or not."""
        return self._get(index, LABEL) is not None

    def labels(self) -> Iterator[str | None]:
        """The labels of all images in order. Quick, and in constant memory."""
        starts = self._starts()
        counts = np.diff([*starts, len(self)]).tolist()
        for root, layout, start, count in zip(
            self.roots, self.layouts, starts, counts, strict=True
        ):
            scanned = 0
            try:
                for label in _scan_labels(open_lmdb(root), layout, count):
                    scanned += 1
                    yield label
            except lmdb.Error:  # a damaged page ends the scan: read the rest by key
                yield from map(self.label, range(start + scanned, start + count))

    def boxes(self, index: int) -> CharacterBoxes | None:
        """The boxes of the label's characters, in pixels of the stored image; None if unknown."""
        return decode_boxes(self._get(index, BOXES))

    def photo(self, index: int) -> str:
        """The name of the photo that a word was cut from; "" if it is unknown.

        With several roots the root's number comes first, because names are unique in one only."""
        name = _decode_text(self._get(index, PHOTO)) or ""
        return f"{self._locate(index)[0]}/{name}" if name and len(self.roots) > 1 else name

    def raw(self, index: int) -> bytes | None:
        """The image file, or None if it is missing."""
        return self._get(index, IMAGE)

    def image(self, index: int, size: tuple[int, int]) -> Tensor | None:
        """(3, H, W) uint8 of `size` (height, width); None if missing or undecodable."""
        root, number = self._locate(index)
        decoded = self.cache and self.cache.open(self.folders[root], self.counts[root], size)
        pixels = decoded.read(number) if decoded else None
        if pixels is not None:
            return torch.from_numpy(pixels)
        image = self._decode(index, size)
        if decoded and image is not None:
            decoded.write(number, image.numpy())
        return image

    def _decode(self, index: int, size: tuple[int, int]) -> Tensor | None:
        raw = self.raw(index)
        picture = None if raw is None else decode_image(raw)
        return None if picture is None else resize_image(picture, size)


def _scan_labels(
    environment: lmdb.Environment, layout: KeyLayout, count: int
) -> Iterator[str | None]:
    """The labels of one root in one pass over its keys."""
    with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
        has_key = cursor.set_range(layout.key(LABEL, 0).encode())
        for index in range(count):
            key = layout.key(LABEL, index).encode()
            if layout.digits == 1:  # keys are not in the order of the numbers
                has_key = cursor.set_key(key)
            elif has_key and bytes(cursor.key()) < key:
                has_key = cursor.set_range(key)
            if has_key and cursor.key() == key:
                yield _decode_text(bytes(cursor.value()))
                has_key = cursor.next()
            else:
                yield None


def _decode_text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


@dataclass
class Dropped:
    """Images and labels that were not used, by reason. They are shown and stored in records."""

    unreadable: set[int] = field(default_factory=set)  # images missing or undecodable
    unlabeled: int = 0
    over_long: int = 0
    unknown_characters: int = 0  # labels with a character outside the charset
    replaced: int = 0  # policy `released`: replaced by another sample
    filtered: int = 0  # in a filter list

    @classmethod
    def total(cls, parts: "Iterable[Dropped]") -> "Dropped":
        """The sum of the parts."""
        total = cls()
        for part in parts:
            total.unreadable |= part.unreadable
            total.unlabeled += part.unlabeled
            total.over_long += part.over_long
            total.unknown_characters += part.unknown_characters
            total.replaced += part.replaced
            total.filtered += part.filtered
        return total

    def counts(self) -> dict[str, int]:
        """Reason -> number of images, as records store it."""
        return {
            "unreadable": len(self.unreadable),
            "unlabeled": self.unlabeled,
            "over_long": self.over_long,
            "unknown_characters": self.unknown_characters,
            "replaced": self.replaced,
            "filtered": self.filtered,
        }
