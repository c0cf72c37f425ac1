"""The rows of a table: reported and measured accuracies, verdicts, training cost, runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analysis.tables.comparability import deviations_from_paper
from analysis.tables.content import (
    AVERAGES,
    ExperimentRow,
    MeasuredRow,
    PercentEstimate,
    SubsetAccuracy,
    TableRow,
)
from analysis.tables.intervals import Estimate
from analysis.tables.row_estimates import row_estimates
from analysis.tables.training_cost import training_cost
from analysis.tables.verdicts import row_verdict
from results.reported import reported_table, reported_values

if TYPE_CHECKING:
    from analysis.tables.table import Table


def table_rows(table: "Table") -> list[TableRow]:
    """The paper's rows in its order, then the rows that the paper does not have."""
    number_of = {
        row.reported_row: number
        for number, row in enumerate(table.rows)
        if row.reported_row is not None
    }
    rows: list[TableRow] = []
    if table.paper_table:
        for reported_row in range(len(reported_table(table.paper_table).rows)):
            if reported_row in number_of:
                rows.append(_row(table, number_of[reported_row]))
            else:
                rows.append(_paper_row(table.paper_table, reported_row))
    new = (number for number, row in enumerate(table.rows) if row.reported_row is None)
    return rows + [_row(table, number) for number in new]


def _row(table: "Table", number: int) -> ExperimentRow:
    row = table.rows[number]
    measured = table.measured[number]
    reported = table.reported_accuracies(number)
    averaged = table.averaged_subsets(number)
    estimates = row_estimates(table.records, number, table.columns, averaged)
    verdict, why = _verdict(table, number, estimates)
    plain = ExperimentRow(
        name=row.name,
        ours=bool(reported),
        reported=reported,
        verdict=verdict,
        why=tuple(why),
        seeds=tuple(measured),
        missing_seeds=tuple(seed for seed in row.evaluations if seed not in measured),
    )
    if not measured:
        return plain
    accuracies = _accuracies(table, number, estimates)
    return MeasuredRow(
        **vars(plain),
        measured=accuracies,
        training_cost=training_cost(table.records, number, plain.seeds),
        difference={
            name: round(accuracies[name].accuracy - reported[name], 4)
            for name in accuracies
            if name in reported and _is_same_quantity(table, number, name)
        },
        runs={seed: row.runs(seed) for seed in measured},
    )


def _accuracies(
    table: "Table", number: int, estimates: Mapping[str, Estimate]
) -> dict[str, PercentEstimate]:
    """Subset, `Avg` and `W-Avg` -> accuracy of a measured row in percent."""
    accuracies: dict[str, PercentEstimate] = {}
    for name, estimate in estimates.items():
        percent = PercentEstimate.of(estimate)
        if name not in AVERAGES:
            counts = [run.counts[name] for run in table.measured[number].values()]
            correct = sum(count for count, _ in counts)
            images = sum(count for _, count in counts)
            percent = SubsetAccuracy(**vars(percent), correct=correct, images=images)
        accuracies[name] = percent
    return accuracies


def _is_same_quantity(table: "Table", number: int, column: str) -> bool:
    """Whether a column has the same meaning in a measured row and in the paper's row.

    An average over other subsets than the paper's has another meaning.
    """
    averaged = tuple(table.averaged_subsets(number))
    return column not in AVERAGES or averaged == table.paper_columns()


def _verdict(
    table: "Table", number: int, estimates: Mapping[str, Estimate]
) -> tuple[str, list[str]]:
    """The verdict on a row, and the reasons for it."""
    if not table.measured[number]:
        return "missing", table.records.why_missing(number)
    reported = table.reported_accuracies(number)
    if "Avg" not in reported:
        missing_part = "row" if table.paper_table else "table"
        return "", [f"the paper has no such {missing_part}"]
    if why := deviations_from_paper(table, number):
        return "not comparable", why
    verdict, covered = row_verdict(estimates["Avg"], reported["Avg"])
    return verdict, [covered]


def _paper_row(paper_table: str, number: int) -> TableRow:
    """A row of the paper without a row of the experiment."""
    table = reported_table(paper_table)
    row = table.rows[number]
    ours = table.is_authors_row(number)
    return TableRow(
        name=row.name(),
        ours=ours,
        reported=reported_values(paper_table, number),
        verdict="missing" if ours else "",
        why=("no row of this experiment reproduces it" if ours else f"quoted from {row.source}",),
    )
