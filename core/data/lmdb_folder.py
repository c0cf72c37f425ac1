"""LMDB folders ("roots") in the standard layout: opening, finding, counting, fingerprints, writing.

Keys: `image-%09d` and, if the images are labeled, `label-%09d`, numbered from 1; `num-samples`.
Roots that count from 0 or do not pad their numbers are read as well (`core.data.key_layout`).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np

from core.data.character_boxes import BOXES
from core.data.key_layout import (
    COUNT_KEY,
    HARMLESS_KEYS,
    IMAGE,
    LABEL,
    KeyLayout,
    count_problem,
    detect_layout,
    is_absurd,
    parse_count,
    samples_to_last_image,
    shown_count,
)
from core.runtime.errors import DiskError, UserError
from core.runtime.foreign_files import LENGTH, foreign_content

IMAGE_KEY = "image-{:09d}"  # as written here; `KeyLayout.key` is for reading
LABEL_KEY = "label-{:09d}"
PROGRESS_KEY = b"build-progress"  # present while a root is being built
BOXED_WORDS = 100_000  # of a root that the fingerprint of its boxes covers at most

Sample = tuple[bytes, str | None]  # an image file, and its label if it has one


class _Opened(NamedTuple):
    environment: lmdb.Environment
    status: os.stat_result  # of data.mdb, from before it was opened


_opened: dict[str, _Opened] = {}  # by the real path of the folder


# Reading


def open_lmdb(root: str) -> lmdb.Environment:
    """The environment of an LMDB folder, opened read-only, once in each process.

    It is quick if `root` is the folder's real path. Resolving another name takes system calls for
    each of its parts.

    Raises UserError if the folder holds no readable LMDB.
    """
    return _open_once(root).environment


def file_version(root: str) -> tuple[int, ...]:
    """What changes with the file of a root: inode, size, times, and number of the last change.

    It is that of the open file, also if another one has taken its place since.
    """
    environment, status = _open_once(root)
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_ino, status.st_size, *times, environment.info()["last_txnid"]


def _open_once(root: str) -> _Opened:
    if root in _opened:
        return _opened[root]
    path = os.path.realpath(root)
    if path not in _opened:
        _opened[path] = _open(root)
    return _opened[path]


def _close_all() -> None:
    while _opened:
        _opened.popitem()[1].environment.close()


# LMDB forbids a second environment of a folder in one process, and the use of one across a fork.
# Both processes open their environments again when they read.
os.register_at_fork(before=_close_all)


def _open(root: str) -> _Opened:
    file = Path(root) / "data.mdb"
    _check_file(file)
    status = file.stat()
    try:
        environment = lmdb.open(
            root, readonly=True, lock=False, readahead=False, meminit=False, max_spare_txns=32
        )
    except lmdb.Error as error:
        raise UserError(
            f"{root}: not a readable LMDB ({error}); copy or download it again"
        ) from error
    size = file.stat().st_size
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size < needed:  # reading beyond the end of a mapped file kills the process
        environment.close()
        raise UserError(
            f"{file}: cut short ({size:,} of {needed:,} bytes); copy or download it again"
        )
    return _Opened(environment, status)


def _check_file(file: Path) -> None:
    """Raise UserError if `data.mdb` is missing, cannot be read, or is no LMDB at first sight."""
    try:
        if not file.is_file():
            raise UserError(
                f"{file.parent}: no LMDB here ({_missing_reason(file)}); "
                "name a folder in the standard layout"
            )
        with file.open("rb") as stream:
            start = stream.read(LENGTH)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); give access to it, or copy it again"
        ) from error
    if not start:
        raise UserError(f"{file}: empty (0 bytes); copy or download it again")
    if content := foreign_content(start):
        raise UserError(f"{file}: {content}")


def _missing_reason(file: Path) -> str:
    if file.parent.is_file():
        return "it is a file, not a folder"
    if (file.parent / "lock.mdb").exists():
        return "lock.mdb is here, but data.mdb is missing; copy it too"
    return "data.mdb is missing"


def key_layout(root: str) -> KeyLayout:
    """How a root's samples are numbered. Raises UserError as `open_lmdb` does."""
    try:
        with open_lmdb(root).begin() as transaction:
            return detect_layout(transaction)
    except lmdb.Error as error:
        raise UserError(f"{root}: damaged ({error}); copy or download it again") from error


def find_roots(path: str) -> list[str]:
    """The LMDB folders at or below `path`, sorted by name. Hidden folders are unfinished builds.

    Raises UserError if there is none, or a folder cannot be read.
    """
    if os.path.basename(path) == "data.mdb":
        path = os.path.dirname(path)
    roots: list[str] = []
    seen: set[str] = set()  # followed links may lead back

    def fail(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); "
            "give access to it, or name the folders to use"
        )

    on_error = fail if os.path.isdir(path) else None
    for folder, subfolders, files in os.walk(path, followlinks=True, onerror=on_error):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if os.path.realpath(folder) in seen:
            subfolders.clear()
        elif "data.mdb" in files:
            roots.append(folder)
            subfolders.clear()
        seen.add(os.path.realpath(folder))
    if not roots:
        raise UserError(f"{path}: {_no_root_reason(path)}; name a folder in the standard layout")
    return roots


def _no_root_reason(path: str) -> str:
    if os.path.isdir(path):
        reason = _missing_reason(Path(path) / "data.mdb")
        return f"no LMDB at or below this folder ({reason})"
    return "a file, not a folder" if os.path.isfile(path) else "no such folder"


def count_samples(environment: lmdb.Environment, root: str) -> int:
    """The number of samples of an open root.

    It is `num-samples`, or the number of the last image if `num-samples` is no positive number or
    absurdly large.

    Raises UserError if there is no image, the root is damaged, or its build is unfinished.
    """
    try:
        with environment.begin() as transaction:
            raw = transaction.get(COUNT_KEY)
            progress = transaction.get(PROGRESS_KEY)
            last = samples_to_last_image(transaction, detect_layout(transaction))
    except lmdb.Error as error:
        raise UserError(f"{root}: damaged ({error}); copy or download it again") from error
    if progress is not None:
        raise UserError(
            f"{root}: the build is unfinished; run the same `run.py data build` again to finish it"
        )
    if not last:
        raise UserError(
            f"{root}: the data set is empty (num-samples is {shown_count(raw)}, and no key is like "
            "image-000000001)"
        )
    count = parse_count(raw)
    return last if not count or is_absurd(count, last) else count


def root_irregularity(root: str) -> str:
    """One sentence if a root's keys are numbered unusually or do not agree with its count.

    "" if there is nothing unusual. It reads the database's statistics and few keys, so it is quick
    at any size.
    """
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    try:
        with environment.begin() as transaction:
            raw = transaction.get(COUNT_KEY)
            layout = detect_layout(transaction)
            last = samples_to_last_image(transaction, layout)
            harmless = [
                kind for kind in HARMLESS_KEYS if transaction.get(layout.key(kind, 0).encode())
            ]
    except lmdb.Error as error:
        return f"{root}: damaged ({error}); unreadable images are counted as missing"
    parts = [layout.description] if layout.description else []
    keys = environment.stat()["entries"] - (raw is not None)
    expected = [count * kinds for kinds in range(1, 3 + len(harmless))]
    if problem := count_problem(raw, last):
        parts.append(problem)
    elif keys not in expected:
        parts.append(
            f"{keys} keys besides num-samples, neither {count} nor {2 * count}; "
            "`run.py data check` lists them"
        )
    return f"{root}: {'; '.join(parts)}" if parts else ""


def fingerprint(root: str, images: int = 64, labels: int = 100_000) -> tuple[str, int]:
    """A hash of a root's content (16 hex digits), and its number of images. Quick at any size.

    The hash covers the count, some images and some labels, both evenly spaced. Up to 100,000 labels
    all are covered, so that corrected labels give another fingerprint. Boxes of characters are not
    covered (`boxes_fingerprint`).

    Args:
        root: An LMDB folder.
        images: Number of images to cover.
        labels: Number of labels to cover.
    """
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    layout = key_layout(root)
    digest = hashlib.sha256(str(count).encode())
    with environment.begin() as transaction:
        for kind, maximum in ((IMAGE, images), (LABEL, labels)):
            for value in _spaced_values(transaction, layout, kind, count, maximum):
                digest.update(value)
    return digest.hexdigest()[:16], count


def boxes_fingerprint(root: str) -> str:
    """A hash of the boxes of a root's characters (16 hex digits); "" if the root has none.

    It covers up to `BOXED_WORDS` words, evenly spaced. root: an LMDB folder."""
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    digest = hashlib.sha256()
    with environment.begin() as transaction, transaction.cursor() as cursor:
        prefix = f"{BOXES}-".encode()
        if not cursor.set_range(prefix) or not bytes(cursor.key()).startswith(prefix):
            return ""
        for value in _spaced_values(transaction, key_layout(root), BOXES, count, BOXED_WORDS):
            digest.update(value)
    return digest.hexdigest()[:16]


def _spaced_values(
    transaction: lmdb.Transaction, layout: KeyLayout, kind: str, count: int, maximum: int
) -> Iterator[bytes]:
    """Values of evenly spaced samples, each after its length, as fingerprints cover them.

    Args:
        transaction: Reads the root.
        layout: Of the root's keys.
        kind: Of the keys, such as `label`.
        count: Number of samples.
        maximum: Number of values; fewer if there are fewer samples.
    """
    for number in spaced_numbers(count, maximum):
        try:
            value = transaction.get(layout.key(kind, number - 1).encode())
        except lmdb.Error:  # a damaged page; the image is counted when it is read
            value = None
        yield b"missing" if value is None else after_length(value)


def spaced_numbers(count: int, maximum: int) -> list[int]:
    """Up to `maximum` evenly spaced numbers from 1 to `count`: all if there are not more."""
    numbers: list[int] = np.unique(np.linspace(1, count, min(count, maximum), dtype=int)).tolist()
    return numbers


def after_length(value: bytes | memoryview) -> bytes:
    """A value as fingerprints cover it, so that no two lists of values look the same."""
    return len(value).to_bytes(8, "little") + value


# Writing


@contextmanager
def new_lmdb(folder: Path) -> Iterator[lmdb.Environment]:
    """An LMDB opened for writing. Raises DiskError if the disk is or becomes full."""
    try:
        with lmdb.open(str(folder), map_size=1 << 40, lock=False) as environment:
            yield environment
    except lmdb.Error as error:
        raise DiskError(
            f"{folder}: cannot be written ({error}); free disk space or name another folder"
        ) from error


def put_samples(transaction: lmdb.Transaction, first: int, samples: Iterable[Sample]) -> int:
    """Write samples under consecutive numbers from `first` on; returns the next free number."""
    number = first
    for image, label in samples:
        transaction.put(IMAGE_KEY.format(number).encode(), image)
        if label is not None:
            transaction.put(LABEL_KEY.format(number).encode(), label.encode())
        number += 1
    return number


def put_count(transaction: lmdb.Transaction, count: int) -> None:
    """Write `num-samples`. It is the last key written, so a root without it is incomplete."""
    transaction.put(COUNT_KEY, str(count).encode())
