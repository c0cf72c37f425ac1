"""Rows for a registry of results: their values are those of the table, and their tier is honest."""

import json
from pathlib import Path

import pytest
from conftest import call
from table_records import MINI, NO_GUIDANCE, SIZES, SUBSETS, TABLE1, mini_table1, write_evaluation

from analysis.report.registry import RegistryRow, registry_rows, registry_text, tier_of
from analysis.tables.content import MeasuredRow, as_json
from analysis.tables.measurements import Row
from analysis.tables.table import Table
from results.reported import reported_table
from results.store import Store


@pytest.fixture(scope="module")
def table() -> Table:
    return mini_table1()


@pytest.fixture(scope="module")
def rows(table: Table) -> list[RegistryRow]:
    return registry_rows(table)


def column_of(row: RegistryRow) -> str:
    """The column of the table that a row has the value of."""
    return row.metric.average or next(iter(row.data_set.subsets))


def test_every_number_of_the_table_is_in_one_row(table: Table, rows: list[RegistryRow]) -> None:
    expected: dict[tuple[str, str, str], tuple[float, float | None, float | None]] = {}
    for row in table.content.rows:
        for column, value in row.reported.items():
            expected[row.name, "reported", column] = (value, None, None)
        if isinstance(row, MeasuredRow):
            for column, found in row.measured.items():
                expected[row.name, "measured", column] = (found.accuracy, found.low, found.high)
    given = {
        (row.row, "measured" if row.scale else "reported", column_of(row)): (
            row.value,
            row.interval.low if row.interval else None,
            row.interval.high if row.interval else None,
        )
        for row in rows
    }
    assert given == expected
    assert len(given) == len(rows) == 3 * 8 + 4 * 9


def test_reported_numbers_are_self_reported_and_others_not_comparable(
    rows: list[RegistryRow],
) -> None:
    for row in rows:
        if row.scale is None:
            assert (row.tier, row.seeds, row.runs) == ("self-reported", (), {})
            assert row.source == "LMIM paper, Table 1"
            assert row.data_set.images == sum(SIZES[name] for name in row.data_set.subsets)
        else:
            assert row.tier == "not comparable with the paper"
            assert row.reasons[0] == "scale: mini"


def test_a_measured_row_names_its_runs_data_and_commit(rows: list[RegistryRow]) -> None:
    measured = [row for row in rows if row.scale]
    for row in measured:
        records = [
            json.loads((MINI / "runs" / runs["evaluate"] / "record.json").read_text())
            for runs in row.runs.values()
        ]
        assert tuple(row.runs) == tuple(str(seed) for seed in row.seeds) == ("0", "1", "2")
        assert set(row.commits) == {record["code"]["commit"][:10] for record in records}
        for subset, fingerprints in row.data_fingerprints.items():
            assert [record["data"][subset][0]["fingerprint"] for record in records] == (
                fingerprints * 3
            )
        assert row.data_set.name.startswith("rendered words in place of ")
        assert row.metric.protocol == "waics"
        assert row.interval is not None
        assert row.interval.covers == "images, seeds 0 1 2"
    assert [row.method for row in measured[::9]] == ["MIM", "LMIM", "LMIM", "no pre-training"]


def test_records_of_former_versions_do_not_pass_for_the_papers_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--scale", "former_mini", "--results", MINI.parent / "former_mini")
    code, out, _ = call(capsys, "compare", TABLE1, *options, "--format", "registry")
    assert code == 0
    measured = [row for row in map(json.loads, out.splitlines()) if row["scale"]]
    assert measured
    for row in measured:
        assert row["data_set"]["name"].startswith("rendered words in place of ")
        assert "not recorded" not in str(row["data_set"]["roots"])


def test_the_output_is_json_lines_with_equal_keys(rows: list[RegistryRow], table: Table) -> None:
    lines = [json.loads(line) for line in registry_text([table]).splitlines()]
    assert lines == [json.loads(json.dumps(as_json(row))) for row in rows]
    assert len({tuple(line) for line in lines}) == 1


def paper_scale_table(store: Store, paper_table: str | None, reported_row: int | None) -> Table:
    """One row of Table 1 with test sets of the paper's sizes, and every image read correctly."""
    sizes = {name: SIZES[name] for name in SUBSETS}
    write_evaluation(store, "evaluate-a", {name: [1] * size for name, size in sizes.items()})
    row = Row("a", reported_row, (), {0: "evaluate-a"}, {0: ()}, {0: ""})
    return Table("t", "title", "paper", "", paper_table, [row], store)


@pytest.mark.parametrize(
    ("paper_table", "reported_row", "tier"),
    [
        ("table1", NO_GUIDANCE, "community-reproduced"),
        ("table1", None, "self-reported"),
        (None, None, "self-reported"),
    ],
)
def test_at_scale_paper_a_row_of_the_paper_is_community_reproduced(
    paper_table: str | None, reported_row: int | None, tier: str, tmp_path: Path
) -> None:
    table = paper_scale_table(Store(tmp_path), paper_table, reported_row)
    assert tier_of(table, 0)[0] == tier


def test_other_data_at_scale_paper_are_not_comparable(tmp_path: Path) -> None:
    table = paper_scale_table(Store(tmp_path), "table1", NO_GUIDANCE)
    table.substitute_synthetic = True
    tier, reasons = tier_of(table, 0)
    assert tier == "not comparable with the paper"
    assert [reason.partition(":")[0] for reason in reasons] == ["data"]


def test_numbers_of_others_name_their_source(tmp_path: Path) -> None:
    table = Table("t", "title", "mini", "", "table7", [], Store(tmp_path))
    rows = registry_rows(table)
    sources = {row.source for row in reported_table("table7").rows}
    assert {row.tier for row in rows} == {"self-reported"}
    assert {row.source.partition(",")[0] for row in rows} == sources
    assert {row.data_set.images for row in rows if not row.source.startswith("LMIM")} == {None}


@pytest.mark.slow
def test_compare_prints_the_rows(
    capsys: pytest.CaptureFixture[str], rows: list[RegistryRow]
) -> None:
    words = ("compare", str(TABLE1), "--results", str(MINI), "--format", "registry")
    code, out, _ = call(capsys, *words)
    assert code == 0
    assert [json.loads(line)["value"] for line in out.splitlines()] == [row.value for row in rows]
