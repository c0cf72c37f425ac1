"""How often a table would call two rows different that are the same recipe.

The seeds of one row are divided into groups. Two groups without a common seed make a pair. They are
compared as two rows of a table are, by `endpoint_difference`. Both groups are one recipe, so every
difference that is found is false. At a level of 95 % there may be 5 % of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from analysis.tables.content import PercentEstimate
from analysis.tables.endpoint_content import EndpointDifference
from analysis.tables.endpoint_records import EndpointRecords
from analysis.tables.endpoints import (
    ComparedRows,
    endpoint_difference,
    interval_level,
    measured_endpoints,
)
from analysis.tables.intervals import wilson
from analysis.tables.table import Table
from analysis.tables.text_grid import ABSENT, TextGrid
from core.runtime.errors import UserError

FIRST, SECOND = "first group", "second group"  # the names of the two rows
EXPLANATION = (
    "Each pair is two disjoint groups of seeds of one row, compared as two rows are. Every "
    "difference that is found is false; `expected` is the share that the level of the intervals "
    "allows. The disjoint pairs share no seed, and the interval is Wilson's over them; the others "
    "are random divisions of the same seeds, so that they are not independent."
)

GroupPair = tuple[tuple[int, ...], tuple[int, ...]]  # seeds of the first and of the second group


@dataclass(frozen=True, kw_only=True)
class FalseDifferences:
    """How many pairs of groups were called different on one endpoint.

    endpoint, unit: its name and its unit.
    expected: the share that the level of the intervals allows, in percent.
    seeds: of the row.
    pairs, different: all pairs, and those that were called different.
    share: of the pairs that were called different, in percent.
    disjoint_pairs, disjoint_different: the same for the pairs that share no seed with each other.
    disjoint_share: the share of the disjoint pairs with Wilson's interval.
    detectable: the mean detectable difference in the unit of the endpoint; None if no pair would
        detect any.
    undetectable: pairs that would not detect any difference; the mean is without them.
    """

    endpoint: str
    unit: str
    expected: float
    seeds: int
    pairs: int
    different: int
    share: float
    disjoint_pairs: int
    disjoint_different: int
    disjoint_share: PercentEstimate
    detectable: float | None
    undetectable: int


@dataclass(frozen=True, kw_only=True)
class FalseDifferencesReport:
    """The false differences of one row on all of its endpoints.

    experiment, scale, row: names.
    seeds_per_row: seeds of each group.
    endpoints: the primary one first.
    """

    experiment: str
    scale: str
    row: str
    seeds_per_row: int
    endpoints: tuple[FalseDifferences, ...] = field(default=())


def divide_seeds(
    seeds: Sequence[int], seeds_per_row: int, pairs: int, random: np.random.Generator
) -> Iterator[GroupPair]:
    """Pairs of disjoint groups: first of consecutive seeds, then of randomly ordered ones.

    The first `len(seeds) // (2 * seeds_per_row)` pairs share no seed with each other.

    seeds: of a row.
    seeds_per_row: seeds of each group.
    pairs: at most so many pairs, but all of the first division.
    random: source of the random orders.
    """
    whole = _pairs_of_order(list(seeds), seeds_per_row)
    yield from whole
    left = pairs - len(whole)
    while left > 0 and whole:
        shuffled = _pairs_of_order(list(random.permutation(seeds)), seeds_per_row)
        yield from islice(shuffled, left)
        left -= len(shuffled)


def _pairs_of_order(seeds: Sequence[int], seeds_per_row: int) -> list[GroupPair]:
    size = 2 * seeds_per_row
    return [
        (
            tuple(int(seed) for seed in seeds[start : start + seeds_per_row]),
            tuple(int(seed) for seed in seeds[start + seeds_per_row : start + size]),
        )
        for start in range(0, len(seeds) - size + 1, size)
    ]


def compare_groups(
    records: EndpointRecords, row: str, pair: GroupPair, level: float
) -> EndpointDifference:
    """Two groups of seeds of a row, compared as two rows of a table are.

    Rows are paired by seed, so both groups are numbered 0, 1, ...

    records: the runs of the row.
    row: its name.
    pair: the two groups.
    level: of the interval.
    """
    groups = {
        name: {number: records.runs[row][seed] for number, seed in enumerate(seeds)}
        for name, seeds in zip((FIRST, SECOND), pair, strict=True)
    }
    compared = ComparedRows(FIRST, SECOND, reported=None)
    return endpoint_difference(replace(records, runs=groups), compared, level)


def false_differences(
    records: EndpointRecords,
    row: str,
    *,
    level: float,
    seeds_per_row: int,
    pairs: int,
    random_seed: int = 0,
) -> FalseDifferences | None:
    """The false differences of a row on one endpoint; None if its seeds make no pair.

    records: the runs of the row.
    row: its name.
    level: of the intervals.
    seeds_per_row: seeds of each group, at least 2: with one nothing is decided.
    pairs: at most so many pairs, but all disjoint ones.
    random_seed: of the random divisions.

    Raises UserError if the seeds have other words than each other.
    """
    if seeds_per_row < 2:
        raise ValueError("one seed decides nothing; take at least 2 seeds for each row")
    if problem := records.pairing_problem(row):
        raise UserError(
            f"{row}: its seeds cannot be compared on {records.endpoint.name} ({problem}); evaluate "
            "them on the same data"
        )
    seeds = records.seeds(row)
    disjoint = len(seeds) // (2 * seeds_per_row)
    if not disjoint:
        return None
    random = np.random.default_rng(random_seed)
    compared = [
        compare_groups(records, row, pair, level)
        for pair in divide_seeds(seeds, seeds_per_row, pairs, random)
    ]
    different = [difference.verdict in ("better", "worse") for difference in compared]
    detectable = [pair.detectable for pair in compared if pair.detectable is not None]
    return FalseDifferences(
        endpoint=records.endpoint.name,
        unit=records.endpoint.unit,
        expected=round(100 * (1 - level), 4),
        seeds=len(seeds),
        pairs=len(compared),
        different=sum(different),
        share=round(100 * sum(different) / len(compared), 4),
        disjoint_pairs=disjoint,
        disjoint_different=sum(different[:disjoint]),
        disjoint_share=PercentEstimate.of(
            replace(wilson(sum(different[:disjoint]), disjoint), covers="pairs of groups")
        ),
        detectable=round(float(np.mean(detectable)), 4) if detectable else None,
        undetectable=len(compared) - len(detectable),
    )


def report_false_differences(
    table: Table, row: str | None, *, seeds_per_row: int, pairs: int
) -> FalseDifferencesReport:
    """The false differences of a row of a table, with the levels of that table.

    table: with the stored runs.
    row: the name of the row; None if the table has only one.
    seeds_per_row, pairs: as in `false_differences`.

    Raises UserError for an unknown row, and if its seeds are too few.
    """
    name = _chosen_row(table, row)
    measured = measured_endpoints(table.endpoints, table.primary, table.rows, table.store)
    exploratory = sum(records.endpoint.name != table.primary for records in measured)
    found = []
    for records in measured:
        primary = records.endpoint.name == table.primary
        level = interval_level(primary=primary, exploratory=exploratory)
        counted = false_differences(
            records, name, level=level, seeds_per_row=seeds_per_row, pairs=pairs
        )
        found += [counted] if counted else []
    if not found:
        complete = max((len(records.seeds(name)) for records in measured), default=0)
        raise UserError(
            f"{table.name}: {name!r} has {complete} complete seeds; two rows of {seeds_per_row} "
            f"seeds need {2 * seeds_per_row}; run more of them with --seeds"
        )
    return FalseDifferencesReport(
        experiment=table.name,
        scale=table.scale,
        row=name,
        seeds_per_row=seeds_per_row,
        endpoints=tuple(found),
    )


def _chosen_row(table: Table, row: str | None) -> str:
    names = [one.name for one in table.rows]
    if row is None and len(names) == 1:
        return names[0]
    if row not in names:
        problem = "which row?" if row is None else f"no row {row!r};"
        raise UserError(f"{table.name}: {problem} choose --row from {', '.join(names)}")
    return row


HEAD = [
    "endpoint",
    "pairs",
    "called different",
    "expected",
    "disjoint pairs",
    "called different, 95 % interval",
    "detectable",
]


def false_differences_grid(report: FalseDifferencesReport) -> TextGrid:
    """The report as a grid of text."""
    return TextGrid(HEAD, [_cells(one) for one in report.endpoints])


def _cells(one: FalseDifferences) -> list[str]:
    share = one.disjoint_share
    digits = 1 if one.unit == "%" else 3
    return [
        f"{one.endpoint} ({one.unit})",
        f"{one.pairs}",
        f"{one.share:.1f} %",
        f"at most {one.expected:.2g} %",
        f"{one.disjoint_pairs}",
        f"{share.accuracy:.1f} % ({share.low:.1f} to {share.high:.1f})",
        ABSENT if one.detectable is None else f"{one.detectable:.{digits}f}",
    ]
