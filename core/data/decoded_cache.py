"""Decoded images on disk, so that later epochs, runs and processes do not decode them again.

The name of a file follows from the version of the root's file and of the decoders, so a changed
root gets a new file.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from core.data.lmdb_folder import file_version, fingerprint
from core.data.record_cache import BUDGET, RecordCache, RecordFile, record_bytes
from core.runtime.errors import UserError

DECODING = 1  # increase when a change of the code alters decoded pixels
CODECS = ("jpg", "libjpeg_turbo", "libtiff", "webp")  # of Pillow, beside its own version
HASHED_LABELS = 1000  # of a root, in the name of its file

Size = tuple[int, int]  # (height, width)
Pixels = NDArray[np.uint8]  # (3, H, W)


def pixel_bytes(size: Size) -> int:
    """Bytes of the pixels of an image of `size`."""
    return 3 * size[0] * size[1]


def content_name(root: str, size: Size) -> str:
    """A name that tells apart the decoded images of roots, of their versions and of sizes.

    Raises UserError if the root cannot be read.
    """
    codecs = [features.version(name) for name in CODECS]
    content = fingerprint(root, labels=HASHED_LABELS)
    parts = [DECODING, PIL.__version__, codecs, content, file_version(root)]
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    return f"{size[0]}x{size[1]}-{digest}"


class DecodedImages:
    """The decoded images of one root at one size."""

    def __init__(self, records: RecordFile, size: Size) -> None:
        self.size = size
        self._records = records

    def read(self, number: int) -> Pixels | None:
        """The pixels of an image; None if they are not stored."""
        content = self._records.read(number)
        return None if content is None else np.frombuffer(content, np.uint8).reshape(3, *self.size)

    def write(self, number: int, image: Pixels) -> None:
        """Store the pixels of an image."""
        self._records.write(number, image.tobytes())


class DecodedCache:
    """A folder of decoded images (`RecordCache`).

    Args:
        folder: Created when it is needed.
        budget: Bytes of all files. A root that exceeds it, or a tenth of the free disk space, is
            not cached.
    """

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self.cache = RecordCache(folder, budget)
        self._opened: dict[tuple[str, Size], DecodedImages | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    def open(self, root: str, images: int, size: Size) -> DecodedImages | None:
        """The decoded images of a root at a size; None if they are not cached.

        Args:
            root: An LMDB folder.
            images: Their number.
            size: (height, width).
        """
        if (root, size) not in self._opened:
            records = self.cache.open(content_name(root, size), images, pixel_bytes(size))
            self._opened[root, size] = None if records is None else DecodedImages(records, size)
        return self._opened[root, size]

    def missing_bytes(self, roots: Mapping[tuple[str, Size], int], free: int) -> int:
        """Bytes that the cache will grow by, at most, when images are read.

        Args:
            roots: (LMDB folder, size) -> number of images. The folders need not exist yet.
            free: Bytes that are free on the disk.
        """
        missing = 0
        for (root, size), images in roots.items():
            if self.cache.fits(images, pixel_bytes(size), free):
                needed = images * record_bytes(pixel_bytes(size))
                missing += max(0, needed - self._occupied_bytes(root, size))
        return min(missing, self.cache.budget)

    def _occupied_bytes(self, root: str, size: Size) -> int:
        try:
            return self.cache.occupied_bytes(content_name(root, size))
        except UserError:  # not rendered yet
            return 0
