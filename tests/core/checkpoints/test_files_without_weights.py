"""A file that holds no weights is named as what it is, by every command that takes weights."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import call
from planned_checkpoint import plan_with

from core.runtime.errors import UserError

Capture = pytest.CaptureFixture[str]
Command = Callable[[Capture, Path], str]
TENSORS = {"model": {"blocks.0.norm1.weight": torch.ones(400)}}


def in_memory(write: Callable[[io.BytesIO], object]) -> bytes:
    memory = io.BytesIO()
    write(memory)
    return memory.getvalue()


def tar_of(mode: str) -> bytes:
    def write(memory: io.BytesIO) -> None:
        with tarfile.open(fileobj=memory, mode=mode) as archive:  # type: ignore[call-overload]
            archive.addfile(tarfile.TarInfo("lmim.pth"))

    return in_memory(write)


def zip_of(*names: str) -> bytes:
    def write(memory: io.BytesIO) -> None:
        with zipfile.ZipFile(memory, "w") as archive:
            for name in names:
                archive.writestr(name, "nothing")

    return in_memory(write)


CHECKPOINT = in_memory(partial(torch.save, TENSORS))
OLD_CHECKPOINT = in_memory(lambda f: torch.save(TENSORS, f, _use_new_zipfile_serialization=False))
SAFETENSORS = safetensors.torch.save({"a": torch.ones(300)})
DAMAGED = bytearray(CHECKPOINT)
DAMAGED[CHECKPOINT.index(b"data.pkl") + 80] ^= 0xFF

FILES: dict[str, tuple[bytes, str]] = {  # name -> (content, part of the message)
    "web page": (b"<!DOCTYPE html><html></html>", "web page"),
    "web page after lines": (b"\n\n  <HTML lang=en>\n", "web page"),
    "web page after a comment": (b"<!-- saved --><html>", "web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS"),
    "empty": (b"", "empty"),
    "zeros": (bytes(4000), "zero bytes"),
    "cut zip": (CHECKPOINT[: len(CHECKPOINT) // 2], "cut short"),
    "zip": (zip_of("a/lmim.pth"), "ZIP"),
    "empty zip": (zip_of(), "ZIP"),
    "torchscript": (zip_of("m/constants.pkl", "m/data.pkl"), "TorchScript"),
    "npz": (in_memory(lambda file: np.savez(file, a=np.zeros(3))), ".npz"),
    "npy": (in_memory(lambda file: np.save(file, np.zeros(3))), ".npy"),
    "tar": (tar_of("w"), "tar archive"),
    "tar.gz": (tar_of("w:gz"), "gzip"),
    "tar.xz": (tar_of("w:xz"), "xz"),
    "pickle": (pickle.dumps([1, 2], protocol=4), "pickle"),
    "old cut": (OLD_CHECKPOINT[:150], "old format"),
    "text": (b"The weights are at\nhttp://example.org\n", "text file"),
    "json": (b'{"error": "quota exceeded"}', "quota exceeded"),
    "utf-16": ("see the mail".encode("utf-16"), "text file"),
    "utf-8": ("gewählt: größer als".encode(), "gewählt"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
}
WRONG_SUFFIX: dict[str, tuple[bytes, str, str]] = {  # (content, suffix, part of the message)
    "checkpoint": (CHECKPOINT, ".safetensors", "end in .pth"),
    "old checkpoint": (OLD_CHECKPOINT, ".safetensors", "end in .pth"),
    "safetensors as pth": (SAFETENSORS, ".pth", "end in .safetensors"),
    "safetensors as pt": (SAFETENSORS, ".pt", "end in .safetensors"),
    "cut safetensors": (SAFETENSORS[:200], ".safetensors", "cut short"),
    "damaged": (bytes(DAMAGED), ".pth", "damaged"),
    "old": (OLD_CHECKPOINT[:150], ".pth", "cut short"),
}


def command_error(capsys: Capture, *arguments: object) -> str:
    """The only line on standard error of a command that refuses a file."""
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


def imports(capsys: Capture, path: Path) -> str:
    return command_error(capsys, "import", path, path.parent / "out.safetensors")


def predicts(capsys: Capture, path: Path) -> str:
    image = path.parent / "a.png"
    image.write_bytes(b"")
    return command_error(capsys, "predict", image, "--model", path)


def exports(capsys: Capture, path: Path) -> str:
    return command_error(capsys, "export", path, path.parent / "out.pth")


def plans(key: str, capsys: Capture, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        plan_with(key, path, path.parent)
    return str(caught.value)


COMMANDS: dict[str, Command] = {
    "import": imports,
    "predict": predicts,
    "init.encoder": partial(plans, "init.encoder"),
    "init.recognizer": partial(plans, "init.recognizer"),
    "teacher.file": partial(plans, "teacher.file"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("command", ["import", "predict"])
def test_a_file_is_named_as_what_it_is(
    command: str, suffix: str, name: str, tmp_path: Path, capsys: Capture
) -> None:
    content, part = FILES[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    error = COMMANDS[command](capsys, path)
    if name == "old cut" and suffix == ".safetensors":
        part = ".pth"
    assert part in error
    assert str(path) in error


@pytest.mark.parametrize("name", ["web page", "lfs pointer", "empty", "cut zip", "tar", "text"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("command", ["init.encoder", "init.recognizer", "teacher.file"])
def test_a_plan_names_a_file_as_what_it_is(
    command: str, suffix: str, name: str, tmp_path: Path, capsys: Capture
) -> None:
    content, part = FILES[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    error = COMMANDS[command](capsys, path)
    assert part in error
    assert str(path) in error


@pytest.mark.parametrize("name", ["web page", "lfs pointer", "empty", "npz", "tar", "text"])
def test_export_names_a_file_as_what_it_is(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(FILES[name][0])
    assert FILES[name][1] in exports(capsys, path)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("name", WRONG_SUFFIX)
@pytest.mark.parametrize("command", ["predict", "init.encoder"])
def test_weights_under_a_wrong_suffix_are_named(
    command: str, name: str, tmp_path: Path, capsys: Capture
) -> None:
    content, suffix, part = WRONG_SUFFIX[name]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert part in COMMANDS[command](capsys, path)


@pytest.mark.parametrize("key", ["init.encoder", "init.recognizer", "teacher.file"])
def test_a_run_that_starts_from_a_folder_cannot_start(key: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    plan = plan_with(key, tmp_path / "weights", tmp_path)
    unmet = [sentence for run in plan.runs.values() for sentence in run.unmet_requirements()]
    assert any("weights: a folder" in sentence for sentence in unmet)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("command", ["import", "predict", "export"])
def test_a_folder_in_the_position_of_a_file_is_named(
    command: str, suffix: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.mkdir()
    error = (COMMANDS | {"export": exports})[command](capsys, path)
    assert "folder" in error
    assert str(path) in error


@pytest.mark.parametrize("name", ["web page", "empty", "text"])
def test_grid_asks_for_a_run_in_place_of_a_file(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(FILES[name][0])
    error = command_error(capsys, "grid", path, "--results", tmp_path / "results")
    assert str(path) in error
    assert "evaluate run" in error
    assert not (tmp_path / "results" / "figures").exists()
