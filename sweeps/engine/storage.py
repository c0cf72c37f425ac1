"""Optuna's storage of a sweep: a journal in the sweep's folder, or a database; and its errors."""

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
STORAGE_ERRORS = (OptunaError, SQLAlchemyError)  # a storage does not answer


class JournalLock(JournalFileOpenLock):
    """Optuna's lock file, which also works on shared file systems.

    The process that gets the lock removes an incomplete last line of the journal. A full disk, or
    the end of the process that wrote it, leaves such a line.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self.journal = journal

    def acquire(self) -> bool:
        """Wait for the lock."""
        acquired = super().acquire()
        with self.journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            position = end
            while position and file.seek(position - 1) is not None and file.read(1) != b"\n":
                position -= 1
            if position < end:
                file.truncate(position)
        return acquired


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The journal in a sweep's folder, or the storage at a URL.

    Raises UserError if it cannot be opened.
    """
    with explained_errors(folder, url):
        if url is None:
            path = folder / JOURNAL
            return JournalStorage(JournalFileBackend(str(path), JournalLock(path)))
        database = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        return get_storage(database)  # adds a cache that all studies of the storage share


@contextmanager
def explained_errors(folder: Path, url: str | None) -> Iterator[None]:
    """Turn a storage's exceptions into UserError, with the storage's name and what to do."""
    try:
        yield
    except (*STORAGE_ERRORS, ImportError) as error:
        raise UserError(f"--storage {without_password(url)}: {short_reason(error)}") from error
    except KeyError as error:
        storage = folder / JOURNAL if url is None else f"--storage {without_password(url)}"
        raise UserError(
            f"{storage}: does not contain sweep {folder.name}; run the sweep to create it"
        ) from error
    except ValueError as error:
        if url is not None:
            raise UserError(f"--storage {without_password(url)}: {error}") from error
        raise UserError(
            f"{folder / JOURNAL}: damaged ({error}); move the sweep's folder aside and run the "
            "sweep again. Complete runs are kept, so their trials take seconds"
        ) from error


def short_reason(error: BaseException) -> str:
    """The first line of the cause of a storage's exception."""
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def without_password(url: str | None) -> str:
    """The name of a storage: its URL with a masked password, or the journal's file name.

    Raises UserError if the URL is invalid.
    """
    if url is None:
        return JOURNAL
    try:
        parsed = make_url(url)
        is_sqlite = parsed.drivername.startswith("sqlite")
        if is_sqlite and parsed.database not in (None, "", ":memory:"):
            parsed = parsed.set(database=str(Path(str(parsed.database)).resolve()))
        return parsed.render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError) as error:
        raise UserError(
            "--storage: not an address like sqlite:///sweep.db or postgresql://user@host/db"
        ) from error
