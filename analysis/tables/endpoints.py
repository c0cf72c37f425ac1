"""Endpoints of an experiment: every measure of every row, with intervals, differences and verdicts.

An endpoint is one measure (`word_values.DESCRIPTIONS`) of one kind of run: of the evaluation of the
fine-tuned recognizer, or of a probe of the encoder. An experiment declares one of them as primary
before it is run. The others are exploratory: their intervals are widened for their number
(Bonferroni), so that all of them together are wrong in at most 5 % of the cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.tables.clusters import listed_photographs
from analysis.tables.endpoint_content import EndpointDifference, EndpointRow, EndpointTable
from analysis.tables.endpoint_records import Endpoint, EndpointRecords
from analysis.tables.intervals import Estimate, average_weights, bootstrap
from analysis.tables.measurements import Row
from analysis.tables.power import minimum_detectable_difference, seeds_needed
from analysis.tables.variance import variance_components
from analysis.tables.verdicts import difference_verdict
from analysis.tables.word_values import DESCRIPTIONS
from experiments.planning.endpoints import FINE_TUNED
from experiments.planning.schema import CONTROL_PREFIX
from results.store import Store

DECISIONS = (1.0, 2.0)  # differences, in the endpoint's unit, whose cost a table states


LEVEL_RULE = (
    "Endpoints: the primary one was declared before the runs; its intervals have a level of 95 %. "
    "Those of the exploratory ones are widened for their number (Bonferroni). Verdicts need at "
    "least two seeds. Rows are paired by seed, but not with a control row, whose encoder is "
    "untrained (Welch's interval)"
)
DECIDED_RULE = (
    "`holds` if the interval excludes 0 and the better row is the one that the paper reports as "
    "better, `reversed` if it is the other one, `undecided` if the interval contains 0; `better` "
    "or `worse` if the paper reports no difference"
)
NEEDED_SEEDS_RULE = (
    "`seeds for 1 / 2`: the seeds with which differences of 1 and 2 points would be detected in 80 "
    "of 100 cases."
)


@dataclass(frozen=True)
class ComparedRows:
    """A difference that an experiment declares. reported: of the paper's Avg, or None."""

    row: str
    other: str
    reported: float | None


def endpoint_rule(tables: Sequence[EndpointTable]) -> str:
    """The rule of the endpoints' verdicts. At one seed it names no verdict that decides."""
    has_seeds = any(len(pair.seeds) > 1 for table in tables for pair in table.differences)
    verdicts = f": {DECIDED_RULE}" if has_seeds else ""
    return f"{LEVEL_RULE}{verdicts}. {NEEDED_SEEDS_RULE}"


def endpoint_tables(
    endpoints: Sequence[Endpoint],
    primary: str,
    rows: Sequence[Row],
    compared: Sequence[ComparedRows],
    store: Store,
) -> tuple[EndpointTable, ...]:
    """The tables of all endpoints that some run has, the primary one first.

    Without likelihoods and probes there is nothing that the table of accuracies does not have; the
    result is then empty.

    endpoints: that the runs can have.
    primary: the name of the primary one.
    rows: with their runs.
    compared: the differences that the experiment declares.
    store: the results folder.
    """
    measured = measured_endpoints(endpoints, primary, rows, store)
    is_primary = [of_one.endpoint.name == primary for of_one in measured]
    tables = (
        endpoint_table(of_one, compared, primary=declared, exploratory=is_primary.count(False))
        for of_one, declared in zip(measured, is_primary, strict=True)
    )
    return tuple(table for table in tables if table is not None)


def measured_endpoints(
    endpoints: Sequence[Endpoint], primary: str, rows: Sequence[Row], store: Store
) -> list[EndpointRecords]:
    """The endpoints that some run has, the primary one first; empty without likelihoods.

    The arguments are those of `endpoint_tables`.
    """
    records = [EndpointRecords(endpoint, _runs(rows, endpoint), store) for endpoint in endpoints]
    if not any(of_one.has_nll() for of_one in records):
        return []
    measured = [of_one for of_one in records if any(map(of_one.seeds, of_one.runs))]
    if not any(of_one.endpoint.measure == "nll" for of_one in measured):
        return []
    return sorted(measured, key=lambda of_one: of_one.endpoint.name != primary)


def interval_level(*, primary: bool, exploratory: int) -> float:
    """The level of an endpoint's intervals: 95 %, corrected for the number of exploratory ones."""
    return 0.95 if primary else 1 - 0.05 / max(1, exploratory)


def _runs(rows: Sequence[Row], endpoint: Endpoint) -> dict[str, dict[int, tuple[str, ...]]]:
    """Row -> seed -> ids of the runs that measure an endpoint."""
    if endpoint.source == FINE_TUNED:
        return {
            row.name: {
                seed: (run, *row.transfers.get(seed, ())) for seed, run in row.evaluations.items()
            }
            for row in rows
        }
    return {
        row.name: {
            seed: (probes[endpoint.source],)
            for seed, probes in row.probes.items()
            if endpoint.source in probes
        }
        for row in rows
    }


def endpoint_table(
    records: EndpointRecords, compared: Sequence[ComparedRows], *, primary: bool, exploratory: int
) -> EndpointTable | None:
    """The table of an endpoint; None if no row has a complete run.

    A row whose runs have other words than each other has no value, but a reason for that.

    records: its runs.
    compared: the differences that the experiment declares.
    primary: the experiment declared this endpoint as primary.
    exploratory: the number of exploratory endpoints, for the correction.
    """
    endpoint = records.endpoint
    problems = {name: records.pairing_problem(name) for name in records.runs}
    without_value = {name: problem for name, problem in problems.items() if problem}
    rows = {
        name: row
        for name in records.runs
        if name not in without_value and (row := _row(records, name)) is not None
    }
    if not rows and not without_value:
        return None
    level = interval_level(primary=primary, exploratory=exploratory)
    return EndpointTable(
        name=endpoint.name,
        unit=endpoint.unit,
        description=DESCRIPTIONS[endpoint.measure],
        lower_is_better=endpoint.lower_is_better,
        primary=primary,
        level=level,
        rows=rows,
        differences=tuple(endpoint_difference(records, pair, level) for pair in compared),
        without_value=without_value,
        photographs=records.photographs(),
    )


def endpoint_notes(tables: Sequence[EndpointTable]) -> list[str]:
    """A sentence for each reason why rows have no value or are not compared, and on clusters."""
    by_reason: dict[str, list[str]] = {}
    for table in tables:
        for row, why in table.without_value.items():
            by_reason.setdefault(why, []).append(f"{row} on {table.name}")
        for pair in table.differences:
            if pair.why:
                name = f"{pair.row} − {pair.other} on {table.name}"
                by_reason.setdefault(pair.why, []).append(name)
    return [
        f"Endpoints not measured or compared, {'; '.join(names)}: {why}."
        for why, names in by_reason.items()
    ] + _cluster_notes(tables)


def _cluster_notes(tables: Sequence[EndpointTable]) -> list[str]:
    """The photographs whose words are clusters, endpoints with the same ones together."""
    endpoints: dict[str, list[str]] = {}
    for table in tables:
        if table.photographs:
            listed = listed_photographs(table.photographs)
            endpoints.setdefault(listed, []).append(table.name)
    return [
        f"Intervals of endpoints draw whole photographs, {', '.join(names)}: {listed}."
        for listed, names in endpoints.items()
    ]


def _row(records: EndpointRecords, name: str) -> EndpointRow | None:
    seeds = records.seeds(name)
    subsets = records.subsets(name)
    if not seeds or not subsets:
        return None
    values = [records.values(name, subset, seeds) for subset in subsets]  # (S, T, n) each
    weights = average_weights([array.shape[2] for array in values], pooled=False)
    endpoint = records.endpoint
    (estimate,) = bootstrap(
        [array.mean(1) for array in values],
        weights,
        paired=False,
        bounds=endpoint.bounds,
        clusters=[records.clusters(name, subset) for subset in subsets],
    )
    by_seed = weights @ np.array([array.mean((1, 2)) for array in values])
    return EndpointRow(
        **_rounded(estimate, endpoint.factor),
        covers=estimate.covers,
        by_seed={
            seed: round(endpoint.factor * float(value), 4)
            for seed, value in zip(seeds, by_seed, strict=True)
        },
        variance=variance_components(values, weights, endpoint.factor) if len(seeds) > 1 else None,
    )


def endpoint_difference(
    records: EndpointRecords, pair: ComparedRows, level: float
) -> EndpointDifference:
    """The difference of two rows, paired by seed, with its interval and verdict.

    The seeds of a control row are not paired: its encoder is not pre-trained, so that it shares
    nothing with the encoder of the same seed that could raise or lower both.

    records: the runs of both rows.
    pair: the rows.
    level: of the interval.
    """
    seeds = records.seeds(pair.row, pair.other)
    subsets = records.subsets(pair.row, pair.other)

    def without_numbers(verdict: str, why: str = "") -> EndpointDifference:
        return EndpointDifference(
            row=pair.row,
            other=pair.other,
            reported=pair.reported,
            verdict=verdict,
            seeds=tuple(seeds),
            why=why,
        )

    if not seeds:
        return without_numbers("missing")
    if not subsets:
        return without_numbers("not comparable", "data: no subset was measured for both")
    if problem := records.pairing_problem(pair.row, pair.other):
        return without_numbers("not comparable", problem)
    both = [
        [records.values(name, subset, seeds).mean(1) for subset in subsets]
        for name in (pair.row, pair.other)
    ]
    differences = [first - second for first, second in zip(*both, strict=True)]
    weights = average_weights([array.shape[1] for array in differences], pooled=False)
    least, most = records.endpoint.bounds
    bound = most - least
    is_control = pair.other.startswith(CONTROL_PREFIX)
    (estimate,) = bootstrap(
        differences,
        weights,
        paired=True,
        level=level,
        bounds=(-bound, bound),
        unpaired_seeds=list(zip(*both, strict=True)) if is_control else None,
        clusters=[records.clusters(pair.row, subset) for subset in subsets],
    )
    factor = records.endpoint.factor
    detectable = minimum_detectable_difference(estimate, level=level)
    return EndpointDifference(
        row=pair.row,
        other=pair.other,
        reported=pair.reported,
        verdict=_verdict(estimate, pair.reported, records.endpoint),
        seeds=tuple(seeds),
        why="",
        **_rounded(estimate, factor),
        covers=estimate.covers,
        standard_error=round(factor * estimate.standard_error, 4),
        seed_error=round(factor * estimate.seed_error, 4),
        detectable=round(factor * detectable, 4) if detectable < bound else None,
        seeds_needed={
            f"{size:g}": seeds_needed(estimate, size / factor, level=level) for size in DECISIONS
        }
        if factor == 100 and len(seeds) > 1
        else {},
    )


def _rounded(estimate: Estimate, factor: float) -> dict[str, float]:
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: round(factor * number, 4) for name, number in numbers.items()}


def _verdict(estimate: Estimate, reported: float | None, endpoint: Endpoint) -> str:
    """The verdict on a difference; the better row of an endpoint can have the smaller value."""
    if endpoint.lower_is_better:
        estimate = replace(estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low)
    return difference_verdict(estimate, reported, names=("better", "worse"))
