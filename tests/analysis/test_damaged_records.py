"""Damaged records: they count as missing, the error names them, other rows are shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from table_records import (
    DECODER,
    SUBSETS,
    content_of,
    make_row,
    measured,
    write_evaluation,
)

from analysis.tables.measurements import load_evaluation
from analysis.tables.render import FORMATS
from core.runtime.errors import UserError
from experiments.planning.planner import make_plan
from results.store import MOVE_FOLDER, Store

VALUES = {"curve": [1, 0, 1, 1, 0, 0, 0, 1, 1], "general": [0, 1]}


def loaded_values(store: Store) -> dict[str, list[int]]:
    """Subset -> 0 or 1 of each image, as `evaluate-a` is loaded."""
    evaluation = load_evaluation(store, "evaluate-a")
    assert evaluation is not None
    return {name: array.tolist() for name, array in evaluation.correct.items()}


@pytest.mark.parametrize("damage", ["deleted", "other content", "other predictions", "cut short"])
def test_a_damaged_correct_file_is_replaced_by_the_predictions(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    folder = store.run(write_evaluation(store, "evaluate-a", VALUES)).folder
    path = folder / "correct.json"
    original = path.read_text()
    path.unlink()
    if damage == "other content":
        path.write_text('{"predictions": 3}')
    elif damage == "other predictions":
        path.write_text(original.replace('"predictions": "', '"predictions": "other'))
    elif damage == "cut short":
        path.write_text(original[:40])
    assert loaded_values(store) == VALUES


def test_predictions_that_contradict_the_counts_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.run(write_evaluation(store, "evaluate-a", VALUES)).folder
    assert loaded_values(store) == VALUES
    path = folder / "predictions.csv"
    path.write_text(path.read_text().replace("curve,1,ab,x", "curve,1,ab,AB"))
    with pytest.raises(UserError, match=r"predictions\.csv and record\.json disagree"):
        loaded_values(store)


def test_predictions_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.run(write_evaluation(store, "evaluate-a", {"curve": [1, 0, 1]})).folder
    path = folder / "predictions.csv"
    path.write_text(path.read_text()[:-7])
    with pytest.raises(UserError, match=r"no readable predictions\.csv"):
        loaded_values(store)


def damaged_counts(key: str, value: int) -> Any:
    def damage(path: Path) -> None:
        record = json.loads(path.read_text())
        record["metrics"]["counts"]["curve"][key] = value
        path.write_text(json.dumps(record))

    return damage


def without_counts(path: Path) -> None:
    record = json.loads(path.read_text())
    record["metrics"]["counts"] = {}
    path.write_text(json.dumps(record))


def shuffled(path: Path) -> None:
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(lines)]) + "\n")


def replaced_by(content: bytes) -> Any:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("record.json", replaced_by(b"")),
        ("record.json", replaced_by(b"{}")),
        ("record.json", replaced_by(b"[]")),
        ("record.json", replaced_by(b"null")),
        ("record.json", replaced_by(b"\xff\xfe")),
        ("record.json", replaced_by(b'{"metrics": 3}')),
        ("record.json", damaged_counts("correct", 99)),
        ("record.json", damaged_counts("correct", -1)),
        ("record.json", damaged_counts("images", 0)),
        ("record.json", without_counts),
        ("predictions.csv", replaced_by(b"")),
        ("predictions.csv", replaced_by(b"subset,index\n")),
        ("predictions.csv", shuffled),
        ("state.json", replaced_by(b"{")),
        ("state.json", replaced_by(b"[]")),
    ],
)
def test_a_damaged_record_is_named_and_other_rows_are_shown(
    tmp_path: Path, name: str, damage: Any
) -> None:
    store = Store(tmp_path)
    for run in ("evaluate-a", "evaluate-b"):
        write_evaluation(store, run, {"curve": [1, 1, 0, 0, 1, 0, 1, 1]})
    folder = store.run("evaluate-b").folder
    damage(folder / name)
    second = make_row("b", "evaluate-b", compare_with=("a",))
    content = content_of(store, make_row("a", "evaluate-a"), second)
    assert [row.verdict for row in content.rows] == ["", "missing"]
    assert measured(content.rows[0]).measured["Avg"].accuracy == 62.5
    (why,) = content.rows[1].why
    assert why.startswith("damaged: ")
    assert str(folder) in why
    assert content.comparisons[0].verdict == "missing"
    assert sum(note.startswith("Damaged") for note in content.notes) == 1
    assert "missing (damaged)" in FORMATS["md"]([content])


@pytest.mark.parametrize(
    ("command", "code"), [("plan", 0), ("status", 0), ("compare", 2), ("run", 2)]
)
def test_a_damaged_record_does_not_stop_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, code: int
) -> None:
    store = Store(tmp_path)
    plan = make_plan([DECODER], "smoke", store, precision=lambda: "fp32", overrides={}, seeds=None)
    for cell in plan.cells:
        for run in (cell.teacher, *cell.trainings):
            store.run(run).write_json("record.json", {})
        write_evaluation(store, cell.evaluate, {name: [1, 0, 1] for name in SUBSETS})
    store.run(plan.cells[0].evaluate).write_json("record.json", {})
    actual, out, err = call(capsys, command, DECODER, "--scale", "smoke", "--results", tmp_path)
    prints_tables = command in ("compare", "run")
    assert actual == code, err
    assert (MOVE_FOLDER in err) == prints_tables
    assert ("66.7" in out) == prints_tables
