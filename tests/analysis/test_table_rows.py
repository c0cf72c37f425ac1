"""Rows of a table: layout, accuracies, verdicts, seeds, files and notes."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import jpeg, write_lmdb
from table_records import (
    DECODER,
    GUIDANCE,
    LMIM,
    NO_GUIDANCE,
    SUBSETS,
    at_accuracy,
    compared,
    content_of,
    make_row,
    make_table,
    measured,
    write_evaluation,
    write_training,
)

from analysis.tables.content import as_json
from analysis.tables.planned import tables_of
from analysis.tables.render import FORMATS
from experiments.planning.planner import make_plan
from results.reported import find_row
from results.store import Store


def csv_lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_without_a_run_is_missing_in_every_format(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 1, 0, 0], "general": [1, 1, 1, 0]})
    rows = [make_row("one", "evaluate-a"), make_row("two", "evaluate-b", compare_with=("one",))]
    table = make_table(store, rows)
    table.write()
    content = table.content
    text = FORMATS["md"]([content])
    assert "| one | measured | 50.0    | 75.0    | 62.5    | 62.5    |" in text
    assert "| two | measured | missing | missing | missing | missing |" in text
    assert "missing (its evaluation is planned)" in text
    (pair,) = content.comparisons
    assert (pair.verdict, pair.why) == ("missing", ("no complete run of two",))
    lines = csv_lines((tmp_path / "tables" / "mine.mini.csv").read_text())
    assert [line["row"] for line in lines if line["column"] == "missing"] == ["two", "two"]


def test_the_stored_json_is_the_content_and_the_known_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    table = make_table(store, [make_row("one", "evaluate-a"), make_row("two", "evaluate-b")])
    table.write()
    (stored,) = json.loads((tmp_path / "tables" / "mine.mini.json").read_text())
    runs = {"evaluate": "evaluate-a", "trainings": [], "teacher": ""}
    assert stored.pop("known_runs") == {"one": {"0": runs}, "two": {}}
    assert stored == as_json(table.content)


def test_a_record_without_a_state_counts_as_complete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    (store.run("evaluate-a").folder / "state.json").unlink()
    assert store.run("evaluate-a").state().name == "complete"
    (row,) = content_of(store, make_row("one", "evaluate-a")).rows
    assert measured(row).measured["Avg"].accuracy == 50


def test_verdicts_require_the_papers_scale_recipe_data_and_protocol(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-equal", at_accuracy(0.812))
    write_evaluation(store, "evaluate-lower", at_accuracy(0.7))
    write_evaluation(store, "evaluate-case", at_accuracy(0.812), "case_sensitive")
    write_evaluation(store, "evaluate-few", {name: [1] * 8 + [0] * 2 for name in SUBSETS})
    write_evaluation(store, "evaluate-part", {"curve": [1] * 8})

    def verdict(run: str, scale: str = "paper", **options: Any) -> tuple[str, tuple[str, ...]]:
        rows = [make_row("x", run, reported_row=LMIM)]
        row = make_table(store, rows, scale, "table1", **options).content.rows[LMIM]
        return row.verdict, row.why

    covered = ("one seed: the interval covers test images",)
    assert verdict("evaluate-equal") == ("reproduced", covered)
    assert verdict("evaluate-lower") == ("differs", covered)
    assert verdict("evaluate-none") == ("missing", ("its evaluation is planned",))
    assert verdict("evaluate-equal", "mini") == ("not comparable", ("scale: mini",))
    changed, (why,) = verdict("evaluate-equal", overrides={"a": 1})
    assert (changed, why.partition(":")[0]) == ("not comparable", "recipe")
    substituted, (why,) = verdict("evaluate-equal", substitute_synthetic=True)
    assert (substituted, why.partition(":")[0]) == ("not comparable", "data")
    assert verdict("evaluate-case")[1] == ("protocol: case_sensitive, not waics",)
    assert "data: curve has 10 images, not 2,426" in verdict("evaluate-few")[1]
    assert "data: general was not evaluated" in verdict("evaluate-part")[1]


def test_rows_of_the_paper_keep_its_order_around_ours(tmp_path: Path) -> None:
    store = Store(tmp_path)
    number = find_row("table7", {"method": "MIM"})
    assert number is not None
    run = write_evaluation(store, "evaluate-a", {"curve": [1]})
    rows = [make_row("our MIM", run, reported_row=number)]
    content = make_table(store, rows, paper_table="table7").content
    names = [row.name for row in content.rows]
    assert len(names) == 13
    assert names[0] == "ABINet on union14m_l (MAERec paper)"
    assert names[number] == "our MIM"
    assert content.rows[0].verdict == ""
    seqclr = next(row for row in content.rows if row.name.startswith("SeqCLR"))
    assert seqclr.verdict == "missing"
    assert len(seqclr.why) == 1


def test_a_table_of_others_quotes_their_rows_and_judges_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sets = {name: [1, 0] for name in ("host", "wost", "art", "coco", "uber")}
    for run in ("evaluate-a", "evaluate-b"):
        write_evaluation(store, run, sets)
    rows = [make_row("a", "evaluate-a"), make_row("b", "evaluate-b", compare_with=("a",))]
    table = make_table(store, rows, scale="paper", paper_table="extended_benchmarks")
    content = table.content
    assert table.columns == list(sets)
    quoted = {row.name: row for row in content.rows[:3]}
    assert list(quoted) == ["DiG (DSHM paper)", "MAERec (DSHM paper)", "LMIM (DSHM paper)"]
    assert quoted["LMIM (DSHM paper)"].reported["host"] == 69.6
    assert {row.verdict for row in content.rows} == {""}
    assert any("not of the LMIM paper" in note and "2,416" in note for note in content.notes)
    assert any("DSHM 79.0" in note and "5 M images" in note for note in content.notes)


def test_a_heading_names_the_protocol_of_the_measured_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"ic13": [1] * 857, "ic15": [1] * 1811, "svt": [1]})
    write_evaluation(store, "evaluate-b", {"svt": [1]}, labels="released")
    planned = make_row("planned", "evaluate-c")
    assert content_of(store, planned).heading == "mine: a title"
    content = content_of(store, planned, make_row("a", "evaluate-a"))
    assert content.heading == "mine: a title (protocol waics, IC13-857, IC15-1811)"
    assert as_json(content)["protocol"] == "waics, IC13-857, IC15-1811"
    released = content_of(store, make_row("b", "evaluate-b"))
    assert released.heading == "mine: a title (protocol waics, released labels)"
    common = make_table(store, [make_row("a", "evaluate-a")], paper_table="table8").content
    assert common.heading == "Table 8: a title (protocol waics, IC13-857, IC15-1811)"
    assert any("DSHM 97.5" in note and "IC15-1811" in note for note in common.notes)
    assert any("MDiff4STR-B 97.3," in note and "OpenOCR" in note for note in common.notes)


def test_an_average_over_other_subsets_has_no_difference_to_the_paper(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1] * 81 + [0] * 19, "mine": [1, 0]})
    rows = [make_row("a", "evaluate-a", reported_row=LMIM)]
    table = make_table(store, rows, paper_table="table1")
    assert measured(table.content.rows[LMIM]).difference == {"curve": -4.0}
    assert table.columns == [*SUBSETS, "mine"]


def test_a_subset_that_the_paper_lacks_is_a_column_outside_the_average(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, share in (("a", 0.8), ("b", 0.7)):
        write_evaluation(store, f"evaluate-{name}", at_accuracy(share) | {"mine": [0] * 500})
    rows = [
        make_row("b", "evaluate-b", reported_row=NO_GUIDANCE),
        make_row("a", "evaluate-a", reported_row=GUIDANCE, compare_with=("b",)),
    ]
    content = make_table(store, rows, "paper", "table1").content
    row = measured(content.rows[GUIDANCE])
    assert row.measured["Avg"].accuracy == pytest.approx(80, abs=0.1)
    assert row.measured["mine"].accuracy == 0
    assert row.verdict == "reproduced"
    assert compared(content).average.accuracy == pytest.approx(10, abs=0.2)


def test_a_table_with_overrides_has_its_own_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    for overrides in ({}, {"pretrain.mask.ratio": 0.7}):
        make_table(store, [make_row("a", "evaluate-a")], overrides=overrides).write()
    plain, changed = sorted((tmp_path / "tables").glob("*.md"), key=lambda path: len(path.name))
    assert plain.name == "mine.mini.md"
    assert changed.name.startswith("mine.mini.set-")
    assert "pretrain.mask.ratio=0.7" in changed.read_text()


def test_missing_seeds_and_missing_training_records_are_shown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 1, 0, 0]})
    trainings = {0: ("finetune-lost",), 1: ()}
    content = content_of(store, make_row("a", "evaluate-a", "evaluate-never", trainings=trainings))
    assert measured(content.rows[0]).missing_seeds == (1,)
    assert any(note.endswith(": a: 1.") for note in content.notes)
    text = FORMATS["md"]([content])
    assert "without seed 1 |" in text
    assert "| a   | missing     | missing |" in text
    lines = csv_lines(FORMATS["csv"]([content]))
    line = next(line for line in lines if line["source"] == "measured")
    assert (line["seeds"], line["missing_seeds"]) == ("0", "1")


def test_samples_that_training_dropped_are_noted_with_their_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1]})
    teacher = write_training(store, "pretrain-t", 5, 1, dropped={"unreadable": 3})
    rows = []
    for name, count in (("a", 0), ("b", 77)):
        run = write_training(store, f"finetune-{name}", 5, 1, dropped={"over_long": count})
        rows.append(make_row(name, "evaluate-a", trainings={0: (run,)}, teachers={0: teacher}))
    notes = content_of(store, *rows).notes
    assert any(note.startswith("Data of finetune (b): 77 labels") for note in notes)
    assert any(note.startswith("Data of the teacher's pretrain: 3 images") for note in notes)


def test_training_data_of_another_size_make_a_row_not_comparable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, images in (("union14m_l", 3), ("union14m_u_book32", 2)):
        samples: list[tuple[bytes | None, str | None]] = [(jpeg(n), "ab") for n in range(images)]
        monkeypatch.setenv(f"LMIM_ROOT_{name.upper()}", write_lmdb(tmp_path / name, samples))
    store = Store(tmp_path / "results")
    plan = make_plan([DECODER], "paper", store, precision=lambda: "fp32", overrides={}, seeds=None)
    (table,) = tables_of(plan, store, recorded=False)
    assert set(table.rows[0].deviations) == {
        "union14m_l has 3 images, not 3,230,742",
        "union14m_u_book32 has 2 images, not about 2,500,000",
    }
    write_evaluation(store, table.rows[0].evaluations[0], at_accuracy(0.8))
    row = tables_of(plan, store, recorded=False)[0].content.rows[0]
    assert row.verdict == "not comparable"
    assert row.why[0].startswith("data: union14m_")


def test_intervals_of_one_and_of_several_seeds_differ_in_what_they_cover(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = [write_evaluation(store, f"evaluate-{seed}", {"curve": [1, 0, 1]}) for seed in range(3)]
    content = content_of(store, make_row("one", names[0]), make_row("two", *names[1:]))
    covers = [measured(row).measured["Avg"].covers for row in content.rows]
    assert covers == ["test images", "test images and seeds"]
    assert any("several seeds:" in note and "one seed:" in note for note in content.notes)
