"""One seed decides nothing: in no table, format or scale is a difference called decided."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from published import PUBLISHED, SCALE
from table_records import (
    GUIDANCE,
    LMIM,
    NO_GUIDANCE,
    SUBSETS,
    at_accuracy,
    compared,
    make_row,
    make_table,
    write_evaluation,
)

from analysis.tables.planned import tables_of
from analysis.tables.render import FORMATS
from analysis.tables.render_html import html_fragment
from analysis.tables.table import Table
from analysis.tables.verdicts import ONE_SEED
from experiments.planning.planner import make_plan
from results.provenance import REPOSITORY
from results.store import Store

DECIDED = re.compile(r"\b(holds|reversed|higher|lower)\b")
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def table_1() -> Table:
    """Table 1 at seed 0, from the published records."""
    store = Store(PUBLISHED)
    experiment = REPOSITORY / "experiments/ablation_alignment.yaml"
    plan = make_plan([experiment], SCALE, store, precision=lambda: "bf16", overrides={}, seeds=[0])
    (table,) = tables_of(plan, store, recorded=False)
    return table


@pytest.mark.parametrize("form", FORMATS)
def test_table_1_at_one_seed_prints_no_decision(table_1: Table, form: str) -> None:
    text = FORMATS[form]([table_1.content])
    assert text.count(ONE_SEED) >= 2
    assert not DECIDED.search(text)


def test_the_report_of_table_1_at_one_seed_colors_no_difference(table_1: Table) -> None:
    text = html_fragment(table_1.content, level=3)
    assert not DECIDED.search(text)
    assert "class=agrees" not in text
    assert "class=disagrees" not in text


def table_with(
    store: Store, seeds: Mapping[str, Sequence[int]], scale: str = "mini", share: float = 0.9
) -> Table:
    """Rows `b` and `a` (compared with b) with the given seeds; a has the accuracy `share`."""
    rows = []
    for name, reported_row in (("b", NO_GUIDANCE), ("a", GUIDANCE)):
        correct = round(100 * share) if name == "a" else 20
        runs = {
            seed: write_evaluation(
                store,
                f"evaluate-{name}{seed}",
                dict.fromkeys(SUBSETS, [1] * correct + [0] * (100 - correct)),
            )
            for seed in seeds[name]
        }
        row = make_row(name, reported_row=reported_row, compare_with=("b",) if name == "a" else ())
        trainings: dict[int, tuple[str, ...]] = dict.fromkeys(runs, ())
        rows.append(replace(row, evaluations=runs, trainings=trainings))
    return make_table(store, rows, scale, "table1")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("first", "second"),
    [((0,), (0,)), ((0,), SEEDS), (SEEDS, (2,)), ((0, 1), (1, 2)), ((5,), (5,))],
)
def test_rows_with_one_common_seed_are_undecided_in_every_format(
    tmp_path: Path, form: str, first: Sequence[int], second: Sequence[int]
) -> None:
    table = table_with(Store(tmp_path), {"a": first, "b": second})
    pair = compared(table.content)
    assert (pair.verdict, len(pair.seeds)) == (ONE_SEED, 1)
    text = FORMATS[form]([table.content])
    assert ONE_SEED in text
    assert not DECIDED.search(text)


@pytest.mark.parametrize(("first", "second"), [((0,), (1,)), ((0, 1), (2, 3)), ((0,), (1, 2))])
def test_rows_without_a_common_seed_are_missing(
    tmp_path: Path, first: Sequence[int], second: Sequence[int]
) -> None:
    (pair,) = table_with(Store(tmp_path), {"a": first, "b": second}).content.comparisons
    assert (pair.verdict, pair.why) == ("missing", ("no common seed",))


@pytest.mark.parametrize("scale", ["smoke", "mini", "small", "paper"])
@pytest.mark.parametrize(
    ("seeds", "share", "verdict"),
    [
        ((0,), 0.9, ONE_SEED),
        ((0,), 0.1, ONE_SEED),
        ((0,), 0.2, ONE_SEED),
        ((0, 1), 0.9, "holds"),
        ((0, 1), 0.1, "reversed"),
        (SEEDS, 0.9, "holds"),
        (SEEDS, 0.2, "undecided"),
    ],
)
def test_the_verdict_on_a_difference_needs_two_seeds(
    tmp_path: Path, scale: str, seeds: Sequence[int], share: float, verdict: str
) -> None:
    table = table_with(Store(tmp_path), {"a": seeds, "b": seeds}, scale, share)
    pair = compared(table.content)
    assert pair.verdict == verdict
    covers = "test images" if len(seeds) == 1 else "test images and seeds"
    assert pair.average.covers == covers


@pytest.mark.parametrize("form", ["md", "csv", "latex", "html", "json"])
def test_a_row_at_scale_paper_names_what_its_interval_covers(tmp_path: Path, form: str) -> None:
    store = Store(tmp_path)
    row = make_row("a", write_evaluation(store, "evaluate-a", at_accuracy(0.5)), reported_row=LMIM)
    content = make_table(store, [row], "paper", "table1").content
    (shown,) = (row for row in content.rows if row.name == "a")
    assert (shown.verdict, shown.why) == (
        "differs",
        ("one seed: the interval covers test images",),
    )
    text = FORMATS[form]([content])
    assert re.search(r"differs\W+(why\W+)?one seed", text)
