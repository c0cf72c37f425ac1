"""Writing LMDBs in the standard layout; the count, written last, says that one is whole."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from core.errors import UserError
from core.roots import COUNT_KEY, IMAGE_KEY, LABEL_KEY

Sample = tuple[bytes, str | None]  # an image file, its label if it has one


@contextmanager
def new_lmdb(folder: Path) -> Iterator[lmdb.Environment]:
    """An LMDB to be filled. Raises UserError if the disk is full, now or while it is filled."""
    try:
        with lmdb.open(str(folder), map_size=1 << 40, lock=False) as environment:
            yield environment
    except lmdb.Error as error:
        raise UserError(f"{folder}: cannot be written ({error}); make room or name another folder") from error


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
