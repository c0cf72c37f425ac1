"""Endpoints of hidden letters: words, random letters, and their difference pair by pair."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.endpoint_records import Endpoint, EndpointRecords, parse_endpoint
from analysis.tables.endpoints import ComparedRows, endpoint_table
from analysis.tables.measurements import Row
from analysis.tables.text_reference_notes import text_reference_notes
from experiments.planning.endpoints import RANDOM_LETTERS, check_endpoint, measures_of
from results.store import Store

PROBE = "hidden_letter"
REFERENCE = {
    "words": {"words": 10, "neighbors": 4, "most_frequent": 2},
    RANDOM_LETTERS: {"words": 10, "neighbors": 1, "most_frequent": 2},
}


def write_run(
    store: Store,
    name: str,
    in_words: Sequence[bool],
    in_letters: Sequence[bool] | None,
    letter: str = "a",
) -> str:
    """A complete probe. in_words, in_letters: whether each hidden letter is right.

    letter: hidden in random letters; in words it is always a."""
    run = store.run(name)
    subsets = {"words": ("a", in_words)}
    if in_letters is not None:
        subsets[RANDOM_LETTERS] = (letter, in_letters)
    run.write_predictions(
        (subset, number, label, label if right else "z", 0.5, 1, 1.0)
        for subset, (label, rights) in subsets.items()
        for number, right in enumerate(rights)
    )
    data = {subset: [{"fingerprint": subset}] for subset in subsets}
    content = {
        "config": {"protocol": "waics"},
        "data": data,
        "metrics": {"text_reference": REFERENCE},
    }
    run.write_json("record.json", content)
    run.set_state("complete")
    return name


def table_of(folder: Path, measure: str) -> EndpointTable | None:
    """Row `a` has 5 of 10 right in words and 2 in random letters; row `b` 8 and 2."""
    store = Store(folder)
    runs = {}
    for row, right in (("a", 5), ("b", 8)):
        names = [
            write_run(
                store, f"{row}-{seed}", [n < right for n in range(10)], [n > 7 for n in range(10)]
            )
            for seed in (0, 1)
        ]
        runs[row] = {seed: [name] for seed, name in enumerate(names)}
    records = EndpointRecords(parse_endpoint(f"{PROBE} {measure}"), runs, store)
    pair = ComparedRows("b", "a", reported=None)
    return endpoint_table(records, [pair], primary=True, exploratory=0)


@pytest.mark.parametrize(
    ("measure", "values"),
    [
        ("in_words", (50.0, 80.0)),
        ("in_random_letters", (20.0, 20.0)),
        ("language_use", (30.0, 60.0)),
    ],
)
def test_each_measure_has_its_value_and_its_difference(
    measure: str, values: tuple[float, float], tmp_path: Path
) -> None:
    table = table_of(tmp_path, measure)
    assert table is not None
    assert (table.rows["a"].value, table.rows["b"].value) == values
    assert table.rows["a"].low <= values[0] <= table.rows["a"].high
    (difference,) = table.differences
    assert difference.value == values[1] - values[0]
    assert table.unit == "%"


def test_language_use_can_be_negative_and_its_difference_can_be_above_1(tmp_path: Path) -> None:
    endpoint = Endpoint(PROBE, "language_use")
    assert endpoint.bounds == (-1.0, 1.0)
    store = Store(tmp_path)
    first = write_run(store, "a", [False] * 9 + [True], [True] * 9 + [False])
    second = write_run(store, "b", [True] * 9 + [False], [False] * 9 + [True])
    records = EndpointRecords(endpoint, {"a": {0: [first]}, "b": {0: [second]}}, store)
    pair = ComparedRows("b", "a", reported=None)
    table = endpoint_table(records, [pair], primary=True, exploratory=0)
    assert table is not None
    assert table.rows["a"].value == -80.0
    assert table.differences[0].value == 160.0


def test_subsets_with_other_hidden_letters_have_no_language_use(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = write_run(store, "a", [True] * 4, [True] * 4, letter="b")
    short = write_run(store, "b", [True] * 4, [True] * 3)
    alone = write_run(store, "c", [True] * 4, None)
    for name in (run, short, alone):
        language = EndpointRecords(Endpoint(PROBE, "language_use"), {"a": {0: [name]}}, store)
        in_words = EndpointRecords(Endpoint(PROBE, "in_words"), {"a": {0: [name]}}, store)
        assert language.seeds("a") == []
        assert in_words.seeds("a") == [0]


def test_a_probe_of_hidden_letters_has_these_endpoints_only() -> None:
    assert measures_of("hidden_letter") == ("in_words", "in_random_letters", "language_use")
    check_endpoint("hidden_letter language_use", {"hidden_letter": "hidden_letter"})
    with pytest.raises(ValueError, match="language_use"):
        check_endpoint("hidden_letter characters", {"hidden_letter": "hidden_letter"})
    with pytest.raises(ValueError, match="characters nll"):
        check_endpoint("characters language_use", {"characters": "characters"})


def test_a_note_has_the_guesses_from_the_text_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = write_run(store, "a", [True] * 10, [True] * 10)
    row = Row("a", None, (), {0: "none"}, {}, {}, probes={0: {PROBE: name}, 1: {PROBE: "absent"}})
    notes = text_reference_notes([Endpoint(PROBE, "in_words")], [row], store)
    assert len(notes) == 2
    assert "40.0 %" in notes[0]
    assert "20.0 %" in notes[0]
    assert "10.0 %" in notes[1]
    assert text_reference_notes([Endpoint("ctc", "words")], [row], store) == []
