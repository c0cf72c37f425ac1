"""Released files that do not fit are refused in one line that names the problem."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call
from released_files import Change, Files, altered, drop, put, write_released_files

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_released_files(tmp_path_factory.mktemp("released"))


def refused_import(capsys: Capture, path: Path, out: Path, *options: str) -> str:
    """The only line of the error; nothing is written."""
    code, _, err = call(capsys, "import", path, out, *options)
    assert code == 2
    assert err.count("\n") == 1
    assert not out.exists()
    return err


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        ("lmim", drop("model_maeenc.blocks.1."), "first missing: encoder.blocks.1.norm1.weight"),
        (
            "lmim",
            drop("model_maeenc_momentum.blocks.2."),
            "first missing: target.encoder.blocks.2.norm1.weight",
        ),
        ("lmim", drop("model_maeenc.cls_token"), "encoder.cls_token is missing"),
        ("recognizer", drop("patch_embed"), "patch_embed.proj.weight is missing"),
        ("recognizer", drop("layer_stack.0."), "layers.0.feedforward.0.weight is missing"),
        ("recognizer", put("decoder.classifier.weight", 60, 64), "has 60 classes"),
        (
            "recognizer",
            put("linear_norm.0.weight", 32, 48),
            "bridge.0.weight has shape [32, 48], not [64, 48]",
        ),
        ("lmim", put("model_maeenc.pos_embed", 1, 257, 48), "encoder.positions is neither"),
        ("lmim", put("model_maeenc.cls_token", 1, 1, 40), "pos_embed has shape [1, 257, 48]"),
        ("maerec", put("patch_embed.proj.weight", 48, 48), "shapes that no such model has"),
        (
            "lmim",
            lambda content: content.update(model={"conv1.weight": torch.zeros(3)}),
            "0 of 1 weights matched (first: conv1",
        ),
        ("lmim", lambda content: content.update(model={}), "holds no state dict"),
        ("lmim", lambda content: content.update(model=3), "holds no state dict"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    files: Files, kind: str, change: Change, problem: str, tmp_path: Path, capsys: Capture
) -> None:
    bad = altered(files[kind], tmp_path / "bad.pth", change)
    assert problem in refused_import(capsys, bad, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("kind", "setting", "problem"),
    [
        ("lmim", "encoder.depth=12", "first missing: encoder.blocks.3.norm1.weight"),
        ("lmim", "encoder.depths=12", "encoder.depths"),
        ("lmim", "encoder.positions=grid", "set encoder.positions=released"),
        ("recognizer", "encoder.positions=grid", "set encoder.positions=released"),
        ("maerec", "decoder.depth=2", "decoder"),
    ],
)
def test_a_setting_that_the_file_contradicts_is_refused(
    files: Files, kind: str, setting: str, problem: str, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "x.safetensors"
    assert problem in refused_import(capsys, files[kind], out, "--set", setting)


class Harmful:
    """A pickle that creates a file if it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_no_code_in_a_pickle_is_executed(tmp_path: Path, capsys: Capture) -> None:
    mark = tmp_path / "executed"
    torch.save({"model": {"a": torch.zeros(1)}, "args": Harmful(mark)}, tmp_path / "torch.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Harmful(mark)}))
    for name in ("torch.pth", "plain.pth"):
        error = refused_import(capsys, tmp_path / name, tmp_path / "x.safetensors")
        assert "without executing code" in error
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(
    files: Files, share: float, tmp_path: Path, capsys: Capture
) -> None:
    whole = files["lmim"].read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: int(share * len(whole))])
    error = refused_import(capsys, tmp_path / "cut.pth", tmp_path / "x.safetensors")
    assert ("damaged" if share else "empty") in error


def test_a_path_that_is_no_checkpoint_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.pth").write_text("some text")
    for path in (tmp_path / "text.pth", tmp_path, tmp_path / "nowhere.pth"):
        assert str(path) in refused_import(capsys, path, tmp_path / "x.safetensors")


def test_an_imported_file_must_end_in_safetensors(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    assert ".safetensors" in refused_import(capsys, files["lmim"], tmp_path / "x.pth")
