"""LMDB folders: opened once in each process, found, counted, told apart by content.

The standard layout: `image-%09d` and (where there are labels) `label-%09d`, numbered from 1, and `num-samples`."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np

from core.runtime.errors import UserError

IMAGE_KEY, LABEL_KEY, COUNT_KEY = "image-{:09d}", "label-{:09d}", b"num-samples"
PROGRESS_KEY = b"build-progress"  # only while a root is being built


_environments: dict[str, lmdb.Environment] = {}


def open_lmdb(root: str) -> lmdb.Environment:
    """This process's environment of an LMDB folder, opened for reading. Raises UserError if there is none."""
    path = os.path.realpath(root)
    if path not in _environments:
        _environments[path] = _open(root)
    return _environments[path]


def _close_all() -> None:
    while _environments:
        _environments.popitem()[1].close()


# LMDB allows one environment per folder and process, and none across a fork: both sides open theirs again when they read.
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
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if (
        file.stat().st_size < needed
    ):  # reading beyond the end of a mapped file would kill the process
        environment.close()
        raise UserError(
            f"{file}: cut short ({file.stat().st_size:,} of {needed:,} bytes); copy or download it again"
        )
    return environment


def find_roots(path: str) -> list[str]:
    """The LMDB folders at or below `path`, in the order of their names. Raises UserError if there is none."""
    if os.path.basename(path) == "data.mdb":
        path = os.path.dirname(path)
    found: list[str] = []
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); give access to it, or name the folders to use"
        )

    for folder, below, files in os.walk(
        path, followlinks=True, onerror=unreadable if os.path.isdir(path) else None
    ):
        below[:] = sorted(
            name for name in below if not name.startswith(".")
        )  # hidden ones are unfinished
        if os.path.realpath(folder) in seen:
            below.clear()
        elif "data.mdb" in files:
            found.append(folder)
            below.clear()
        seen.add(os.path.realpath(folder))
    if not found:
        what = "a file, not a folder" if os.path.isfile(path) else "no such folder"
        if os.path.isdir(path):
            what = "no LMDB at or below this folder (data.mdb is missing)"
        raise UserError(f"{path}: {what}; name a folder in the standard layout")
    return found


def count_samples(environment: lmdb.Environment, root: str) -> int:
    """`num-samples` of an open root; the number of its last image where that key is missing or no positive number.

    Raises UserError if there is no image, or the root is damaged or not whole yet."""
    try:
        with environment.begin() as transaction:
            raw, begun = transaction.get(COUNT_KEY), transaction.get(PROGRESS_KEY)
        count = int(raw) if raw is not None and raw.isdigit() else 0
        count = count or last_image(environment)
    except lmdb.Error as error:
        raise UserError(f"{root}: damaged ({error}); copy or download it again") from error
    if begun is not None:
        raise UserError(
            f"{root}: begun, but not whole; give the same `run.py data build` again to finish it"
        )
    if count < 1:
        raise UserError(
            f"{root}: the data set is empty (num-samples is {(raw or b'missing').decode(errors='replace')})"
        )
    return count


def last_image(environment: lmdb.Environment) -> int:
    """The highest number of an image key; 0 if there is none."""
    with environment.begin() as transaction, transaction.cursor() as cursor:
        found = cursor.prev() if cursor.set_range(b"image-:") else cursor.last()  # ":" follows "9"
        key = bytes(cursor.key()) if found else b""
    return int(key[6:]) if key.startswith(b"image-") and key[6:].isdigit() else 0


def irregular(root: str) -> str:
    """What is wrong with a root's count, or nothing: quick, from the database's statistics."""
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    try:
        with environment.begin() as transaction:
            raw = transaction.get(COUNT_KEY)
        last = last_image(environment)
    except lmdb.Error as error:
        return f"{root}: damaged ({error}); what cannot be read is counted as missing"
    if raw is None or not raw.isdigit() or not int(raw):
        return f"{root}: no usable num-samples; its last image, {last}, is taken for the count"
    if count != last:
        rest = (
            "what is missing counts as unreadable"
            if count > last
            else "the images beyond are not read"
        )
        return f"{root}: num-samples is {count}, but the last image is number {last}; {rest}"
    keys = environment.stat()["entries"] - 1
    if keys not in (count, 2 * count):
        return f"{root}: {keys} keys besides num-samples, neither {count} nor {2 * count}; `run.py data check` names them"
    return ""


def fingerprint(root: str, images: int = 64, labels: int = 100_000) -> tuple[str, int]:
    """(16 hex digits, number of images): the count, evenly spaced images, and labels; quick at any size.

    Up to 100,000 labels all count, so that corrected labels make another data set; of more, as many evenly spaced ones."""
    environment = open_lmdb(root)
    count = count_samples(environment, root)
    digest = hashlib.sha256(str(count).encode())
    with environment.begin() as transaction:
        for pattern, most in ((IMAGE_KEY, images), (LABEL_KEY, labels)):
            for number in np.unique(np.linspace(1, count, min(count, most), dtype=int)):
                try:
                    value = transaction.get(pattern.format(number).encode())
                except lmdb.Error:  # a damaged page; reading counts it
                    value = None
                digest.update(
                    b"missing" if value is None else len(value).to_bytes(8, "little") + value
                )
    return digest.hexdigest()[:16], count


Sample = tuple[bytes, str | None]  # an image file, its label if it has one


@contextmanager
def new_lmdb(folder: Path) -> Iterator[lmdb.Environment]:
    """An LMDB to be filled. Raises UserError if the disk is full, now or while it is filled."""
    try:
        with lmdb.open(str(folder), map_size=1 << 40, lock=False) as environment:
            yield environment
    except lmdb.Error as error:
        raise UserError(
            f"{folder}: cannot be written ({error}); make room or name another folder"
        ) from error


def put_samples(transaction: lmdb.Transaction, first: int, samples: Iterable[Sample]) -> int:
    """Put samples under the numbers from `first` on; returns the next number."""
    number = first
    for image, label in samples:
        transaction.put(IMAGE_KEY.format(number).encode(), image)
        if label is not None:
            transaction.put(LABEL_KEY.format(number).encode(), label.encode())
        number += 1
    return number


def put_count(transaction: lmdb.Transaction, count: int) -> None:
    """The last key: what has none is not whole."""
    transaction.put(COUNT_KEY, str(count).encode())
