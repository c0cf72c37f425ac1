"""A table's content as grids of text: accuracies, differences between rows, training costs."""

from collections.abc import Callable, Mapping, Sequence

from analysis.tables.comparisons import SIGNIFICANCE_LEVEL
from analysis.tables.content import (
    AVERAGES,
    ExperimentRow,
    McNemarTest,
    MeasuredRow,
    PairedComparison,
    PercentEstimate,
    RowComparison,
    TableContent,
    TableRow,
    TrainingCost,
    UnrecordedTraining,
)
from analysis.tables.endpoint_grids import difference_grid, value_grid
from analysis.tables.intervals import IMAGES_AND_SEEDS
from analysis.tables.text_grid import ABSENT, TextGrid


def accuracy_grid(content: TableContent) -> TextGrid:
    """Reported, measured and difference of every row, with the interval of Avg and the verdict."""
    columns = [*content.columns, *AVERAGES]
    lines = [line for row in content.rows for line in _row_lines(row, columns)]
    return TextGrid(["row", "", *columns, "95 % of Avg", "covers", "verdict"], lines)


def _row_lines(row: TableRow, columns: Sequence[str]) -> list[list[str]]:
    lines = []
    name = row.name
    if row.reported:
        cells = [_number(row.reported.get(column)) for column in columns]
        lines.append([name, "reported", *cells, "", "", ""])
        name = ""
    if isinstance(row, MeasuredRow):
        average = row.measured["Avg"]
        accuracies = {column: estimate.accuracy for column, estimate in row.measured.items()}
        cells = [_number(accuracies.get(column)) for column in columns]
        interval = f"{average.low:.1f} to {average.high:.1f}"
        covered = covers_text(average, row.seeds)
        lines.append([name, "measured", *cells, interval, covered, _verdict_text(row)])
        if row.difference:
            cells = [_number(row.difference.get(column), "+.1f", absent="") for column in columns]
            lines.append(["", "difference", *cells, "", "", ""])
    elif row.verdict == "missing":
        cells = ["missing"] * (len(columns) + 2)
        lines.append([name, "measured", *cells, _verdict_text(row)])
    return lines


def _number(value: float | None, form: str = ".1f", absent: str = ABSENT) -> str:
    return absent if value is None else format(value, form)


def _verdict_text(row: TableRow) -> str:
    """The verdict with the kinds of its reasons (the notes have the whole reasons)."""
    kinds = ", ".join(dict.fromkeys(reason.partition(":")[0] for reason in row.why))
    text = f"{row.verdict} ({kinds})" if row.verdict and kinds else row.verdict
    if isinstance(row, MeasuredRow) and row.missing_seeds:
        without = f"without seed {' '.join(map(str, row.missing_seeds))}"
        text = f"{text}, {without}" if text else without
    return text


def covers_text(estimate: PercentEstimate, seeds: Sequence[int]) -> str:
    """The variance that an interval covers, and its seeds."""
    listed = f"seed{'s' if len(seeds) > 1 else ''} {' '.join(map(str, seeds))}"
    return f"images, {listed}" if estimate.covers == IMAGES_AND_SEEDS else f"images (of {listed})"


COMPARISON_HEAD = [
    "difference of Avg",
    "reported",
    "measured",
    "95 % interval",
    "covers",
    "detectable",
    "verdict",
    "W-Avg",
    f"McNemar p < {SIGNIFICANCE_LEVEL}",
]


def comparison_grid(content: TableContent) -> TextGrid:
    """Differences between rows."""
    return TextGrid(COMPARISON_HEAD, [_comparison_line(pair) for pair in content.comparisons])


def _comparison_line(pair: RowComparison) -> list[str]:
    first_cells = [f"{pair.row} − {pair.other}", _number(pair.reported, "+.1f")]
    why = f" ({'; '.join(pair.why)})" if pair.why else ""
    if not isinstance(pair, PairedComparison):
        empty = "missing" if pair.verdict == "missing" else ABSENT
        return [*first_cells, *[empty] * 4, pair.verdict + why, *[empty] * 2]
    average = pair.average
    pooled = pair.weighted_average
    size = f", size {pair.size}" if pair.size else ""
    return [
        *first_cells,
        f"{average.accuracy:+.1f}",
        f"{average.low:+.1f} to {average.high:+.1f}",
        covers_text(average, pair.seeds),
        _number(pair.detectable, absent="none"),
        pair.verdict + size + why,
        f"{pooled.accuracy:+.1f} ({pooled.low:+.1f} to {pooled.high:+.1f})",
        _significant_subsets(pair.mcnemar),
    ]


def _significant_subsets(tests: Mapping[int, Mapping[str, McNemarTest]]) -> str:
    """The subsets with a significant difference and its sign.

    With several seeds, also the number of seeds with each sign.
    """
    parts = []
    for name in next(iter(tests.values())):
        of_seeds = [of_subsets[name] for of_subsets in tests.values()]
        positive = [test.won > test.lost for test in of_seeds if test.p < SIGNIFICANCE_LEVEL]
        signs = {"+": sum(positive), "−": len(positive) - sum(positive)}
        if len(tests) == 1:
            parts += [f"{name} {sign}" for sign, count in signs.items() if count]
        elif positive:
            counts = " ".join(f"{sign}{count}" for sign, count in signs.items() if count)
            parts.append(f"{name} {counts} of {len(tests)}")
    return ", ".join(parts) or "none"


COST_TITLE = (
    "Training cost (mean over seeds; includes the teacher's images and the hours of its run; "
    "shared runs count in full)"
)
COST_HEAD = [
    "row",
    "images seen",
    "teacher",
    "pre-training",
    "fine-tuning",
    "hours of training",
    "parameters",
]


def cost_grid(content: TableContent) -> TextGrid:
    """The training cost of each row."""
    return TextGrid(COST_HEAD, [line for row in content.rows if (line := _cost_line(row))])


def _cost_line(row: TableRow) -> list[str]:
    """The cells of one row; [] if nothing was trained for it, or it is not ours."""
    cost = row.training_cost if isinstance(row, MeasuredRow) else None
    if isinstance(cost, TrainingCost):
        stages = (cost.teacher_images, cost.pretrain_images, cost.finetune_images)
        prefix = "over " if None in stages else ""
        return [
            row.name,
            f"{prefix}{cost.images:,}",
            *("unknown" if images is None else f"{images:,}" for images in stages),
            f"{cost.hours:.3g} {cost.unit}",
            f"{cost.parameters:,}",
        ]
    not_run = isinstance(row, ExperimentRow) and row.verdict == "missing"
    if not_run or isinstance(cost, UnrecordedTraining):
        return [row.name, *["missing"] * (len(COST_HEAD) - 1)]
    return []


GRIDS: tuple[tuple[str, Callable[[TableContent], TextGrid]], ...] = (
    ("", accuracy_grid),
    ("Endpoints", lambda content: value_grid(content.endpoints)),
    ("Differences of endpoints", lambda content: difference_grid(content.endpoints)),
    ("Differences between rows", comparison_grid),
    (COST_TITLE, cost_grid),
)


def titled_grids(content: TableContent) -> list[tuple[str, TextGrid]]:
    """(title, grid) of all grids that have lines; the first one has no title."""
    grids = [(title, make_grid(content)) for title, make_grid in GRIDS]
    return [(title, grid) for title, grid in grids if grid.lines]
