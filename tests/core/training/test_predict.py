"""The command `predict`."""

import json
from pathlib import Path

import pytest
from conftest import call
from PIL import Image
from released_files import Files, write_released_files

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_released_files(tmp_path_factory.mktemp("released"))


def test_predict_recognizes_images_and_names_undecodable_ones(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "below").mkdir()
    for number, name in enumerate(("a.png", "b.JPG", "below/c.jpg")):
        Image.new("RGB", (60 + number, 20), (number, 99, 3)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("no image")
    options = ("--model", files["recognizer"], "--json", "--device", "cpu")
    code, out, err = call(capsys, "predict", tmp_path, *options)
    rows = {Path(row["image"]).name: row for row in json.loads(out)}
    assert code == 1
    assert set(rows) == {"a.png", "b.JPG", "c.jpg", "broken.png"}
    assert "error" in rows.pop("broken.png")
    assert "broken.png" in err
    for row in rows.values():
        assert 0 <= row["confidence"] <= 1
        assert isinstance(row["text"], str)


def test_predict_prints_a_line_of_path_text_and_confidence(
    files: Files, tmp_path: Path, capsys: Capture
) -> None:
    Image.new("RGB", (60, 20)).save(tmp_path / "a.png")
    options = ("--model", files["recognizer"], "--device", "cpu")
    code, out, _ = call(capsys, "predict", tmp_path / "a.png", *options)
    assert code == 0
    path, _, confidence = out.rstrip("\n").split("\t")
    assert path == str(tmp_path / "a.png")
    assert 0 <= float(confidence) <= 1


@pytest.mark.parametrize(
    ("images", "model", "problem"),
    [
        ("nowhere", "recognizer", "nowhere: no such file"),
        ("empty", "recognizer", "empty: no image"),
        ("a.png", "finetune-123", "finetune-123: "),
        ("a.png", "lmim", "holds no recognizer"),
    ],
)
def test_predict_refuses_missing_images_and_models(
    files: Files, images: str, model: str, problem: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (60, 20)).save(tmp_path / "a.png")
    options = ("--model", files.get(model, model), "--results", tmp_path, "--device", "cpu")
    code, _, err = call(capsys, "predict", tmp_path / images, *options)
    assert code == 2
    assert problem in err
