"""Differences between rows: verdicts, power, tests, and rows that cannot be compared."""

import cProfile
import re
from dataclasses import replace
from pathlib import Path

import pytest
from table_records import (
    GUIDANCE,
    NO_GUIDANCE,
    SUBSETS,
    at_accuracy,
    compared,
    content_of,
    make_row,
    make_table,
    measured,
    two_row_table,
    write_evaluation,
)

from analysis.tables.content import PairedComparison, SubsetAccuracy
from analysis.tables.render import FORMATS
from analysis.tables.verdicts import ONE_SEED
from results.store import Store


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ([1] * 90 + [0] * 10, [1] * 70 + [0] * 30, "holds"),
        ([1] * 70 + [0] * 30, [1] * 90 + [0] * 10, "reversed"),
        ([1, 0] * 50, [0, 1] * 50, "undecided"),
        ([0] * 16, [0] * 16, "undecided"),
    ],
)
def test_a_difference_is_judged_by_its_paired_interval_at_any_scale(
    tmp_path: Path, first: list[int], second: list[int], verdict: str
) -> None:
    pair = compared(two_row_table(Store(tmp_path), first, second, seeds=2).content)
    assert (pair.row, pair.other, pair.reported, pair.verdict) == ("a", "b", 2.9, verdict)
    assert pair.average.low <= pair.average.accuracy <= pair.average.high
    assert pair.average.covers == "test images and seeds"
    assert pair.detectable is not None
    assert pair.detectable > 0
    assert set(pair.mcnemar[0]) == set(SUBSETS)
    assert pair.size == ""


def test_at_the_papers_scale_the_size_of_a_difference_is_judged_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    accuracies = {"a": at_accuracy(0.806), "b": at_accuracy(0.777)}
    for name, correct in accuracies.items():
        for seed in range(2):
            write_evaluation(store, f"evaluate-{name}{seed}", correct)

    def pair_of(seeds: int) -> PairedComparison:
        first, second = ([f"evaluate-{name}{seed}" for seed in range(seeds)] for name in ("a", "b"))
        rows = [
            make_row("b", *second, reported_row=NO_GUIDANCE),
            make_row("a", *first, reported_row=GUIDANCE, compare_with=("b",)),
        ]
        return compared(make_table(store, rows, "paper", "table1").content)

    two_seeds = pair_of(2)
    assert (two_seeds.verdict, two_seeds.size) == ("holds", "reproduced")
    one_seed = pair_of(1)
    assert (one_seed.verdict, one_seed.size) == (ONE_SEED, "")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("scale", ["smoke", "mini", "paper"])
def test_one_seed_decides_nothing_in_any_format(tmp_path: Path, form: str, scale: str) -> None:
    right = [1] * 90 + [0] * 10
    wrong = [0] * 100
    table = replace(two_row_table(Store(tmp_path), right, wrong), scale=scale)
    assert compared(table.content).verdict == ONE_SEED
    without_rules = replace(table.content, rules=())
    text = FORMATS[form]([without_rules])
    assert ONE_SEED in text
    assert not re.search(r"\b(holds|reversed|higher|lower)\b", text.partition("<body>")[2] or text)


@pytest.mark.parametrize("seeds_of_rows", [(1, 3), (3, 1)])
def test_a_row_with_one_seed_beside_one_with_three_decides_nothing(
    tmp_path: Path, seeds_of_rows: tuple[int, int]
) -> None:
    store = Store(tmp_path)
    runs: dict[str, list[str]] = {}
    for name, share, seeds in zip("ab", (90, 10), seeds_of_rows, strict=True):
        values = [1] * share + [0] * (100 - share)
        runs[name] = [
            write_evaluation(store, f"evaluate-{name}{seed}", dict.fromkeys(SUBSETS, values))
            for seed in range(seeds)
        ]
    rows = [make_row("b", *runs["b"]), make_row("a", *runs["a"], compare_with=("b",))]
    pair = compared(make_table(store, rows).content)
    assert (pair.verdict, pair.seeds) == (ONE_SEED, (0,))


def test_with_several_seeds_intervals_cover_them_and_each_seed_is_tested(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        for name, share in (("a", 80 + seed), ("b", 60)):
            values = [1] * share + [0] * (100 - share)
            write_evaluation(store, f"evaluate-{name}{seed}", dict.fromkeys(SUBSETS, values))
    content = content_of(
        store,
        make_row("b", *(f"evaluate-b{seed}" for seed in range(3))),
        make_row("a", *(f"evaluate-a{seed}" for seed in range(3)), compare_with=("b",)),
    )
    pair = compared(content)
    assert pair.average.accuracy == pytest.approx(21)
    assert pair.average.covers == "test images and seeds"
    assert pair.verdict == "higher"
    assert list(pair.mcnemar) == [0, 1, 2]
    assert "curve +3 of 3" in FORMATS["md"]([content])
    curve = measured(content.rows[1]).measured["curve"]
    assert isinstance(curve, SubsetAccuracy)
    assert (curve.accuracy, curve.covers) == (81, "test images and seeds")
    assert (curve.correct, curve.images) == (243, 300)


def test_rows_that_consist_of_the_same_runs_are_not_compared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    rows = make_row("one", "evaluate-a"), make_row("two", "evaluate-a", compare_with=("one",))
    content = content_of(store, *rows)
    assert content.comparisons[0].verdict == "same runs"
    assert any(note.endswith("one, two.") for note in content.notes)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("more", "data: the two rows have different images of curve"),
        ("other", "data: the two rows have different images of curve"),
        ("case", "protocol: case_sensitive (strict labels) and waics (strict labels)"),
        ("released", "protocol: waics (released labels) and waics (strict labels)"),
        ("salient", "data: no subset was evaluated for both"),
    ],
)
def test_rows_on_other_images_or_under_another_protocol_are_not_compared(
    tmp_path: Path, other: str, why: str
) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1, 0]})
    write_evaluation(store, "evaluate-more", {"curve": [1, 0, 1]})
    write_evaluation(store, "evaluate-other", {"curve": [1, 0]}, data="elsewhere")
    write_evaluation(store, "evaluate-case", {"curve": [1, 0]}, "case_sensitive")
    write_evaluation(store, "evaluate-salient", {"salient": [1, 0]})
    write_evaluation(store, "evaluate-released", {"curve": [1, 0]}, labels="released")
    second = make_row("two", f"evaluate-{other}", compare_with=("one",))
    content = content_of(store, make_row("one", "evaluate-a"), second)
    (pair,) = content.comparisons
    assert (pair.verdict, pair.why) == ("not comparable", (why,))
    assert "not comparable" in FORMATS["md"]([content])


def test_a_comparison_over_fewer_subsets_names_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [0, 0, 0, 0], "general": [1, 1, 1, 1]})
    write_evaluation(store, "evaluate-b", {"curve": [1, 1, 1, 1]})
    second = make_row("b", "evaluate-b", compare_with=("a",))
    content = content_of(store, make_row("a", "evaluate-a"), second)
    assert compared(content).why == ("over curve, which both have",)
    assert "images (of seed 0)" in FORMATS["md"]([content])


def test_the_work_of_a_comparison_grows_linearly_with_its_records(tmp_path: Path) -> None:
    """Counts function calls, because their number does not depend on the load of the machine."""
    store = Store(tmp_path)
    values = {name: [1, 0, 1, 1] * 100 for name in SUBSETS}

    def calls(count: int) -> int:
        names = [f"evaluate-{count}-{number}" for number in range(count)]
        for name in names:
            write_evaluation(store, name, values)
        rows = [
            make_row(f"{number}", name, compare_with=("0",) if number else ())
            for number, name in enumerate(names)
        ]
        table = make_table(store, rows)
        profile = cProfile.Profile()
        profile.runcall(lambda: table.content)
        return sum(entry.callcount for entry in profile.getstats())

    calls(5)  # imports modules and fills caches
    assert calls(160) < 9 * calls(20)
