"""Tables over words of photographs: intervals, notes, and records with and without photos."""

from pathlib import Path

import numpy as np
import pytest
from table_records import compared, make_row, make_table, measured, write_evaluation

from analysis.tables.content import TableContent, as_json
from analysis.tables.endpoint_records import Endpoint
from results.store import Store

RANDOM = np.random.default_rng(0)
PHOTOS = np.repeat(np.arange(100), 4)
NAMES = [f"photo {number}" for number in PHOTOS]
FIRST = np.repeat(RANDOM.random(100) < 0.7, 4).astype(int)
SECOND = np.where(np.repeat(RANDOM.random(100) < 0.2, 4), 1 - FIRST, FIRST)
CONFIG = {"protocol": "waics"}


def _table(
    store: Store, photos: dict[str, list[str]], seeds: int = 1, without: tuple[str, ...] = ()
) -> TableContent:
    """A table of two rows on `svt`.

    photos: of the words. without: evaluations that do not store them.
    """
    names: dict[str, list[str]] = {"a": [], "b": []}
    for seed in range(seeds):
        for row, values in (("a", FIRST), ("b", SECOND)):
            correct = values.tolist()
            correct[seed] = 1 - correct[seed]
            nll = {"svt": [1.0 + value for value in correct]}
            run = write_evaluation(
                store, f"evaluate-{row}{seed}", {"svt": correct}, nll=nll, config=CONFIG
            )
            if run not in without:
                store.run(run).write_photos(photos)
            names[row].append(run)
    rows = [make_row("b", *names["b"]), make_row("a", *names["a"], compare_with=("b",))]
    endpoints = (Endpoint("fine-tuned", "nll"), Endpoint("fine-tuned", "words"))
    return make_table(store, rows, endpoints=endpoints, primary="fine-tuned words").content


def _width(estimate: object) -> float:
    values = vars(estimate)
    return float(values["high"] - values["low"])


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_table_takes_photographs_as_clusters_and_says_how_many(
    tmp_path: Path, seeds: int
) -> None:
    plain = _table(Store(tmp_path / "plain"), {}, seeds)
    clustered = _table(Store(tmp_path / "photos"), {"svt": NAMES}, seeds)
    for content, rows in ((plain, plain.rows), (clustered, clustered.rows)):
        assert len(rows) == 2
        assert ("photographs" in as_json(content)) == (content is clustered)
    assert clustered.photographs == {"svt": (100, 400)}
    (note,) = [note for note in clustered.notes if note.startswith("Words of one photograph")]
    assert "svt 400 words of 100 photographs" in note
    assert not any(note.startswith("Words of one photograph") for note in plain.notes)
    for name in ("svt", "Avg", "W-Avg"):
        first, second = (measured(content.rows[0]).measured[name] for content in (clustered, plain))
        assert first.accuracy == second.accuracy
        assert _width(first) > 1.5 * _width(second)
    pairs = compared(clustered), compared(plain)
    assert _width(pairs[0].average) > 1.5 * _width(pairs[1].average)
    for seed in range(seeds):
        tests = [pair.mcnemar[seed]["svt"] for pair in pairs]
        assert (tests[0].won, tests[0].lost) == (tests[1].won, tests[1].lost)
        assert tests[0].p > tests[1].p


def test_endpoints_take_photographs_as_clusters(tmp_path: Path) -> None:
    plain = _table(Store(tmp_path / "plain"), {}, seeds=2)
    clustered = _table(Store(tmp_path / "photos"), {"svt": NAMES}, seeds=2)
    (note,) = [note for note in clustered.notes if note.startswith("Intervals of endpoints")]
    assert "fine-tuned words, fine-tuned nll: svt 400 words of 100 photographs" in note
    for first, second in zip(clustered.endpoints, plain.endpoints, strict=True):
        assert first.photographs == {"svt": (100, 400)}
        for row in ("a", "b"):
            assert _width(first.rows[row]) > 1.5 * _width(second.rows[row])
        (with_photos,) = first.differences
        without = second.differences[0]
        assert _width(with_photos) > 1.5 * _width(without)
    assert "photographs" not in as_json(plain.endpoints[0])


def test_photographs_of_one_word_each_change_no_table(tmp_path: Path) -> None:
    names = [str(number) for number in range(400)]
    plain = _table(Store(tmp_path / "a" / "results"), {}, seeds=2)
    alone = _table(Store(tmp_path / "b" / "results"), {"svt": names}, seeds=2)
    assert as_json(alone.rows) == as_json(plain.rows)
    assert as_json(alone.comparisons) == as_json(plain.comparisons)
    assert as_json(alone.endpoints) == as_json(plain.endpoints)


def test_rows_without_photos_use_those_of_rows_on_the_same_data(tmp_path: Path) -> None:
    every = _table(Store(tmp_path / "every"), {"svt": NAMES})
    some = _table(Store(tmp_path / "some"), {"svt": NAMES}, without=("evaluate-b0",))
    assert as_json(some.rows) == as_json(every.rows)
    assert as_json(some.comparisons) == as_json(every.comparisons)
    assert as_json(some.endpoints) == as_json(every.endpoints)


@pytest.mark.parametrize("text", ["{", '{"svt": [1]}', '{"svt": {"photos": [], "of_words": [0]}}'])
def test_damaged_names_of_photos_are_reported(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    run = write_evaluation(store, "evaluate-a", {"svt": [1, 0]})
    (store.run(run).folder / "photos.json").write_text(text)
    content = make_table(store, [make_row("a", run)]).content
    assert any("photos.json" in note for note in content.notes)
    assert content.rows[0].verdict == "missing"


def test_photos_of_other_words_are_reported(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = write_evaluation(store, "evaluate-a", {"svt": [1, 0]})
    store.run(run).write_photos({"svt": ["a", "a", "a"]})
    content = make_table(store, [make_row("a", run)]).content
    assert any("photos.json" in note for note in content.notes)


def test_stored_photos_are_read_back_and_unknown_ones_are_not_stored(tmp_path: Path) -> None:
    run = Store(tmp_path).run("evaluate-a")
    assert run.photos() == {}
    run.write_photos({"svt": ["", ""]})
    assert not (run.folder / "photos.json").exists()
    run.write_photos({"svt": ["b", "", "a", "b"], "ic15": ["", "", "", ""]})
    assert run.photos() == {"svt": ["b", "", "a", "b"]}
