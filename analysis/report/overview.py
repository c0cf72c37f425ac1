"""All tables at a glance: what was measured, which verdicts, and every difference between rows beside the reported one."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.style import BLUE, COLUMN, GRAY, SKY, VERMILION, Html, figure_of, grid, plain, styled
from analysis.tables.intervals import IMAGES
from analysis.tables.render import FORMATS, heading, html_fragment
from analysis.tables.table import Table
from core.runtime.errors import UserError
from core.runtime.files import write_text

SUFFIXES = {"latex": "tex", "csv": "csv", "html": "html"}


def shown(tables: Sequence[Table]) -> Html:
    """Every table in the paper's layout, reported beside measured, with intervals, verdicts and notes."""
    return Html("\n".join(html_fragment(table.content, level=3) for table in tables))


def overview(tables: Sequence[Table]) -> pd.DataFrame:
    """A line for each table: rows measured of those planned, seeds, verdicts on rows and on differences."""
    lines = []
    for table in tables:
        content = table.content
        rows = [row for row in content["rows"] if "seeds" in row]
        measured = [row for row in rows if "measured" in row]
        seeds = sorted({len(row["seeds"]) for row in measured})
        lines.append(
            {
                "table": heading(content),
                "scale": content["scale"],
                "rows": f"{len(measured)} of {len(rows)}",
                "seeds": " to ".join(dict.fromkeys(map(str, [*seeds[:1], *seeds[-1:]]))) or "–",
                "rows, by verdict": _counted(row["verdict"] for row in rows if row["verdict"]),
                "differences, by verdict": _counted(
                    one["verdict"] for one in content["comparisons"]
                ),
            }
        )
    return pd.DataFrame(lines)


def _counted(verdicts: object) -> str:
    found = Counter(verdicts)  # type: ignore[call-overload]
    return ", ".join(f"{count} {name}" for name, count in found.most_common()) or "–"


@styled()
def differences(tables: Sequence[Table]) -> Axes:
    """Every measured difference of Avg between two rows with its 95 % interval, and the reported one below it, in points.

    Filled: the interval excludes 0. Squares: of one seed, whose interval covers test images alone.
    Raises UserError where nothing was measured."""
    found = [
        (table, one) for table in tables for one in table.content["comparisons"] if "Avg" in one
    ]
    if not found:
        raise UserError(
            "no difference between rows was measured; run an experiment whose rows name `against`"
        )
    axes: Axes = grid(1, 1, COLUMN, 1.1 + 0.27 * len(found))[0, 0]
    for place, (_, one) in enumerate(found):
        value, low, high = (one["Avg"][name] for name in ("accuracy", "low", "high"))
        color, marker = (SKY, "s") if one["Avg"]["covers"] == IMAGES else (BLUE, "o")
        axes.plot([low, high], [place, place], color=color, linewidth=1.2)
        axes.plot(
            value,
            place,
            marker,
            color=color,
            markerfacecolor=color if low > 0 or high < 0 else "white",
        )
        if one["reported"] is not None:
            axes.plot(one["reported"], place + 0.3, "D", color=VERMILION, markersize=2.5)
    axes.axvline(0, color=GRAY, linewidth=0.8, linestyle="--")
    short = [table.label.replace("Table ", "T").removeprefix("beyond_") for table, _ in found]
    labels = [
        plain(f"{name}: {one['row']} − {one['other']}", 34)
        for name, (_, one) in zip(short, found, strict=True)
    ]
    axes.set(yticks=range(len(found)), xlabel="difference of Avg (points)")
    axes.set_yticklabels(labels, fontsize=6)
    if (
        max(abs(one["Avg"][side]) for _, one in found for side in ("low", "high")) > 40
    ):  # which would hide all others
        axes.set_xlim(-40, 40)
        axes.set_xlabel("difference of Avg (points; axis cut at 40)")
    axes.set_ylim(len(found) - 0.4, -0.6)
    marks = {
        "over seeds": axes.plot([], [], "o", color=BLUE)[0],
        "of one seed": axes.plot([], [], "s", color=SKY)[0],
        "reported": axes.plot([], [], "D", color=VERMILION, markersize=2.5)[0],
    }
    figure_of(axes).legend(marks.values(), marks.keys(), loc="outside lower center", ncols=3)
    return axes


def export(tables: Sequence[Table], folder: Path) -> pd.DataFrame:
    """Write every table as LaTeX, CSV and HTML below `folder`; their paths, a line for each table."""
    lines = []
    for table in tables:
        paths = {
            kind: folder / f"{table.file_name()}.{suffix}" for kind, suffix in SUFFIXES.items()
        }
        for kind, path in paths.items():
            write_text(path, FORMATS[kind]([table.content]))
        lines.append(
            {"table": heading(table.content)} | {kind: path.name for kind, path in paths.items()}
        )
    return pd.DataFrame(lines)


def runs_of(tables: Sequence[Table]) -> tuple[list[str], list[int]]:
    """The evaluations that fill some tables, and their seeds."""
    found = [
        (one.run, seed) for table in tables for row in table.measured for seed, one in row.items()
    ]
    return list(dict.fromkeys(run for run, _ in found)), np.unique(
        [seed for _, seed in found]
    ).tolist()
