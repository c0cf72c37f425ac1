"""Rows are compared on endpoints only if their runs have values of the same words."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.endpoint_records import EndpointRecords, parse_endpoint
from analysis.tables.endpoints import ComparedRows, endpoint_notes, endpoint_table
from analysis.tables.false_differences import false_differences
from core.runtime.errors import UserError
from results.store import Store

WORDS = 20
SEEDS = (0, 1)
PAIR = ComparedRows("b", "a", reported=None)


def write_run(
    store: Store,
    name: str,
    *,
    subset: str = "x",
    numbers: Sequence[int] = range(WORDS),
    without_nll: Sequence[int] = (),
    root: Mapping[str, str] | None = None,
    protocol: str = "waics",
) -> str:
    """A complete run. numbers: of its words. without_nll: words without a likelihood.

    root: fingerprints of the subset's only root. protocol: of the scoring."""
    run = store.run(name)
    run.write_predictions(
        (subset, number, "ab", "ab" if number % 3 else "ac", 0.5, 1, nll)
        for number in numbers
        for nll in [math.nan if number in without_nll else 2.0 + number % 5]
    )
    data = {subset: [root or {"fingerprint": "f"}]}
    run.write_json("record.json", {"config": {"protocol": protocol}, "data": data})
    run.set_state("complete")
    return name


def records_of(
    folder: Path, measure: str, first: dict[str, Any], second: dict[str, Any]
) -> EndpointRecords:
    """Rows `a` and `b` at two seeds. first, second: settings of their runs."""
    store = Store(folder)
    runs = {
        row: {seed: [write_run(store, f"{row}-{seed}", **settings)] for seed in SEEDS}
        for row, settings in (("a", first), ("b", second))
    }
    return EndpointRecords(parse_endpoint(f"probe {measure}"), runs, store)


def table_of(records: EndpointRecords) -> EndpointTable:
    table = endpoint_table(records, [PAIR], primary=True, exploratory=0)
    assert table is not None
    return table


@pytest.mark.parametrize(
    ("measure", "first", "second", "reason"),
    [
        ("words", {}, {"root": {"fingerprint": "other"}}, "data"),
        (
            "characters",
            {"root": {"fingerprint": "f", "boxes": "1"}},
            {"root": {"fingerprint": "f", "boxes": "2"}},
            "data",
        ),
        ("nll", {"without_nll": [3]}, {"without_nll": [4]}, "19 and 19 words"),
        ("nll", {}, {"without_nll": [4]}, "19 and 20 words"),
        ("characters", {}, {"numbers": range(1, WORDS + 1)}, "20 and 20 words"),
        ("cer", {}, {"protocol": "case_sensitive"}, "protocol"),
        ("words", {}, {"subset": "y"}, "no subset"),
    ],
)
def test_rows_with_other_words_are_not_compared_and_a_note_says_why(
    measure: str, first: dict[str, Any], second: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    table = table_of(records_of(tmp_path, measure, first, second))
    (difference,) = table.differences
    assert (difference.verdict, difference.value) == ("not comparable", None)
    assert reason in difference.why
    (note,) = endpoint_notes([table])
    assert f"b − a on probe {measure}" in note
    assert difference.why in note
    assert table.rows.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("measure", "first", "second"),
    [
        ("words", {}, {}),
        ("nll", {"without_nll": [3]}, {"without_nll": [3]}),
        ("words", {"without_nll": [3]}, {"without_nll": [4]}),
        ("nll", {}, {"protocol": "case_sensitive"}),
        ("nll", {"root": {"fingerprint": "f", "root": "x"}}, {"root": {"fingerprint": "f"}}),
    ],
)
def test_rows_with_the_same_words_are_compared(
    measure: str, first: dict[str, Any], second: dict[str, Any], tmp_path: Path
) -> None:
    table = table_of(records_of(tmp_path, measure, first, second))
    (difference,) = table.differences
    assert difference.value == pytest.approx(0)
    assert difference.why == ""
    assert endpoint_notes([table]) == []


def test_a_row_whose_seeds_have_other_words_has_no_value_and_a_note(tmp_path: Path) -> None:
    records = records_of(tmp_path, "nll", {}, {})
    write_run(records.store, "b-1", without_nll=[7])
    table = table_of(records)
    assert table.rows.keys() == {"a"}
    assert "20 and 19 words" in table.without_value["b"]
    assert table.differences[0].verdict == "not comparable"
    (note,) = endpoint_notes([table])
    assert "b on probe nll" in note


def test_seeds_with_other_words_count_no_false_differences(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = [write_run(store, f"a-{seed}", without_nll=[seed]) for seed in range(4)]
    runs = {"a": {seed: [name] for seed, name in enumerate(names)}}
    records = EndpointRecords(parse_endpoint("probe nll"), runs, store)
    with pytest.raises(UserError, match="probe nll"):
        false_differences(records, "a", level=0.95, seeds_per_row=2, pairs=1)
