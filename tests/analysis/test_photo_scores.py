"""`run.py score --photos`: intervals over the photographs that a test set names."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call, jpeg, write_lmdb
from photos import name_photos

PHOTOS = [str(index // 5) for index in range(40)]
IS_RIGHT = [index // 5 % 2 == 0 for index in range(40)]  # words of a photo are all right or wrong


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Predictions for 40 words of `mine`, and for two of `other`."""
    lines = [f"mine,{n},word,{'word' if right else 'no'}" for n, right in enumerate(IS_RIGHT)]
    lines += ["other,0,ab,ab", "other,1,cd,no"]
    file = tmp_path / "predictions.csv"
    file.write_text("subset,index,label,prediction\n" + "\n".join(lines) + "\n")
    return file


def _root(folder: Path, photos: list[str], label: str = "word") -> str:
    words: list[Any] = [(jpeg(index), label) for index in range(len(photos))]
    return name_photos(write_lmdb(folder, words), photos)


def _score(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code, out, err = call(capsys, "score", *words, "--json")
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def _width(score: dict[str, Any]) -> float:
    return float(score["interval"][1] - score["interval"][0])


def test_a_score_takes_photographs_as_clusters(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = _score(capsys, predictions)
    clustered = _score(capsys, predictions, "--photos", _root(tmp_path / "mine", PHOTOS))
    first, second = (result["subsets"]["mine"] for result in (clustered, plain))
    assert (first["accuracy"], first["photographs"]) == (second["accuracy"], 8)
    assert first["design_effect"] == pytest.approx(5 * 39 / 40 * 8 / 7, abs=1e-4)
    assert _width(first) > 1.7 * _width(second)
    assert _width(clustered) > 1.5 * _width(plain)
    assert clustered["photographs"] == 8 + 2
    assert clustered["subsets"]["other"] == plain["subsets"]["other"]
    assert "mine 40 words of 8 photographs" in clustered["notes"][-1]
    assert "photographs" not in second


def test_both_label_policies_take_photographs_as_clusters(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _root(tmp_path / "mine", PHOTOS)
    both = _score(capsys, predictions, "--photos", root, "--labels", "both")
    for policy in ("strict", "released"):
        assert both[policy]["subsets"]["mine"]["photographs"] == 8


def test_photographs_of_one_word_each_change_no_score(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _root(tmp_path / "mine", [str(index) for index in range(40)])
    assert _score(capsys, predictions, "--photos", root) == _score(capsys, predictions)


@pytest.mark.parametrize(
    ("name", "photos", "label", "named"),
    [
        ("mine", [""] * 40, "word", "--boxes FILE"),
        ("mine", PHOTOS, "else", "image 0"),
        ("unknown", PHOTOS, "word", "no subset unknown"),
    ],
)
def test_a_root_that_does_not_fit_is_refused(
    name: str,
    photos: list[str],
    label: str,
    named: str,
    predictions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = _root(tmp_path / name, photos, label)
    code, _, err = call(capsys, "score", predictions, "--photos", root)
    assert code == 2
    assert named in err
