"""Checkpoints of half precision, of other frameworks, with NaN, and files that are none."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call
from released_files import write_released_files
from safetensors.torch import load_file, save_file

from core.checkpoints.released import read_released
from core.model.vit import is_table_of


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = write_released_files(tmp_path_factory.mktemp("released"))["lmim"]
    return path


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=False)  # this test wrote the file
    return content


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_imported_as_fp32(
    dtype: torch.dtype, released: Path, tmp_path: Path
) -> None:
    content = content_of(released)
    state = {name: value.to(dtype) for name, value in content["model"].items()}
    path = tmp_path / "half.pth"
    torch.save(content | {"model": state}, path)
    imported = read_released(path)
    assert all(value.dtype == torch.float32 for value in imported.weights.values())
    encoder: Any = getattr(imported.config, "encoder", imported.config)
    assert is_table_of(encoder, imported.weights["encoder.positions"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": {f"_orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {"model": {f"module.module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"model": {"state_dict": state}, "epoch": 3},
        lambda state: {"student": state, "teacher": {}},
        lambda state: {"model_ema": state},
        lambda state: state,
    ],
)
def test_nested_and_wrapped_state_dicts_are_found(
    wrap: Any, released: Path, tmp_path: Path
) -> None:
    content = content_of(released)
    path = tmp_path / "wrapped.pth"
    torch.save({"args": content.get("args")} | wrap(content["model"]), path) if not isinstance(
        next(iter(wrap(content["model"]).values())), torch.Tensor
    ) else torch.save(wrap(content["model"]), path)
    expected = read_released(released).weights
    assert read_released(path).weights.keys() == expected.keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_with_their_name(
    value: float, released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = content_of(released)
    name = next(iter(content["model"]))
    content["model"][name] = content["model"][name].clone()
    content["model"][name].view(-1)[:2] = value
    path = tmp_path / "nan.pth"
    torch.save(content, path)
    code, _, err = call(capsys, "import", path, tmp_path / "out.safetensors")
    assert code == 2
    assert name in err
    assert " 2 of " in err
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("command", ["predict", "export"])
def test_a_model_with_nan_is_refused_by_every_command(
    command: str, released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "good.safetensors"
    assert call(capsys, "import", released, good)[0] == 0
    tensors = load_file(good)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = float("nan")
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad)
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    options = {"predict": (image, "--model", bad), "export": (bad, tmp_path / "out.pth")}
    code, out, err = call(capsys, command, *options[command])
    assert (code, out) == (2, "")
    assert "NaN" in err


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "web page"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.mkdir(), "folder"),
        (write_zip, "ZIP"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00" + bytes(40)), "gzip"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_checkpoint_is_named_as_what_it_is(
    write: Any, part: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(path)
    if suffix == ".safetensors" and path.is_dir():
        return  # such a folder is a run's
    if suffix == ".pth":
        code, _, err = call(capsys, "import", path, tmp_path / "out.safetensors")
    else:
        image = tmp_path / "a.png"
        image.write_bytes(b"")
        code, _, err = call(capsys, "predict", image, "--model", path)
    assert code == 2
    assert part in err
    assert str(path) in err
