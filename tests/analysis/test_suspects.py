"""Labels that a confident recognizer disagrees with, and the command `data suspects`."""

import csv
import json
from pathlib import Path

import pytest
from commands import REPOSITORY
from conftest import call, jpeg, write_lmdb
from PIL import Image

from analysis.figures.suspects import suspect_grid
from analysis.tables.suspects import check_folder, find_suspects
from core.data.word_images import WordImages
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS, Prediction

LABELS = ["Sevices", "Bank", "EXIT", "on", "broken"]
PREDICTIONS = [
    Prediction(0, "Sevices", "Services", 0.95),
    Prediction(1, "Bank", "bank", 0.99),
    Prediction(2, "EXIT", "EXT", 0.5),
    Prediction(3, "on", "no", 0.97),
    Prediction(4, "broken", "x", 0.99, scorable=False),
]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return write_lmdb(
        tmp_path / "words", [(jpeg(number), label) for number, label in enumerate(LABELS)]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Predictions of two subsets."""
    path = tmp_path / "predictions.csv"
    lines = ["subset,index,label,prediction,confidence,readable,recognizer"]
    lines += [
        f"words,{row.index},{row.label},{row.prediction},{row.confidence},"
        f"{int(row.scorable)},ppocrv6"
        for row in PREDICTIONS
    ]
    path.write_text("\n".join([*lines, "other,0,a,b,1,1,ppocrv6"]) + "\n")
    return path


@pytest.mark.parametrize(
    ("protocol", "confidence", "indices"),
    [
        ("waics", 0.9, [3, 0]),
        ("waics", 0.95, [3, 0]),
        ("waics", 0.96, [3]),
        ("waics", 0.0, [3, 0, 2]),
        ("case_sensitive", 0.9, [1, 3, 0]),
    ],
)
def test_suspects_disagree_confidently_under_the_protocol(
    protocol: str, confidence: float, indices: list[int]
) -> None:
    found = find_suspects("words", PREDICTIONS, PROTOCOLS[protocol], confidence)
    assert [suspect.index for suspect in found.suspects] == indices
    assert found.images == 5
    assert found.wrong == (3 if protocol == "waics" else 4)


def test_edits_are_counted_after_normalization() -> None:
    found = find_suspects("", [Prediction(0, "A-b", "abc", 1.0)], PROTOCOLS["waics"], 0.9)
    assert [suspect.edits for suspect in found.suspects] == [1]


def test_a_picture_has_label_prediction_and_confidence(root: str) -> None:
    found = find_suspects("words", PREDICTIONS, PROTOCOLS["waics"], 0.9)
    first, second, *_ = suspect_grid(WordImages([root]), found.suspects, "title")
    assert (first.get_title(), first.get_xlabel()) == ("3\n[on]", "no\n0.970")
    assert (second.get_title(), second.get_xlabel()) == ("0\n[Sevices]", "Services\n0.950")
    assert len(first.images) == 1


def test_the_command_writes_lists_and_pictures(
    root: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, printed, err = call(
        capsys, "data", "suspects", root, "--predictions", file, "--out", out, "--json"
    )
    assert code == 0, err
    content = json.loads(printed)
    assert content == json.loads((out / "suspects.json").read_text())
    assert (content["protocol"], content["confidence"]) == ("waics", 0.9)
    with (out / "suspects.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["index"], row["label"], row["prediction"]) for row in rows] == [
        ("3", "on", "no"),
        ("0", "Sevices", "Services"),
    ]
    with Image.open(out / "suspects-1.png") as picture:
        assert picture.width > 1000
    assert "not comparable" in err
    assert {path.name for path in out.iterdir()} == {
        "suspects.csv",
        "suspects.json",
        "suspects-1.png",
    }


def test_pages_of_an_earlier_call_are_removed(
    root: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "suspects-2.png").write_bytes(b"earlier")
    words = ("data", "suspects", root, "--predictions", file, "--out", out, "--images", 1)
    assert call(capsys, *words)[0] == 0
    assert [path.name for path in sorted(out.glob("*.png"))] == ["suspects-1.png"]


def test_without_a_folder_nothing_is_written(
    root: str,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, out, _ = call(capsys, "data", "suspects", root, "--predictions", file)
    assert code == 0
    assert "'Sevices'" in out
    assert not list((tmp_path / "here").iterdir())


def test_predictions_of_other_data_are_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A root of the subset's name with other labels, and a root that no subset is named after."""
    for name, part in (("words", "image 1"), ("third", "other, words")):
        folder = tmp_path / "elsewhere" / name
        root = write_lmdb(folder, [(jpeg(1), "Sevices"), (jpeg(2), "Tank")])
        code, _, err = call(capsys, "data", "suspects", root, "--predictions", file)
        assert code == 2
        assert part in err


@pytest.mark.parametrize("name", ["analysis", "results/published/peer", "new_folder"])
def test_folders_that_git_would_track_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="inside the repository"):
        check_folder(REPOSITORY / name)


def test_ignored_folders_and_folders_elsewhere_are_allowed(tmp_path: Path) -> None:
    check_folder(tmp_path)
    if not (REPOSITORY / ".git").exists():
        pytest.skip("no git checkout, so nothing is ignored")
    check_folder(REPOSITORY / "results" / "figures" / "suspects")
