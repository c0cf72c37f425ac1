"""Folders that are no readable LMDB: one sentence on standard error; the others are checked."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import call, jpeg, write_lmdb

from core.data.lmdb_folder import open_lmdb
from core.runtime.errors import UserError


def lock_only(folder: Path) -> None:
    (folder / "lock.mdb").write_bytes(b"")


def empty(folder: Path) -> None:
    (folder / "data.mdb").write_bytes(b"")


def pointer(folder: Path) -> None:
    (folder / "data.mdb").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def web_page(folder: Path) -> None:
    (folder / "data.mdb").write_text("<!DOCTYPE html>\n<html></html>")


def cut(size: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        whole = write_lmdb(folder / "whole", [(jpeg(number), "a") for number in range(40)])
        (folder / "data.mdb").write_bytes(Path(whole, "data.mdb").read_bytes()[:size])

    return make


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "lock_only": (lock_only, "lock.mdb is here"),
    "empty": (empty, "0 bytes"),
    "pointer": (pointer, "git lfs pull"),
    "web_page": (web_page, "web page"),
    "cut_100": (cut(100), "not a readable LMDB"),
    "cut_4096": (cut(4096), "not a readable LMDB"),
    "cut_9000": (cut(9000), "cut short"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unusable_root_is_named_and_the_others_are_checked(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = BROKEN[name]
    (tmp_path / name).mkdir()
    make(tmp_path / name)
    with pytest.raises(UserError):
        open_lmdb(str(tmp_path / name))
    good = write_lmdb(tmp_path / "good", [(jpeg(1), "a"), (jpeg(2), "b")])
    for options in ([], ["--json"]):
        code, out, err = call(capsys, "data", "check", tmp_path / name, good, *options)
        assert code == 1
        assert reason in err
        assert reason in out
        assert str(good) in out
        assert "\n\n" not in err
        assert err.count("\n") == 1


def test_a_file_and_a_missing_folder_are_named_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    code, _, err = call(capsys, "data", "check", tmp_path / "file", tmp_path / "nowhere")
    assert code == 1
    assert "file: a file, not a folder" in err
    assert "nowhere: no such folder" in err
    for command in (["charset", tmp_path / "file"], ["overlap", tmp_path / "file", tmp_path]):
        code, _, err = call(capsys, "data", *command)
        assert code == 2
        assert "a file, not a folder" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(write_lmdb(tmp_path / "a", [(jpeg(1), "a")]))
    root.chmod(0)
    try:
        code, _, err = call(capsys, "data", "check", root)
    finally:
        root.chmod(0o755)
    assert code == 1
    assert "Permission denied" in err
