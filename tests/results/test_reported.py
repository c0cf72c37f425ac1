"""The numbers that papers report: their averages, their schema, and the choice of a row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from table_records import SIZES

from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml, read_yaml
from core.text.protocols import PROTOCOLS
from results.reported import (
    REPORTED,
    ReportedRow,
    find_row,
    read_reported,
    reported,
    reported_values,
)

BENCHMARK_SIZES = {
    "union14m_benchmark": SIZES,
    "common": SIZES,
    "chinese": PROTOCOLS["chinese"].sizes,
    "extended": SIZES,
}
COMPLETE_ROWS = [
    (name, number)
    for name, table in reported().tables.items()
    for number, row in enumerate(table.rows)
    if table.is_of_paper and None not in row.values
]


def row_and_columns(table: str, number: int) -> tuple[ReportedRow, list[str], str]:
    content = reported().tables[table]
    columns = reported().subsets[content.benchmark]
    return content.rows[number], list(columns), content.benchmark


def test_printed_averages_are_means_of_their_rows_except_for_seven_misprints() -> None:
    misprints = set()
    for table, number in COMPLETE_ROWS:
        row, columns, _ = row_and_columns(table, number)
        mean = sum(value or 0 for value in row.values) / len(columns)
        if row.avg is None or abs(row.avg - mean) > 0.0501:
            misprints.add((table, row.method, row.source, row.avg, round(mean, 2)))
    assert len(misprints) == 7
    assert misprints == {
        (item.table, item.method, item.source, item.printed, item.mean)
        for item in reported().misprints
    }


def test_rows_without_all_values_have_no_average() -> None:
    for name, table in reported().tables.items():
        for number, row in enumerate(table.rows):
            assert table.is_of_paper or row.avg is None
            assert (name, number) in COMPLETE_ROWS or row.avg is None


def test_printed_weighted_averages_follow_from_the_sizes_of_the_subsets() -> None:
    for table, number in COMPLETE_ROWS:
        row, columns, benchmark = row_and_columns(table, number)
        if row.w_avg is None:
            continue
        images = [BENCHMARK_SIZES[benchmark][column] for column in columns]
        correct = sum((value or 0) * count for value, count in zip(row.values, images, strict=True))
        assert row.w_avg == pytest.approx(correct / sum(images), abs=0.0501), (table, row.method)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda rows: rows[0].update(acuracy=3), r"tables\.table1\.rows\.0\.acuracy"),
        (lambda rows: rows[0].update(avg=177.7), r"tables\.table1\.rows\.0\.avg: .* 100"),
        (lambda rows: rows[0].update(avg="79.5"), r"tables\.table1\.rows\.0\.avg: .* number"),
        (lambda rows: rows[0]["values"].pop(), "6 values for 7 columns"),
        (lambda rows: rows[0].update(default=True), r"tables\.table1: .* default"),
    ],
)
def test_a_wrong_row_is_refused_with_its_key(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], key: str
) -> None:
    content = json.loads(json.dumps(read_yaml(REPORTED)))
    change(content["tables"]["table1"]["rows"])
    path = tmp_path / "wrong.yaml"
    path.write_text(dump_yaml(content))
    with pytest.raises(UserError, match=key):
        read_reported(path)


@pytest.mark.parametrize(
    ("section", "change", "key"),
    [
        (
            "tables",
            lambda tables: tables["table1"].update(recipe="ablaton"),
            r"tables\.table1\.recipe: .*'ablation'",
        ),
        (
            "tables",
            lambda tables: tables["table1"].update(benchmark="foo"),
            "table1: benchmark 'foo'",
        ),
        ("misprints", lambda misprints: misprints[0].update(table="table77"), "table77"),
        ("external_results", lambda results: results[0].update(table="table77"), "table77"),
        (
            "external_results",
            lambda results: results[0].pop("protocol"),
            r"external_results\.0\.protocol",
        ),
        (
            "external_results",
            lambda results: results[0].update(values=[1, 2]),
            "SVTRv2-B in table7: 2 values for 7 columns",
        ),
    ],
)
def test_a_wrong_table_or_misprint_is_refused_with_its_key(
    tmp_path: Path, section: str, change: Callable[[Any], Any], key: str
) -> None:
    content = json.loads(json.dumps(read_yaml(REPORTED)))
    change(content[section])
    path = tmp_path / "wrong.yaml"
    path.write_text(dump_yaml(content))
    with pytest.raises(UserError, match=key):
        read_reported(path)


def test_results_of_other_papers_name_their_source_and_protocol() -> None:
    results = reported().external_results
    assert {result.method.split()[0] for result in results} == {
        "SVTRv2-B",
        "MDiff4STR-B",
        "MAERec",
        "DSHM",
        "MNSP",
    }
    assert all(result.source and result.protocol for result in results)
    with_words = [result.protocol for result in results if result.table == "table8"]
    assert all("IC13" in protocol and "IC15" in protocol for protocol in with_words)
    assert all("label" in result.protocol for result in results)


def test_averages_of_other_papers_are_means_of_their_values() -> None:
    complete = [result for result in reported().external_results if result.values]
    assert {(result.method, result.table) for result in complete} == {
        ("DSHM", "table6"),
        ("DSHM", "table7"),
    }
    for result in complete:
        values = result.values or ()
        assert result.avg == pytest.approx(sum(values) / len(values), abs=0.0501)


def test_public_checkpoints_on_the_extended_sets_are_rows_of_others() -> None:
    table = reported().tables["extended_benchmarks"]
    assert not table.is_of_paper
    assert "DSHM" in table.protocol
    assert not any(table.is_authors_row(number) for number in range(len(table.rows)))
    (lmim,) = [row for row in table.rows if row.method == "LMIM"]
    subsets = reported().subsets["extended"]
    assert dict(zip(subsets, lmim.values, strict=True)) == {
        "host": 69.6,
        "wost": 84.7,
        "art": 83.5,
        "coco": 78.5,
        "uber": 86.7,
    }


def test_a_reported_row_is_chosen_by_enough_keys() -> None:
    number = find_row("table7", {"method": "LMIM", "finetune": "ard", "epochs": None})
    assert number is not None
    assert reported_values("table7", number)["Avg"] == 84.3
    assert find_row("table7", {}) is None
    with pytest.raises(UserError, match="2 rows of table7"):
        find_row("table7", {"method": "LMIM", "finetune": "ard"})
    with pytest.raises(UserError, match="guidance"):
        find_row("table1", {"guidance": True})
