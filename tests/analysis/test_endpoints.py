"""Endpoints: values of rows, differences, corrections, components of variance, needed seeds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.endpoint_records import Endpoint, EndpointRecords, parse_endpoint
from analysis.tables.endpoints import ComparedRows, endpoint_table
from analysis.tables.intervals import Estimate, bootstrap
from analysis.tables.power import minimum_detectable_difference, seeds_needed
from analysis.tables.variance import variance_components
from results.store import Store

WORDS = 60
PAIR = ComparedRows("b", "a", reported=0.6)


def write_run(store: Store, name: str, correct: int, nll: float | None = None) -> str:
    """A complete run whose first `correct` words are right; the others miss one of 2 letters."""
    run = store.run(name)
    rows = [("x", i, "ab", "ab" if i < correct else "ac", 0.5, 1, nll or "") for i in range(WORDS)]
    run.write_predictions(rows)
    run.write_json("record.json", {"config": {"protocol": "waics"}, "data": {}})
    run.set_state("complete")
    return name


def table_of(
    store: Store,
    measure: str,
    counts: Mapping[str, list[int]],
    *,
    primary: bool = True,
    exploratory: int = 1,
) -> EndpointTable:
    """counts: row -> correct words at each seed."""
    runs = {
        row: {
            seed: [write_run(store, f"{row}-{seed}", correct, nll=2.0)]
            for seed, correct in enumerate(of_row)
        }
        for row, of_row in counts.items()
    }
    records = EndpointRecords(parse_endpoint(f"fine-tuned {measure}"), runs, store)
    table = endpoint_table(records, [PAIR], primary=primary, exploratory=exploratory)
    assert table is not None
    return table


def test_a_row_is_the_mean_over_its_seeds(tmp_path: Path) -> None:
    table = table_of(Store(tmp_path), "words", {"a": [30, 36], "b": [42, 48]})
    assert table.rows["a"].value == pytest.approx(55)
    assert table.rows["b"].by_seed == {0: 70, 1: 80}
    (difference,) = table.differences
    assert difference.value == pytest.approx(20)
    assert difference.seeds == (0, 1)


def test_measures_share_the_same_predictions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    values = {
        measure: table_of(store, measure, {"a": [30, 30], "b": [60, 60]}).rows["a"].value
        for measure in ("words", "cer", "nll", "characters")
    }
    assert values == pytest.approx({"words": 50, "cer": 25, "nll": 1, "characters": 75}, abs=1e-4)


def test_the_better_row_of_an_error_rate_has_the_smaller_value(tmp_path: Path) -> None:
    counts = {"a": [10, 11, 12], "b": [50, 51, 52]}
    better = table_of(Store(tmp_path), "cer", counts).differences[0]
    assert (better.verdict, better.value is not None and better.value < 0) == ("holds", True)
    worse = table_of(Store(tmp_path / "w"), "cer", {"a": counts["b"], "b": counts["a"]})
    assert worse.differences[0].verdict == "reversed"


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    (difference,) = table_of(Store(tmp_path), "words", {"a": [0], "b": [60]}).differences
    assert difference.verdict == "one seed: undecided"
    assert not difference.seeds_needed


def test_exploratory_intervals_are_wider(tmp_path: Path) -> None:
    counts = {"a": [20, 22, 24], "b": [30, 31, 35]}
    primary = table_of(Store(tmp_path / "1"), "words", counts)
    explored = table_of(Store(tmp_path / "2"), "words", counts, primary=False, exploratory=10)
    assert (primary.level, explored.level) == pytest.approx((0.95, 0.995))
    first = primary.differences[0]
    second = explored.differences[0]
    assert first.low is not None
    assert second.low is not None
    assert second.low < first.low
    assert first.value == second.value
    assert first.detectable is not None
    assert second.detectable is None or second.detectable > first.detectable


def test_rows_without_complete_runs_are_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = {"a": {0: [write_run(store, "a-0", 5)]}, "b": {0: ["b-0"]}}
    records = EndpointRecords(Endpoint("fine-tuned", "words"), runs, store)
    table = endpoint_table(records, [PAIR], primary=True, exploratory=0)
    assert table is not None
    assert (set(table.rows), table.differences[0].verdict) == ({"a"}, "missing")


def test_runs_without_likelihoods_have_no_such_endpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = {"a": {0: [write_run(store, "a-0", 5)]}}
    records = EndpointRecords(Endpoint("fine-tuned", "nll"), runs, store)
    assert endpoint_table(records, [], primary=True, exploratory=0) is None


@pytest.mark.parametrize("name", ["words", "fine-tuned", "fine-tuned accuracy", " words"])
def test_an_unknown_endpoint_is_refused_with_the_measures(name: str) -> None:
    with pytest.raises(ValueError, match="words, characters, cer, nll"):
        parse_endpoint(name)


def test_variance_components_are_recovered_from_simulated_runs() -> None:
    random = np.random.default_rng(0)
    seeds = 400
    transfers = 4
    words = 50
    encoder = random.normal(0, 0.05, (seeds, 1, 1))
    transfer = random.normal(0, 0.03, (seeds, transfers, 1))
    difficulty = random.normal(0, 0.2, (1, 1, words))
    values = 0.5 + encoder + transfer + difficulty
    components = variance_components([values], np.array([1.0]), 100)
    assert components.pretraining == pytest.approx(5, rel=0.1)
    assert components.transfer == pytest.approx(3, rel=0.1)
    assert components.words == pytest.approx(100 * 0.2 / words**0.5, rel=0.3)


def test_more_seeds_are_needed_where_few_do_not_detect_a_difference() -> None:
    random = np.random.default_rng(1)
    offsets = np.array([[-0.02], [0.0], [0.02]])
    values = offsets + random.choice([-1, 0, 1], (3, 2000), p=[0.1, 0.8, 0.1])
    (estimate,) = bootstrap([values], np.array([1.0]), paired=True)
    needed = seeds_needed(estimate, 0.03)
    assert needed is not None
    assert 3 < needed < 50
    assert minimum_detectable_difference(estimate) > 0.03
    images_only = Estimate(0, 0, 0, standard_error=0.01, seeds=3, seed_error=0.0)
    assert seeds_needed(images_only, 0.01) is None
