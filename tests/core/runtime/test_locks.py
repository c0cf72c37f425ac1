"""Locks: one holder at a time, and one sentence where a file system has none."""

import errno
import fcntl
from pathlib import Path
from typing import NoReturn

import pytest

from core.runtime.errors import UserError
from core.runtime.files import NO_LOCK_ERRORS, try_lock


def test_a_lock_has_one_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "folder" / ".lock"
    with try_lock(path) as first, try_lock(path) as second:
        assert (first, second) == (True, False)
    with try_lock(path) as third:
        assert third


@pytest.mark.parametrize("number", [*sorted(NO_LOCK_ERRORS), errno.EBADF])
def test_a_file_system_without_locks_is_an_error_of_the_user(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / ".lock"
    expected = UserError if number in NO_LOCK_ERRORS else OSError
    with pytest.raises(expected) as error, try_lock(path):
        pass
    assert (str(path) in str(error.value)) == (expected is UserError)
