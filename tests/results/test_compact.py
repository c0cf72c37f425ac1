"""Smaller files of published runs: what they keep, and that readers of both forms agree."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.tables.prediction_files import read_predictions
from core.runtime.errors import UserError
from results.bundle import read_bundle, write_bundle
from results.compact import compact, main, portable_path, shortened
from results.store import Run, Store

RUN = "probe-0123456789ab"
ROWS: list[tuple[Any, ...]] = [
    ("a", 0, "one", 'o"n,e', 0.123456, 1, 10.78557),
    ("a", 2, "two", "", 0.9999, 1, ""),
    ("b", 0, "three", "three", 1.0, 0, 0.00012),
]
LOG = {"step": 10, "loss": 0.21351234567, "images": 352, "validation": {"words": [0.125, 1 / 3]}}


def make_run(folder: Path, rows: list[tuple[Any, ...]] = ROWS) -> Run:
    run = Store(folder).run(RUN)
    run.folder.mkdir(parents=True)
    run.write_json("record.json", {})
    run.write_predictions(rows)
    run.write_correct({"a": [False, False], "b": [True]})
    (run.folder / "metrics.jsonl").write_text(json.dumps(LOG) + "\n")
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def test_texts_and_likelihoods_stay_and_confidences_are_rounded(run: Run, tmp_path: Path) -> None:
    before = run.predictions()
    compact(tmp_path)
    after, unchanged = run.predictions_with_nll()
    confidences = before.index(("0.123456", "0.9999", "1.0"))
    assert after[confidences] == ("0.12", "1", "1")
    del before[confidences], after[confidences]
    assert before == after
    assert unchanged is not None
    np.testing.assert_array_equal(unchanged, [10.78557, np.nan, 0.00012])
    assert run.has_nll()


def test_paths_of_data_name_no_folder_of_the_machine(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMIM_SHARED", "/home/me/shared")
    monkeypatch.delenv("LMIM_DATA", raising=False)
    paths = {
        "/home/me/results/data/0123456789ab/train": "data/0123456789ab/train",
        "/home/me/shared/str/svt_test": "${LMIM_SHARED}/str/svt_test",
        "/home/me/words": "/home/me/words",
        "data/0123456789ab/train": "data/0123456789ab/train",
    }
    run.write_json("record.json", {"data": {"train": [{"path": path} for path in paths]}})
    compact(tmp_path)
    assert [root["path"] for root in run.record()["data"]["train"]] == list(paths.values())
    assert [portable_path(path) for path in paths.values()] == list(paths.values())


def test_logs_keep_steps_and_six_digits(run: Run, tmp_path: Path) -> None:
    compact(tmp_path)
    (line,) = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == LOG | {
        "loss": 0.213512,
        "validation": {"words": [0.125, 0.333333]},
    }


def test_runs_on_the_same_words_share_the_bytes_of_their_labels(tmp_path: Path) -> None:
    other = [(*row[:3], "another", 0.5, row[5], 1.0) for row in ROWS]
    folders = []
    for name, rows in (("first", ROWS), ("second", other)):
        folders.append(make_run(tmp_path / name, rows).folder)
        compact(tmp_path / name)
    first, second = ((folder / "words.csv").read_bytes() for folder in folders)
    assert first == second


def test_a_second_time_changes_nothing(run: Run, tmp_path: Path) -> None:
    compact(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    compact(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_runs_without_nll_keep_none(run: Run, tmp_path: Path) -> None:
    path = run.folder / "predictions.csv"
    path.write_text("subset,index,label,prediction,confidence,readable\na,0,one,on,0.5,1\n")
    compact(tmp_path)
    columns, likelihoods = run.predictions_with_nll()
    assert columns == [("a",), ("0",), ("one",), ("on",), ("0.5",), ("1",)]
    assert likelihoods is None


def test_the_stored_scores_stay_valid_until_labels_change(run: Run, tmp_path: Path) -> None:
    compact(tmp_path)
    scores = run.correct()
    assert scores is not None
    assert {name: values.tolist() for name, values in scores.items()} == {"a": [0, 0], "b": [1]}
    words = run.folder / "words.csv"
    words.write_text(words.read_text().replace("three", "tree"))
    assert run.correct() is None


def test_score_reads_both_forms_alike(run: Run, tmp_path: Path) -> None:
    path = run.folder / "predictions.csv"
    before = read_predictions(path)
    compact(tmp_path)
    after = read_predictions(path)
    assert after.keys() == before.keys()
    for name, rows in before.items():
        assert [(row.index, row.label, row.prediction, row.scorable) for row in after[name]] == [
            (row.index, row.label, row.prediction, row.scorable) for row in rows
        ]


def test_a_bundle_has_the_labels_too(run: Run, tmp_path: Path) -> None:
    compact(tmp_path)
    path = tmp_path / "runs.zip"
    write_bundle(Store(tmp_path), [RUN], path, experiment="e", scale="s", seeds=[0])
    other = Store(tmp_path / "other")
    read_bundle(other, path)
    assert other.run(RUN).predictions() == run.predictions()


@pytest.mark.parametrize(
    "words",
    [
        "",
        "subset,index,label,readable\n",
        "subset,index,label,readable\na,0,one,1\n",
        "index,label\n0,one\n",
    ],
)
def test_labels_that_do_not_fit_are_an_error(run: Run, tmp_path: Path, words: str) -> None:
    compact(tmp_path)
    (run.folder / "words.csv").write_text(words)
    with pytest.raises(UserError, match=r"predictions\.csv"):
        run.predictions()
    with pytest.raises(UserError, match=r"predictions\.csv"):
        read_predictions(run.folder / "predictions.csv")


def test_checkpoints_with_other_words_are_refused(run: Run, tmp_path: Path) -> None:
    run.write_predictions(ROWS[:2], earlier=1)
    with pytest.raises(UserError, match="other words"):
        compact(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [("", ""), ("0.78557", "0.79"), ("1.0", "1"), ("0", "0"), ("100", "100"), ("nan", "nan")],
)
def test_a_number_loses_digits_and_no_magnitude(value: str, text: str) -> None:
    assert shortened(value) == text


def test_a_folder_without_runs_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
