"""Weights with NaN or infinity are refused by name, whatever command uses them."""

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import call
from PIL import Image
from planned_checkpoint import plan_with
from released_files import Files, write_released_files

from core.checkpoints.load import load_weights, read_recognizer
from core.runtime import pickle_io, safetensors_io
from core.runtime.errors import UserError

Capture = pytest.CaptureFixture[str]
VALUES = [math.nan, math.inf, -math.inf]
NAMES = {"lmim": "encoder.norm.weight", "recognizer": "classify.bias"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_released_files(tmp_path_factory.mktemp("released"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (60, 20)).save(path)
    return path


def spoiled_checkpoint(path: Path, out: Path, value: float) -> str:
    """Write a released file with two such values; returns the name of their weight."""
    content = pickle_io.load_pickle(path)
    name: str = next(iter(content["model"]))
    content["model"][name] = content["model"][name].clone()
    content["model"][name].view(-1)[:2] = value
    torch.save(content, out)
    return name


def spoiled_model(path: Path, out: Path, name: str, value: float) -> Path:
    """Write the file in our format with one such value in the weight of this name."""
    weights, metadata = load_weights(path)
    weights[name].view(-1)[0] = value
    safetensors_io.save(out, weights, metadata)
    return out


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("kind", ["lmim", "recognizer", "maerec"])
def test_import_refuses_them_with_name_and_count(
    kind: str, value: float, files: Files, tmp_path: Path, capsys: Capture
) -> None:
    name = spoiled_checkpoint(files[kind], tmp_path / "x.pth", value)
    out = tmp_path / "out.safetensors"
    code, _, err = call(capsys, "import", tmp_path / "x.pth", out)
    assert code == 2
    assert name in err
    assert " 2 of " in err
    assert err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_import_refuses_them_in_types_of_low_precision(
    dtype: torch.dtype, files: Files, tmp_path: Path, capsys: Capture
) -> None:
    content = pickle_io.load_pickle(files["maerec"])
    content["model"]["norm.bias"] = torch.full((48,), math.nan).to(dtype)
    torch.save(content, tmp_path / "x.pth")
    code, _, err = call(capsys, "import", tmp_path / "x.pth", tmp_path / "out.safetensors")
    assert code == 2
    assert "norm.bias has 48 of 48" in err


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("kind", ["lmim", "recognizer"])
def test_export_and_predict_refuse_them(
    kind: str, value: float, files: Files, image: Path, tmp_path: Path, capsys: Capture
) -> None:
    bad = spoiled_model(files[kind], tmp_path / "bad.safetensors", NAMES[kind], value)
    out = tmp_path / "out.pth"
    for arguments in (("export", bad, out), ("predict", image, "--model", bad, "--json")):
        code, printed, err = call(capsys, *arguments)
        assert (code, printed) == (2, "")
        assert NAMES[kind] in err
    assert not out.exists()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ["init.encoder", "init.recognizer", "teacher.file"])
def test_a_plan_refuses_them_as_the_start_of_a_run(
    key: str, value: float, files: Files, tmp_path: Path
) -> None:
    kind = "recognizer" if key == "init.recognizer" else "lmim"
    bad = spoiled_model(files[kind], tmp_path / "bad.safetensors", NAMES[kind], value)
    with pytest.raises(UserError, match=NAMES[kind]):
        plan_with(key, bad, tmp_path)


def test_evaluation_refuses_them(files: Files, tmp_path: Path) -> None:
    bad = spoiled_model(files["recognizer"], tmp_path / "x.safetensors", "classify.bias", math.nan)
    with pytest.raises(UserError, match=r"classify\.bias"):
        read_recognizer(bad)


def test_finite_weights_that_overflow_give_valid_json_with_an_error(
    files: Files, image: Path, tmp_path: Path, capsys: Capture
) -> None:
    weights, metadata = load_weights(files["recognizer"])
    weights["classify.weight"] = torch.full_like(weights["classify.weight"], 3e38)
    model = tmp_path / "huge.safetensors"
    safetensors_io.save(model, weights, metadata)
    code, out, err = call(capsys, "predict", image, "--model", model, "--json", "--device", "cpu")
    (row,) = json.loads(out, parse_constant=pytest.fail)
    assert code == 1
    assert row["confidence"] is None
    assert "NaN" in row["error"]
    assert str(image) in err
