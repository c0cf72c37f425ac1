"""Grids of images with their predictions, and the command `grid`."""

from pathlib import Path

import pytest
from conftest import call, jpeg, write_lmdb
from PIL import Image
from table_records import write_evaluation

from analysis.figures.predictions import choose_examples, prediction_grid
from core.data.word_images import WordImages
from core.text.protocols import PROTOCOLS, Prediction
from results.store import Store

WAICS = PROTOCOLS["waics"]
PREDICTIONS = [Prediction(number, f"w{number}", f"w{min(number, 5)}", 0.9) for number in range(9)]


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Eight words and a broken image."""
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(number), f"w{number}") for number in range(8)
    ]
    return write_lmdb(tmp_path / "data", [*samples, (b"broken", "x")])


def test_examples_are_correct_and_wrong_predictions_in_equal_parts() -> None:
    chosen = choose_examples(PREDICTIONS, WAICS, 4)
    assert [prediction.index for prediction in chosen] == [0, 5, 6, 8]


def test_a_grid_shows_predictions_and_labels_that_differ(root: str) -> None:
    chosen = choose_examples(PREDICTIONS, WAICS, 4)
    axes = prediction_grid(WordImages([root]), chosen, WAICS, "title")
    assert [cell.get_title() for cell in axes[:4]] == ["w0", "w5", "w5\n[w6]", "w5\n[w8]"]
    assert [len(cell.images) for cell in axes[:4]] == [1, 1, 1, 0]


def test_the_command_grid_writes_a_picture_of_an_evaluation(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Store(tmp_path / "results").run("evaluate-1")
    run.write_json(
        "record.json",
        {
            "stage": "evaluate",
            "metrics": {"protocol": "waics", "labels": "strict"},
            "data": {"mine": [{"path": root}]},
        },
    )
    run.write_predictions(
        ("mine", row.index, row.label, row.prediction, row.confidence, 1, "") for row in PREDICTIONS
    )
    code, out, _ = call(capsys, "grid", "evaluate-1", "--results", tmp_path / "results")
    assert code == 0
    with Image.open(out.strip()) as picture:
        assert picture.width > 1000
    assert call(capsys, "grid", "evaluate-2", "--results", tmp_path / "results")[0] == 2


def test_grid_finds_images_by_a_variable_in_the_recorded_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published records name the folder of the data by a variable."""
    write_lmdb(tmp_path / "data" / "curve", [(jpeg(0), "ab"), (jpeg(9), "ab")])
    store = Store(tmp_path / "results")
    run = write_evaluation(store, "evaluate-a", {"curve": [1, 0]}, stage="evaluate")
    record = store.run(run).record()
    record["data"] = {"curve": [{"path": "${GRID_DATA}/curve", "fingerprint": "f"}]}
    store.run(run).write_json("record.json", record)
    monkeypatch.setenv("GRID_DATA", str(tmp_path / "data"))
    out = tmp_path / "figures"
    code, printed, err = call(capsys, "grid", run, "--results", store.root, "--out", out)
    assert code == 0, err
    assert printed.split() == [str(out / "evaluate-a.curve.png")]
    assert (out / "evaluate-a.curve.png").is_file()
