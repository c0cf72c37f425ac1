"""The overview of tables: one seed decides nothing in the picture and is named in the counts."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from table_records import (
    LMIM,
    at_accuracy,
    make_row,
    make_table,
    two_row_table,
    write_evaluation,
)

from analysis.report.overview import differences_figure, overview_table
from analysis.style import figure_of
from analysis.tables.verdicts import ONE_SEED
from results.store import Store

RIGHT = [1] * 90 + [0] * 10
WRONG = [1] * 10 + [0] * 90


def mark_of(axes: Axes) -> tuple[str, bool]:
    """Shape of the first difference's mark, and whether it is filled."""
    mark = next(line for line in axes.get_lines() if line.get_marker() in ("o", "s"))
    return str(mark.get_marker()), to_rgb(mark.get_markerfacecolor()) != (1, 1, 1)


@pytest.mark.parametrize(
    ("seeds", "second", "mark"),
    [
        (1, WRONG, ("s", False)),
        (1, RIGHT, ("s", False)),
        (2, WRONG, ("o", True)),
        (3, WRONG, ("o", True)),
        (3, RIGHT, ("o", False)),
    ],
)
def test_only_a_decided_difference_has_a_filled_mark(
    tmp_path: Path, seeds: int, second: list[int], mark: tuple[str, bool]
) -> None:
    axes = differences_figure([two_row_table(Store(tmp_path), RIGHT, second, seeds)])
    assert mark_of(axes) == mark


def test_the_legend_of_the_picture_has_the_verdict_of_one_seed(tmp_path: Path) -> None:
    axes = differences_figure([two_row_table(Store(tmp_path), RIGHT, WRONG)])
    (legend,) = figure_of(axes).legends
    assert ONE_SEED in [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(("seeds", "verdict"), [(1, ONE_SEED), (2, "holds"), (3, "holds")])
def test_verdicts_on_differences_are_counted(tmp_path: Path, seeds: int, verdict: str) -> None:
    table = two_row_table(Store(tmp_path), RIGHT, WRONG, seeds)
    counted = overview_table([table])["differences, by verdict"]
    assert list(counted) == [f"1 {verdict}"]


@pytest.mark.parametrize(("seeds", "verdict"), [(1, "differs (one seed)"), (2, "differs")])
def test_a_row_judged_by_one_seed_says_so(tmp_path: Path, seeds: int, verdict: str) -> None:
    store = Store(tmp_path)
    for seed in range(seeds):
        write_evaluation(store, f"evaluate-{seed}", at_accuracy(0.5))
    row = make_row("a", *(f"evaluate-{seed}" for seed in range(seeds)), reported_row=LMIM)
    (counted,) = overview_table([make_table(store, [row], "paper", "table1")])["rows, by verdict"]
    assert f"1 {verdict}" in counted
