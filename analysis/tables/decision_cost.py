"""What it costs to decide a difference: the seeds that detect it, and their computing time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.tables.endpoint_content import EndpointDifference, EndpointTable
from analysis.tables.endpoint_records import parse_endpoint
from analysis.tables.intervals import Estimate
from analysis.tables.power import seeds_needed
from analysis.tables.table import Table
from experiments.planning.endpoints import FINE_TUNED
from experiments.planning.plan import Cell, Plan

POWER = 0.8


@dataclass(frozen=True)
class DecisionCost:
    """The cost of deciding one declared difference on one endpoint.

    experiment, endpoint, row, other: names; the difference is `row` minus `other`.
    points: the true difference that is to be detected, in percentage points.
    measured_seeds: the seeds from which the variance was measured.
    seeds: that detect it with a power of 80 %; None if the test words are too few for any number.
    hours: of all runs that these seeds need, as the plan estimates; None if `seeds` is None.
    """

    experiment: str
    endpoint: str
    row: str
    other: str
    points: float
    measured_seeds: int
    seeds: int | None
    hours: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def decision_costs(
    plan: Plan, tables: Sequence[Table], points: float, hours: Mapping[str, float]
) -> list[DecisionCost]:
    """The costs of all declared differences that at least two seeds measured.

    plan: with the runs of each row.
    tables: its tables, with the recorded runs.
    points: the true difference, in percentage points.
    hours: run -> its time.
    """
    return [
        cost
        for table in tables
        for endpoint in table.content.endpoints
        if endpoint.unit == "%"
        for cost in _costs_of(plan, table, endpoint, points, hours)
    ]


def _costs_of(
    plan: Plan, table: Table, endpoint: EndpointTable, points: float, hours: Mapping[str, float]
) -> Iterator[DecisionCost]:
    for difference in endpoint.differences:
        estimate = _estimate(difference)
        if estimate is None:
            continue
        seeds = seeds_needed(estimate, points, POWER, endpoint.level)
        runs = _runs_of_a_seed(plan, table, endpoint, (difference.row, difference.other))
        yield DecisionCost(
            experiment=table.name,
            endpoint=endpoint.name,
            row=difference.row,
            other=difference.other,
            points=points,
            measured_seeds=len(difference.seeds),
            seeds=seeds,
            hours=None if seeds is None else round(seeds * sum(hours[run] for run in runs), 4),
        )


def _estimate(difference: EndpointDifference) -> Estimate | None:
    """The standard errors of a difference; None if it does not have at least two seeds."""
    error = difference.standard_error
    seed_error = difference.seed_error
    if len(difference.seeds) < 2 or error is None or seed_error is None:
        return None
    seeds = len(difference.seeds)
    return Estimate(0.0, 0.0, 0.0, standard_error=error, seeds=seeds, seed_error=seed_error)


def _runs_of_a_seed(
    plan: Plan, table: Table, endpoint: EndpointTable, names: tuple[str, str]
) -> set[str]:
    """The planned runs that two rows need at their first seed for an endpoint."""
    source = parse_endpoint(endpoint.name).source
    positions = [number for number, row in enumerate(table.rows) if row.name in names]
    cells = [plan.cells_of(table.name, number)[0] for number in positions]
    return {run for cell in cells for run in _runs_of(cell, source) if run in plan.runs}


def _runs_of(cell: Cell, source: str) -> list[str]:
    """The runs of a cell that an endpoint's source needs. source: FINE_TUNED, or a probe."""
    if source == FINE_TUNED:
        return [cell.teacher, *cell.trainings, cell.evaluate]
    pretraining = [run for run in cell.trainings if run.startswith("pretrain")]
    return [cell.teacher, *pretraining, cell.probes[source]]


def decision_text(costs: Sequence[DecisionCost], points: float) -> str:
    """The costs as aligned lines."""
    head = f"seeds that detect a true difference of {points:g} points in 80 of 100 cases:"
    if not costs:
        return f"{head}\n  unknown; complete at least 2 seeds of the rows to measure the variance"
    lines = [
        (
            cost.endpoint,
            f"{cost.row} - {cost.other}",
            "no number: too few test words" if cost.seeds is None else f"{cost.seeds} seeds",
            "" if cost.hours is None else f"{cost.hours:.2f} hours",
        )
        for cost in costs
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([head, *(f"  {row}" for row in rows)])
