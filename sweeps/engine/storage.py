"""Where Optuna keeps a sweep's trials: a journal in the sweep's folder, or a database; what is said when it does not answer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from core.runtime.errors import UserError

JOURNAL = "journal.log"
STORAGE_ERRORS = (
    OptunaError,
    SQLAlchemyError,
)  # what Optuna raises where a storage does not answer


class JournalLock(JournalFileOpenLock):
    """The open lock, which holds on shared file systems too; who gets it cuts off a line that a full disk, or the end of its
    writer, left unfinished, so that what is appended begins a line of its own."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self.journal = journal

    def acquire(self) -> bool:
        """Wait for the lock."""
        got = super().acquire()
        with self.journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            place = end
            while place and file.seek(place - 1) is not None and file.read(1) != b"\n":
                place -= 1
            if place < end:
                file.truncate(place)
        return got


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The journal in a sweep's folder, or the storage at a URL. Raises UserError where it cannot be reached."""
    with told(folder, url):
        if url is None:
            path = folder / JOURNAL
            return JournalStorage(JournalFileBackend(str(path), JournalLock(path)))
        return get_storage(
            RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        )  # one cache for all of its studies


@contextmanager
def told(folder: Path, url: str | None) -> Iterator[None]:
    """Tell what is wrong with a storage in one sentence."""
    try:
        yield
    except (*STORAGE_ERRORS, ImportError) as error:
        raise UserError(f"--storage {masked(url)}: {reason_of(error)}") from error
    except KeyError as error:
        place = folder / JOURNAL if url is None else f"--storage {masked(url)}"
        raise UserError(
            f"{place}: there is no sweep {folder.name}; its own command begins it"
        ) from error
    except ValueError as error:
        if url is not None:
            raise UserError(f"--storage {masked(url)}: {error}") from error
        advice = "move its folder aside; finished runs are kept, so the trials are computed again in moments"
        raise UserError(f"{folder / JOURNAL}: damaged ({error}); {advice}") from error


def reason_of(error: BaseException) -> str:
    """An error of a storage on one line, its cause first."""
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def masked(url: str | None) -> str:
    """A storage's name without its password. Raises UserError if it is no address."""
    if url is None:
        return JOURNAL
    try:
        found = make_url(url)
        if found.drivername.startswith("sqlite") and found.database not in (None, "", ":memory:"):
            found = found.set(database=str(Path(str(found.database)).resolve()))
        return found.render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError) as error:
        raise UserError(
            "--storage: not an address like sqlite:///sweep.db or postgresql://user@host/db"
        ) from error
