"""A folder of files with records of equal size, which runs and processes share without locks.

A record is the CRC-32 of its content, then the content. Processes read and write records at any
time. A record that is absent, or torn by a killed process or another host, does not match its
CRC-32: it counts as absent, and is computed again.
"""

import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

CHECKSUM_BYTES = 4
BUDGET = 2 * 10**9  # bytes of all files of a cache
FREE_SHARE = 0.1  # of the free disk space that a new file may take
BLOCK = 512  # bytes, of `st_blocks`


def record_bytes(content_bytes: int) -> int:
    """Bytes of a record in the file."""
    return CHECKSUM_BYTES + content_bytes


class RecordFile:
    """One file of records."""

    def __init__(self, path: Path, content_bytes: int) -> None:
        self._record_bytes = record_bytes(content_bytes)
        self._file = path.open("r+b", buffering=0)
        self._is_writable = True

    def read(self, number: int) -> memoryview | None:
        """The content of a record; None if there is no whole record of this number."""
        record = bytearray(self._record_bytes)
        try:
            length = os.preadv(self._file.fileno(), [record], number * self._record_bytes)
        except OSError:
            return None
        checksum = int.from_bytes(record[:CHECKSUM_BYTES], "little")
        content = memoryview(record)[CHECKSUM_BYTES:]
        # The checksum of a record that was never written is 0.
        if length < len(record) or not checksum or checksum != zlib.crc32(content, number):
            return None
        return content

    def write(self, number: int, content: bytes) -> None:
        """Store a content. After a failure, as on a full disk, nothing more is stored."""
        if not self._is_writable:
            return
        record = zlib.crc32(content, number).to_bytes(CHECKSUM_BYTES, "little") + content
        try:
            os.pwrite(self._file.fileno(), record, number * self._record_bytes)
        except OSError:
            self._is_writable = False


class RecordCache:
    """A folder of record files. It may be deleted at any time.

    The files used longest ago are removed where the budget needs it; processes that use one keep
    it until they end. The object can be sent to other processes.

    Args:
        folder: Created when it is needed.
        budget: Bytes of all files. Records that exceed it, or a tenth of the free disk space, are
            not cached.
    """

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self.folder = folder
        self.budget = budget
        self._opened: dict[str, RecordFile | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    def open(self, name: str, records: int, content_bytes: int) -> RecordFile | None:
        """The file of this name, made if it is absent; None if the records are not cached.

        Args:
            name: Tells apart whatever the content of the records depends on.
            records: Their number.
            content_bytes: Size of the content of each.
        """
        if name not in self._opened:
            self._opened[name] = None
            with suppress(OSError):  # without a cache, contents are computed
                self._opened[name] = self._open(name, records, content_bytes)
        return self._opened[name]

    def fits(self, records: int, content_bytes: int, free: int) -> bool:
        """Whether this number of records fits a disk with `free` bytes, and the budget."""
        return records * record_bytes(content_bytes) <= min(self.budget, FREE_SHARE * free)

    def occupied_bytes(self, name: str) -> int:
        """Bytes that a file takes on the disk now; 0 if it is absent."""
        try:
            return BLOCK * (self.folder / name).stat().st_blocks
        except OSError:
            return 0

    def _open(self, name: str, records: int, content_bytes: int) -> RecordFile | None:
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.fits(records, content_bytes, shutil.disk_usage(self.folder).free):
                return None
            length = records * record_bytes(content_bytes)
            self._make_room(length)
            with path.open("ab") as file:
                file.truncate(length)  # blocks of the disk are occupied as records are written
        os.utime(path)  # the time of the last use
        return RecordFile(path, content_bytes)

    def _make_room(self, length: int) -> None:
        """Remove the files used longest ago until a file of `length` bytes is in the budget."""
        status_of = {path: path.stat() for path in self.folder.iterdir()}
        total = sum(status.st_size for status in status_of.values())
        for path in sorted(status_of, key=lambda path: status_of[path].st_mtime):
            if total + length <= self.budget:
                return
            path.unlink(missing_ok=True)
            total -= status_of[path].st_size
