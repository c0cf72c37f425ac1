"""The published scores of the peer, and the mark that its row has wherever it is shown."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import call
from table_records import make_row, make_table, write_evaluation

from analysis.tables.peer_notes import FOLDER
from analysis.tables.prediction_files import read_prediction_file
from analysis.tables.suspects import find_suspects
from core.peer import NOT_COMPARABLE, NOTES, PPOCRV6
from core.text.protocols import PROTOCOLS
from results.provenance import REPOSITORY
from results.store import Store

PREDICTIONS = FOLDER / "predictions.csv"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_published_score_follows_from_the_predictions(
    protocol: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    file = PREDICTIONS.relative_to(REPOSITORY)
    code, out, err = call(capsys, "score", file, "--protocol", protocol, "--json")
    assert code == 0, err
    published = json.loads((FOLDER / "scores" / f"{protocol}.json").read_text(encoding="utf-8"))
    assert json.loads(out) == published
    assert NOTES[PPOCRV6] in published["notes"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_page_has_the_published_scores(protocol: str) -> None:
    score = json.loads((FOLDER / "scores" / f"{protocol}.json").read_text(encoding="utf-8"))
    values = [subset["accuracy"] for subset in score["subsets"].values()]
    cells = [f"{value:.2f}" for value in (*values, score["avg"], score["w_avg"])]
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"| {protocol} | {' | '.join(cells)} |" in page


def test_the_published_suspects_follow_from_the_predictions() -> None:
    subsets = read_prediction_file(PREDICTIONS).subsets
    found = {
        (name, suspect.index)
        for name, predictions in subsets.items()
        for suspect in find_suspects(name, predictions, PROTOCOLS["waics"], 0.9).suspects
    }
    with (FOLDER / "suspects.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["subset"], int(row["index"])) for row in rows} == found
    counts = Counter(row["judgement"] for row in rows)
    first = Counter(row["judgement"] for row in rows[:40])
    assert (len(rows), counts["label error"], first["label error"]) == (61, 16, 10)


def test_no_image_is_published_with_the_peer() -> None:
    suffixes = {path.suffix for path in FOLDER.rglob("*") if path.is_file()}
    assert suffixes == {".md", ".json", ".csv"}


def test_compare_marks_the_peer_below_tables_of_the_common_benchmarks(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"svt": [1], "curve": [1]})
    row = make_row("a", "evaluate-a")
    common = make_table(store, [row], paper_table="table8").content.notes
    (note,) = [note for note in common if PPOCRV6 in note]
    assert NOT_COMPARABLE in note
    assert "svt 92.1 (647 images)" in note
    other = make_table(store, [row], paper_table="table7").content.notes
    assert not any(PPOCRV6 in note for note in other)


def test_predictions_of_other_recognizers_have_no_mark(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("prediction,label,recognizer\na,a,mine\n")
    assert read_prediction_file(file).notes == ()
