"""Decoded images on disk, so that later epochs, runs and processes do not decode them again.

A file has the images of one LMDB root at one size, a record for each: the CRC-32 of the pixels, and
the pixels. Processes read and write records at any time and without locks. A record that is absent,
or torn by a killed process or another host, does not match its CRC-32: the image is decoded again.
The name of a file follows from the version of the root's file and of the decoders, so a changed
root gets a new file.
"""

import hashlib
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from core.data.lmdb_folder import file_version, fingerprint
from core.runtime.errors import UserError

DECODING = 1  # increase when a change of the code alters decoded pixels
CODECS = ("jpg", "libjpeg_turbo", "libtiff", "webp")  # of Pillow, beside its own version
BUDGET = 2 * 10**9  # bytes of all files of a cache
FREE_SHARE = 0.1  # of the free disk space that a new file may take
CHECKSUM_BYTES = 4
BLOCK = 512  # bytes, of `st_blocks`
HASHED_LABELS = 1000  # of a root, in the name of its file

Size = tuple[int, int]  # (height, width)
Pixels = NDArray[np.uint8]  # (3, H, W)


def record_bytes(size: Size) -> int:
    """Bytes of the record of an image of `size`."""
    return CHECKSUM_BYTES + 3 * size[0] * size[1]


class DecodedImages:
    """The decoded images of one root at one size."""

    def __init__(self, path: Path, size: Size) -> None:
        self.size = size
        self._record_bytes = record_bytes(size)
        self._file = path.open("r+b", buffering=0)
        self._is_writable = True

    def read(self, number: int) -> Pixels | None:
        """The pixels of an image; None if there is no whole record of it."""
        record = bytearray(self._record_bytes)
        try:
            length = os.preadv(self._file.fileno(), [record], number * self._record_bytes)
        except OSError:
            return None
        checksum = int.from_bytes(record[:CHECKSUM_BYTES], "little")
        pixels = memoryview(record)[CHECKSUM_BYTES:]
        # The checksum of a record that was never written is 0.
        if length < len(record) or not checksum or checksum != zlib.crc32(pixels, number):
            return None
        return np.frombuffer(pixels, np.uint8).reshape(3, *self.size)

    def write(self, number: int, image: Pixels) -> None:
        """Store the pixels of an image. After a failure, as on a full disk, nothing is stored."""
        if not self._is_writable:
            return
        pixels = image.tobytes()
        record = zlib.crc32(pixels, number).to_bytes(CHECKSUM_BYTES, "little") + pixels
        try:
            os.pwrite(self._file.fileno(), record, number * self._record_bytes)
        except OSError:
            self._is_writable = False


class DecodedCache:
    """A folder of decoded images, shared by runs and processes. It may be deleted at any time.

    The files used longest ago are removed where the budget needs it; processes that use one keep
    it until they end. The object can be sent to other processes.

    Args:
        folder: Created when it is needed.
        budget: Bytes of all files. A root that exceeds it, or a tenth of the free disk space, is
            not cached.
    """

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self.folder = folder
        self.budget = budget
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
            self._opened[root, size] = None
            with suppress(OSError):  # without a cache, images are decoded
                self._opened[root, size] = self._open(root, images, size)
        return self._opened[root, size]

    def fits(self, images: int, size: Size, free: int) -> bool:
        """Whether images of `size` are cached on a disk with `free` bytes."""
        return images * record_bytes(size) <= min(self.budget, FREE_SHARE * free)

    def missing_bytes(self, roots: Mapping[tuple[str, Size], int], free: int) -> int:
        """Bytes that the cache will grow by, at most, when images are read.

        Args:
            roots: (LMDB folder, size) -> number of images. The folders need not exist yet.
            free: Bytes that are free on the disk.
        """
        missing = 0
        for (root, size), images in roots.items():
            if self.fits(images, size, free):
                occupied = self._occupied_bytes(root, size)
                missing += max(0, images * record_bytes(size) - occupied)
        return min(missing, self.budget)

    def _occupied_bytes(self, root: str, size: Size) -> int:
        try:
            return BLOCK * self.path(root, size).stat().st_blocks
        except (OSError, UserError):  # not cached, or not rendered yet
            return 0

    def path(self, root: str, size: Size) -> Path:
        """The file of a root at a size; it need not exist."""
        codecs = [features.version(name) for name in CODECS]
        content = fingerprint(root, labels=HASHED_LABELS)
        parts = [DECODING, PIL.__version__, codecs, content, file_version(root)]
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        return self.folder / f"{size[0]}x{size[1]}-{digest}"

    def _open(self, root: str, images: int, size: Size) -> DecodedImages | None:
        path = self.path(root, size)
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.fits(images, size, shutil.disk_usage(self.folder).free):
                return None
            length = images * record_bytes(size)
            self._make_room(length)
            with path.open("ab") as file:
                file.truncate(length)  # blocks of the disk are occupied as records are written
        os.utime(path)  # the time of the last use
        return DecodedImages(path, size)

    def _make_room(self, length: int) -> None:
        """Remove the files used longest ago until a file of `length` bytes is in the budget."""
        status_of = {path: path.stat() for path in self.folder.iterdir()}
        total = sum(status.st_size for status in status_of.values())
        for path in sorted(status_of, key=lambda path: status_of[path].st_mtime):
            if total + length <= self.budget:
                return
            path.unlink(missing_ok=True)
            total -= status_of[path].st_size
