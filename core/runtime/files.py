"""Atomic writing of files, and file locks that the system releases when a process dies."""

import csv
import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.runtime.errors import UserError

FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT)
NO_LOCK_ERRORS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of a file system without flock
# Errors of paths and disks that the user can correct.
USER_FIXABLE_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)


def nearest_existing(path: Path) -> Path:
    """The path, or the nearest of its folders that exists."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing


def free_disk_bytes(folder: Path) -> int:
    """Free bytes of the disk that holds a folder. The folder need not exist yet."""
    return shutil.disk_usage(nearest_existing(folder)).free


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`.

    On success the temporary file is synced to disk and renamed to `path`, on an error removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def folder_bytes(folder: Path) -> int:
    """The bytes of all files in a folder; 0 if there is no such folder."""
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table to `path` atomically (UTF-8, comma-separated)."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def overwrite_text(path: Path, text: str) -> None:
    """Write a short `text` into the blocks that the file `path` occupies (UTF-8).

    For a full disk, where `write_text` fails: most file systems need no free space for it. It is
    not atomic. Raises OSError if the file does not exist or the disk refuses it.
    """
    with path.open("r+b") as file:
        file.write(text.encode())
        file.truncate()


@contextmanager
def try_lock(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Try to lock a file without waiting; yields whether the lock was free.

    The system releases the lock when the process ends, also after a crash. An exclusive lock
    creates the file if it is missing. A shared lock only tests: it creates no file, and a missing
    file counts as free.

    Raises UserError if the file system has no locks.
    """
    if shared and not path.exists():
        yield True
        return
    if not shared:
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r" if shared else "a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        except OSError as error:
            if error.errno not in NO_LOCK_ERRORS:
                raise
            raise UserError(
                f"{path}: this file system has no locks (flock: {error.strerror}); choose a folder "
                "on another one, or ask for the mount option that enables flock"
            ) from error
        else:
            is_free = True
        yield is_free
