"""Files that cannot be written because the disk is full: one sentence, and nothing is left."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest
import torch
from safetensors import SafetensorError

from core.data.lmdb_folder import new_lmdb, put_samples
from core.runtime import pickle_io, safetensors_io
from core.runtime.errors import DiskError
from core.runtime.files import overwrite_text, write_text

FULL_DEVICE = Path("/dev/full")  # every write fails with ENOSPC

pytestmark = pytest.mark.skipif(not FULL_DEVICE.exists(), reason="there is no /dev/full here")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files of weights are on a full device."""

    @contextmanager
    def atomic_path(path: Path) -> Iterator[Path]:
        yield FULL_DEVICE

    for module in (pickle_io, safetensors_io):
        monkeypatch.setattr(module, "atomic_path", atomic_path)


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.usefixtures("full_disk")
def test_a_pickle_on_a_full_disk_is_one_sentence(tmp_path: Path, size: int) -> None:
    path = tmp_path / "out.pth"
    with pytest.raises(DiskError) as error:
        pickle_io.save_pickle(path, {"model": {"weight": torch.zeros(size)}})
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("message", ["No space left on device (os error 28)", "I/O error"])
def test_weights_on_a_full_disk_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def save_file(*_: object) -> None:
        raise SafetensorError(message)

    monkeypatch.setattr(safetensors_io, "save_file", save_file)
    path = tmp_path / "model.safetensors"
    with pytest.raises(DiskError, match="free disk space") as error:
        safetensors_io.save(path, {"weight": torch.zeros(3)}, {})
    assert str(path) in str(error.value)
    assert list(tmp_path.iterdir()) == []


def fill_lmdb(folder: Path) -> None:
    with new_lmdb(folder) as environment:
        environment.set_mapsize(1 << 16)
        with environment.begin(write=True) as transaction:
            put_samples(transaction, 1, [(bytes(1 << 17), "word")])


def test_an_lmdb_that_becomes_full_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as error:
        fill_lmdb(tmp_path / "words")
    assert str(tmp_path / "words") in str(error.value)
    assert isinstance(error.value.__cause__, lmdb.Error)


def save_pickle(path: Path) -> None:
    pickle_io.save_pickle(path, {"model": {}})


def save_weights(path: Path) -> None:
    safetensors_io.save(path, {}, {})


def save_text(path: Path) -> None:
    write_text(path, "text")


@pytest.mark.parametrize("write", [save_pickle, save_weights, save_text])
def test_other_errors_keep_their_kind(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file") as error:
        write(tmp_path / "file" / "out")
    assert error.value.errno in (errno.ENOTDIR, errno.EEXIST)


@pytest.mark.parametrize("text", ["", "shorter", "longer " * 9, "ü"])
def test_a_text_is_overwritten_whole_in_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text("a text of some length")
    inode = path.stat().st_ino
    overwrite_text(path, text)
    assert path.read_text(encoding="utf-8") == text
    assert path.stat().st_ino == inode


def test_a_file_that_does_not_exist_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        overwrite_text(tmp_path / "state.json", "text")
