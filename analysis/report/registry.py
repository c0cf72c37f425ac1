"""Tables as rows for a registry of results: one row for each task, data set and metric.

Registries that took over from Papers with Code read such rows, and ask how far a number was
checked: its tier.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.cards.lineage import RecordedRoot, RecordedRun, find_card_runs, method_of
from analysis.tables.comparability import deviations_from_paper
from analysis.tables.content import AVERAGES, MeasuredRow, as_json
from analysis.tables.grids import covers_text
from analysis.tables.measurements import MeasuredEvaluation
from analysis.tables.table import Table
from core.runtime.errors import UserError
from core.text.protocols import LABEL_POLICIES, PROTOCOLS
from results.reported import METRICS, Note, ReportedRow, reported, reported_table, reported_values

TASK = "scene text recognition"
SELF_REPORTED = "self-reported"
REPRODUCED = "community-reproduced"
NOT_COMPARABLE = "not comparable with the paper"
PAPER = "LMIM paper"  # as `source` of results/reported.yaml names it
UNRECORDED = "not recorded"
SIZES = "sizes"  # start of the keys of sizes in `protocol_notes`


@dataclass(frozen=True)
class DataSet:
    """The test data of a value.

    name: of the subset, or of the benchmark for an average.
    subsets: name -> the number of images; None if it is not recorded.
    images: the sum; None if a size is not recorded.
    roots: subset -> names of the data that were read; empty for reported values.
    labels: the version of the labels.
    """

    name: str
    subsets: dict[str, int | None]
    images: int | None
    roots: dict[str, list[str]]
    labels: str


@dataclass(frozen=True)
class Metric:
    """What a value measures.

    average: `Avg` (mean over subsets), `W-Avg` (over all images), or None for one subset.
    protocol: the name of the protocol of measured values; None if a source does not name one.
    statement: the protocol in words.
    label_policy: what is done with labels that the recognizer cannot express.
    """

    name: str
    unit: str
    average: str | None
    protocol: str | None
    statement: str
    label_policy: str | None


@dataclass(frozen=True)
class Interval:
    """An interval in percent, and the variance that it covers. level: in percent."""

    level: int
    low: float
    high: float
    covers: str


@dataclass(frozen=True)
class RegistryRow:
    """One row of a registry. Empty fields are kept: null or an empty collection.

    value: in percent.
    interval, seeds, commits, data_fingerprints, runs: of measured values.
    tier: SELF_REPORTED, REPRODUCED or NOT_COMPARABLE.
    reasons: for NOT_COMPARABLE, or why a measured value reproduces none.
    commits: of the code, shortened, with a remark if it had changes.
    data_fingerprints: subset -> hashes of the content of its data.
    runs: seed -> ids of the runs.
    """

    task: str
    data_set: DataSet
    metric: Metric
    value: float
    interval: Interval | None
    seeds: tuple[int, ...]
    missing_seeds: tuple[int, ...]
    row: str
    method: str
    tier: str
    reasons: tuple[str, ...]
    source: str
    experiment: str
    scale: str | None
    commits: tuple[str, ...]
    data_fingerprints: dict[str, list[str]]
    runs: dict[str, Any]


def registry_text(tables: Sequence[Table]) -> str:
    """The rows of tables as JSON Lines: one object a line."""
    rows = (row for table in tables for row in registry_rows(table))
    lines = (json.dumps(as_json(row), ensure_ascii=False, allow_nan=False) for row in rows)
    return "".join(f"{line}\n" for line in lines)


def registry_rows(table: Table) -> list[RegistryRow]:
    """The reported and measured values of a table, in its order, rounded as in its JSON."""
    numbers = {row.name: number for number, row in enumerate(table.rows)}
    paper_rows = reported_table(table.paper_table).rows if table.paper_table else ()
    rows: list[RegistryRow] = []
    for position, row in enumerate(table.content.rows):
        if position < len(paper_rows):
            rows += _reported_rows(table, position, row.name)
        if isinstance(row, MeasuredRow):
            rows += _measured_rows(table, numbers[row.name], row)
    return rows


# Reported values


def _reported_rows(table: Table, number: int, name: str) -> Iterator[RegistryRow]:
    """The values that papers report for a row. number: of the row in results/reported.yaml."""
    assert table.paper_table is not None
    paper_table = reported_table(table.paper_table)
    row = paper_table.rows[number]
    notes = reported().protocol_notes.get(paper_table.benchmark, {})
    is_by_paper = paper_table.is_of_paper and row.source in (None, PAPER)
    sizes = _reported_sizes(notes) if is_by_paper else {}
    protocol = METRICS[paper_table.benchmark]
    columns = reported().subsets[paper_table.benchmark]
    for column, value in reported_values(table.paper_table, number).items():
        subsets = columns if column in AVERAGES else (column,)
        counts = {subset: sizes.get(subset) for subset in subsets}
        yield RegistryRow(
            task=TASK,
            data_set=DataSet(
                name=paper_table.benchmark if column in AVERAGES else column,
                subsets=counts,
                images=_sum(counts),
                roots={},
                labels=_reported_labels(row, protocol, is_by_paper),
            ),
            metric=Metric(
                name=metric_name(protocol),
                unit="percent",
                average=column if column in AVERAGES else None,
                protocol=protocol if paper_table.is_of_paper else None,
                statement=paper_table.protocol.strip() or PROTOCOLS[protocol].statement,
                label_policy=None,
            ),
            value=value,
            interval=None,
            seeds=(),
            missing_seeds=(),
            row=name,
            method=row.method or "ablation of LMIM",
            tier=SELF_REPORTED,
            reasons=(),
            source=_reported_source(table.label, row, is_by_paper),
            experiment=table.name,
            scale=None,
            commits=(),
            data_fingerprints={},
            runs={},
        )


def _reported_sizes(notes: dict[str, Note]) -> dict[str, int]:
    """Subset -> the number of images, as the notes of a benchmark have it."""
    return {
        subset: size
        for key, sizes in notes.items()
        if key.startswith(SIZES) and isinstance(sizes, dict)
        for subset, size in sizes.items()
    }


def _reported_labels(row: ReportedRow, protocol: str, is_by_paper: bool) -> str:
    if row.labels:
        return row.labels
    return PROTOCOLS[protocol].labels if is_by_paper else UNRECORDED


def _reported_source(label: str, row: ReportedRow, is_by_paper: bool) -> str:
    if is_by_paper:
        return f"{PAPER}, {label}"
    changed = ", recomputed by the authors of the LMIM paper" if row.recomputed else ""
    return f"{row.source or UNRECORDED}, as {label} has it{changed}"


def metric_name(protocol: str) -> str:
    """What the field calls the accuracy under a protocol."""
    return "sentence accuracy" if protocol == "chinese" else "word accuracy"


def _sum(counts: dict[str, int | None]) -> int | None:
    known = [count for count in counts.values() if count is not None]
    return sum(known) if len(known) == len(counts) else None


# Measured values


def _measured_rows(table: Table, number: int, row: MeasuredRow) -> Iterator[RegistryRow]:
    """The values that this suite measured for a row. number: of the experiment's row."""
    evaluations = table.measured[number]
    first = next(iter(evaluations.values()))
    roots = [RecordedRun(run.run, run.run.record()).roots for run in evaluations.values()]
    tier, reasons = tier_of(table, number)
    method = _method(table, number)
    for column, estimate in row.measured.items():
        subsets = table.averaged_subsets(number) if column in AVERAGES else [column]
        counts: dict[str, int | None] = {name: first.counts[name][1] for name in subsets}
        of_subsets = {name: [root for data in roots for root in data[name]] for name in subsets}
        yield RegistryRow(
            task=TASK,
            data_set=DataSet(
                name=_measured_name(
                    _average_name(table, subsets) if column in AVERAGES else column,
                    [root for found in of_subsets.values() for root in found],
                ),
                subsets=counts,
                images=_sum(counts),
                roots={
                    name: _unique(root.name or UNRECORDED for root in of_subset)
                    for name, of_subset in of_subsets.items()
                },
                labels=_measured_labels([root for found in of_subsets.values() for root in found]),
            ),
            metric=_measured_metric(column, list(evaluations.values())),
            value=estimate.accuracy,
            interval=Interval(95, estimate.low, estimate.high, covers_text(estimate, row.seeds)),
            seeds=row.seeds,
            missing_seeds=row.missing_seeds,
            row=row.name,
            method=method,
            tier=tier,
            reasons=reasons,
            source="measured with this suite",
            experiment=table.name,
            scale=table.scale,
            commits=tuple(_unique(run.commit for run in evaluations.values())),
            data_fingerprints={
                name: _unique(root.fingerprint for root in of_subset)
                for name, of_subset in of_subsets.items()
            },
            runs={str(seed): as_json(runs) for seed, runs in row.runs.items()},
        )


def tier_of(table: Table, number: int) -> tuple[str, tuple[str, ...]]:
    """The tier of a measured row, and the reasons for it. number: of the experiment's row."""
    if reasons := deviations_from_paper(table, number):
        return NOT_COMPARABLE, tuple(reasons)
    if not table.reported_accuracies(number):
        return SELF_REPORTED, ("no paper reports this row, so it reproduces no number",)
    return REPRODUCED, ()


def _average_name(table: Table, subsets: Sequence[str]) -> str:
    """The benchmark if these are its subsets, and else their names."""
    if table.paper_table and tuple(subsets) == table.paper_columns():
        return reported_table(table.paper_table).benchmark
    return ", ".join(subsets)


def _measured_name(name: str, roots: Sequence[RecordedRoot]) -> str:
    """A name that does not pass rendered words off as the paper's data."""
    return f"rendered words in place of {name}" if _are_rendered(roots) else name


def _are_rendered(roots: Sequence[RecordedRoot]) -> bool:
    return bool(roots) and all(root.is_rendered for root in roots)


def _measured_labels(roots: Sequence[RecordedRoot]) -> str:
    if _are_rendered(roots):
        return "rendered words of this suite: the labels are what was drawn"
    return f"{UNRECORDED}: data_fingerprints tell versions apart"


def _measured_metric(column: str, evaluations: Sequence[MeasuredEvaluation]) -> Metric:
    policies = _unique(run.labels for run in evaluations)
    return Metric(
        name=metric_name(evaluations[0].protocol),
        unit="percent",
        average=column if column in AVERAGES else None,
        protocol=", ".join(_unique(run.protocol for run in evaluations)),
        statement="; ".join(_unique(run.statement for run in evaluations)),
        label_policy="; ".join(f"{name}: {LABEL_POLICIES.get(name, name)}" for name in policies),
    )


def _method(table: Table, number: int) -> str:
    """How the encoder of a row was pre-trained, by its records."""
    evaluation = next(iter(table.measured[number].values()))
    try:
        method = method_of(find_card_runs(table.store, evaluation.run_id))
    except UserError:  # the recognizer is a file, or its record is absent or damaged
        return UNRECORDED
    return "no pre-training" if method == "none" else method


def _unique(texts: Iterator[str] | Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))
