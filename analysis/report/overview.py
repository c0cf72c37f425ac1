"""An overview of all tables: what is measured, the verdicts, and the differences of rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from analysis.style import (
    BLUE,
    COLUMN,
    GRAY,
    SKY,
    VERMILION,
    Html,
    figure_of,
    grid,
    plain_label,
    styled,
)
from analysis.tables.content import ExperimentRow, MeasuredRow, PairedComparison, RowComparison
from analysis.tables.render import FORMATS
from analysis.tables.render_html import html_fragment
from analysis.tables.table import Table
from analysis.tables.verdicts import ONE_SEED, is_one_seed
from core.runtime.errors import UserError
from core.runtime.files import write_text

SUFFIXES = {"latex": "tex", "csv": "csv", "html": "html"}
AXIS_LIMIT = 40  # points; a wider interval is cut, so that the other differences stay visible


def tables_as_html(tables: Sequence[Table]) -> Html:
    """All tables in the paper's layout, with measured values, intervals, verdicts and notes."""
    return Html("\n".join(html_fragment(table.content, level=3) for table in tables))


def overview_table(tables: Sequence[Table]) -> pd.DataFrame:
    """One line per table: measured rows, seeds, and the verdicts on rows and on differences."""
    lines = []
    for table in tables:
        content = table.content
        planned = [row for row in content.rows if isinstance(row, ExperimentRow)]
        measured = [row for row in planned if isinstance(row, MeasuredRow)]
        seeds = sorted({len(row.seeds) for row in measured})
        seed_range = dict.fromkeys(map(str, [*seeds[:1], *seeds[-1:]]))
        row_verdicts = [_row_verdict(row) for row in planned if row.verdict]
        lines.append(
            {
                "table": content.heading,
                "scale": content.scale,
                "rows": f"{len(measured)} of {len(planned)}",
                "seeds": " to ".join(seed_range) or "–",
                "rows, by verdict": _count(row_verdicts),
                "differences, by verdict": _count(
                    comparison.verdict for comparison in content.comparisons
                ),
            }
        )
    return pd.DataFrame(lines)


def _row_verdict(row: ExperimentRow) -> str:
    """The verdict; of one seed with what its interval covers."""
    judged = row.verdict in ("reproduced", "differs")
    return f"{row.verdict} (one seed)" if judged and is_one_seed(row.seeds) else row.verdict


def _count(verdicts: Iterable[str]) -> str:
    counts = Counter(verdicts)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "–"


@styled()
def differences_figure(tables: Sequence[Table]) -> Axes:
    """Differences of Avg between rows in points: measured with 95 % interval, and reported.

    A filled mark means that the interval excludes 0. A square means one seed, whose interval covers
    test images only; it is never filled, because it decides nothing. Raises UserError if no
    difference is measured."""
    differences = [
        (table, comparison)
        for table in tables
        for comparison in table.content.comparisons
        if isinstance(comparison, PairedComparison)
    ]
    if not differences:
        raise UserError(
            "no difference between rows is measured; run an experiment whose rows have `against`"
        )
    axes: Axes = grid(1, 1, COLUMN, 1.1 + 0.27 * len(differences))[0, 0]
    for position, (_, comparison) in enumerate(differences):
        _draw_difference(axes, position, comparison)
    axes.axvline(0, color=GRAY, linewidth=0.8, linestyle="--")
    axes.set(yticks=range(len(differences)), xlabel="difference of Avg (points)")
    axes.set_yticklabels([_difference_label(*pair) for pair in differences], fontsize=6)
    averages = [comparison.average for _, comparison in differences]
    if max(abs(end) for average in averages for end in (average.low, average.high)) > AXIS_LIMIT:
        axes.set_xlim(-AXIS_LIMIT, AXIS_LIMIT)
        axes.set_xlabel(f"difference of Avg (points; axis cut at {AXIS_LIMIT})")
    axes.set_ylim(len(differences) - 0.4, -0.6)
    marks = {
        "several seeds": axes.plot([], [], "o", color=BLUE)[0],
        ONE_SEED: axes.plot([], [], "s", color=SKY, markerfacecolor="white")[0],
        "reported": axes.plot([], [], "D", color=VERMILION, markersize=2.5)[0],
    }
    figure_of(axes).legend(marks.values(), marks.keys(), loc="outside lower center", ncols=3)
    return axes


def _draw_difference(axes: Axes, position: int, comparison: PairedComparison) -> None:
    measured = comparison.average
    low = measured.low
    high = measured.high
    one_seed = is_one_seed(comparison.seeds)
    color = SKY if one_seed else BLUE
    is_decided = not one_seed and (low > 0 or high < 0)
    axes.plot([low, high], [position, position], color=color, linewidth=1.2)
    axes.plot(
        measured.accuracy,
        position,
        "s" if one_seed else "o",
        color=color,
        markerfacecolor=color if is_decided else "white",
    )
    if comparison.reported is not None:
        axes.plot(comparison.reported, position + 0.3, "D", color=VERMILION, markersize=2.5)


def _difference_label(table: Table, comparison: RowComparison) -> str:
    name = table.label.replace("Table ", "T").removeprefix("beyond_")
    return plain_label(f"{name}: {comparison.row} − {comparison.other}", 34)


def export_tables(tables: Sequence[Table], folder: Path) -> pd.DataFrame:
    """Write all tables as LaTeX, CSV and HTML. Returns the file names, one line per table."""
    lines = []
    for table in tables:
        line = {"table": table.content.heading}
        for format_name, suffix in SUFFIXES.items():
            path = folder / f"{table.file_name()}.{suffix}"
            write_text(path, FORMATS[format_name]([table.content]))
            line[format_name] = path.name
        lines.append(line)
    return pd.DataFrame(lines)


def evaluations_of(tables: Sequence[Table]) -> tuple[list[str], list[int]]:
    """All evaluation runs of the tables, and their seeds."""
    runs: dict[str, None] = {}
    seeds: set[int] = set()
    for table in tables:
        for row in table.measured:
            runs |= dict.fromkeys(measured.run_id for measured in row.values())
            seeds |= row.keys()
    return list(runs), sorted(seeds)
