"""LMDB folders ("roots") in the standard layout: opening, finding, counting, fingerprints, writing.

Keys: `image-%09d` and, if the images are labeled, `label-%09d`, numbered from 1; `num-samples`.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np

from core.runtime.errors import UserError

IMAGE_KEY = "image-{:09d}"
LABEL_KEY = "label-{:09d}"
COUNT_KEY = b"num-samples"
PROGRESS_KEY = b"build-progress"  # present while a root is being built

Sample = tuple[bytes, str | None]  # an image file, and its label if it has one

_environments: dict[str, lmdb.Environment] = {}


# Reading


def open_lmdb(root: str) -> lmdb.Environment:
    """The environment of an LMDB folder, opened read-only, once in each process.

    Raises UserError if the folder holds no readable LMDB.
    """
    path = os.path.realpath(root)
    if path not in _environments:
        _environments[path] = _open(root)
    return _environments[path]


def _close_all() -> None:
    while _environments:
        _environments.popitem()[1].close()


# LMDB forbids a second environment of a folder in one process, and the use of one across a fork.
# Both processes open their environments again when they read.
os.register_at_fork(before=_close_all)


def _open(root: str) -> lmdb.Environment:
    file = Path(root) / "data.mdb"
    if not file.is_file():
        raise UserError(
            f"{root}: no LMDB here (data.mdb is missing); name a folder in the standard layout"
        )
    try:
        environment = lmdb.open(
            root, readonly=True, lock=False, readahead=False, meminit=False, max_spare_txns=32
        )
    except lmdb.Error as error:
        raise UserError(f"{root}: not a readable LMDB ({error})") from error
    size = file.stat().st_size
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size < needed:  # reading beyond the end of a mapped file kills the process
        environment.close()
        raise UserError(
            f"{file}: cut short ({size:,} of {needed:,} bytes); copy or download it again"
        )
    return environment


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
        return "no LMDB at or below this folder (data.mdb is missing)"
    return "a file, not a folder" if os.path.isfile(path) else "no such folder"


def count_samples(environment: lmdb.Environment, root: str) -> int:
    """`num-samples` of an open root; if that is not a positive number, the last image's number.

    Raises UserError if there is no image, the root is damaged, or its build is unfinished.
    """
    try:
        with environment.begin() as transaction:
            raw = transaction.get(COUNT_KEY)
            progress = transaction.get(PROGRESS_KEY)
        count = int(raw) if raw is not None and raw.isdigit() else 0
        count = count or last_image(environment)
    except lmdb.Error as error:
        raise UserError(f"{root}: damaged ({error}); copy or download it again") from error
    if progress is not None:
        raise UserError(
            f"{root}: the build is unfinished; run the same `run.py data build` again to finish it"
        )
    if count < 1:
        declared = (raw or b"missing").decode(errors="replace")
        raise UserError(f"{root}: the data set is empty (num-samples is {declared})")
    return count


def last_image(environment: lmdb.Environment) -> int:
    """The highest number of an image key; 0 if there is none."""
    with environment.begin() as transaction, transaction.cursor() as cursor:
        # In byte order ":" follows "9", so the key before "image-:" is the last image.
        exists = cursor.prev() if cursor.set_range(b"image-:") else cursor.last()
        key = bytes(cursor.key()) if exists else b""
    return int(key[6:]) if key.startswith(b"image-") and key[6:].isdigit() else 0


def root_irregularity(root: str) -> str:
    """One sentence if a root's count does not agree with its keys, else "".

    It reads the database's statistics only, so it is quick at any size.
    """
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    try:
        with environment.begin() as transaction:
            raw = transaction.get(COUNT_KEY)
        last = last_image(environment)
    except lmdb.Error as error:
        return f"{root}: damaged ({error}); unreadable images are counted as missing"
    if raw is None or not raw.isdigit() or not int(raw):
        return (
            f"{root}: num-samples is missing or invalid; the last image's number, {last}, is used"
        )
    if count != last:
        consequence = (
            "missing images count as unreadable"
            if count > last
            else "the images beyond are not used"
        )
        return f"{root}: num-samples is {count}, but the last image is number {last}; {consequence}"
    keys = environment.stat()["entries"] - 1
    if keys not in (count, 2 * count):
        return (
            f"{root}: {keys} keys besides num-samples, neither {count} nor {2 * count}; "
            "`run.py data check` lists them"
        )
    return ""


def fingerprint(root: str, images: int = 64, labels: int = 100_000) -> tuple[str, int]:
    """A hash of a root's content (16 hex digits), and its number of images. Quick at any size.

    The hash covers the count, some images and some labels, both evenly spaced. Up to 100,000 labels
    all are covered, so that corrected labels give another fingerprint.

    Args:
        root: An LMDB folder.
        images: Number of images to cover.
        labels: Number of labels to cover.
    """
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    digest = hashlib.sha256(str(count).encode())
    with environment.begin() as transaction:
        for pattern, maximum in ((IMAGE_KEY, images), (LABEL_KEY, labels)):
            for number in np.unique(np.linspace(1, count, min(count, maximum), dtype=int)):
                try:
                    value = transaction.get(pattern.format(number).encode())
                except lmdb.Error:  # a damaged page; the image is counted when it is read
                    value = None
                digest.update(
                    b"missing" if value is None else len(value).to_bytes(8, "little") + value
                )
    return digest.hexdigest()[:16], count


# Writing


@contextmanager
def new_lmdb(folder: Path) -> Iterator[lmdb.Environment]:
    """An LMDB opened for writing. Raises UserError if the disk is or becomes full."""
    try:
        with lmdb.open(str(folder), map_size=1 << 40, lock=False) as environment:
            yield environment
    except lmdb.Error as error:
        raise UserError(
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
