"""Notes below a table: seeds, intervals, recipe, comparability, data, commits and run folders."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from analysis.tables.clusters import cluster_note
from analysis.tables.comparability import deviations_from_paper
from analysis.tables.measurements import MeasuredEvaluation
from analysis.tables.peer_notes import peer_notes
from results.provenance import display_path
from results.reported import reported, reported_table

if TYPE_CHECKING:
    from analysis.tables.table import Table

DROP_REASONS = {
    "unreadable": "{} images missing or undecodable",
    "unlabeled": "{} without a label",
    "over_long": "{} labels too long for the decoder",
    "unknown_characters": "{} labels with a character outside the charset, white space included",
    "replaced": "{} samples replaced by a later one",
    "filtered": "{} left out by a filter list",
}
IMAGE_INTERVALS = (
    "Intervals cover the sampling of test images only (Wilson for a subset; Agresti and Coull for "
    "a row's averages; paired bootstrap stratified by subset for differences), not the variance "
    "between seeds: another seed may move a row by more."
)
SEED_INTERVALS = (
    "Intervals cover test images and the variance between seeds (hierarchical bootstrap with "
    "Student's t distribution for the seeds)."
)
TESTS = (
    "McNemar's tests are exact and cover test images, seed by seed, with Holm's correction over "
    "subsets."
)


def notes(table: "Table") -> tuple[str, ...]:
    """All notes of a table, the most general first."""
    return (
        *_scale(table),
        _intervals(table),
        *_clusters(table),
        *_recipe(table),
        *_comparability(table),
        *_evaluations(table),
    )


def _scale(table: "Table") -> Iterator[str]:
    seeds = sorted({seed for row in table.measured for seed in row})
    description = f" ({table.scale_description})" if table.scale_description else ""
    listed = ", ".join(map(str, seeds)) or "none yet"
    yield (
        f"Scale: {table.scale}{description}. Seeds: {listed}. Values are percent, means over seeds."
    )
    incomplete = []
    for row, measured in zip(table.rows, table.measured, strict=True):
        missing = [str(seed) for seed in row.evaluations if seed not in measured]
        if missing:
            incomplete.append(f"{row.name}: {', '.join(missing)}")
    if incomplete:
        yield f"Seeds without a complete evaluation: {'; '.join(incomplete)}."
    _ = table.records.trainings  # loads them, which completes `damaged`
    for message in table.records.damaged.values():
        yield f"Damaged, treated as missing: {message}."


def _intervals(table: "Table") -> str:
    """The variance that the intervals cover, and their methods."""
    seed_counts = {len(row) for row in table.measured if row}
    if max(seed_counts, default=1) == 1:
        return f"{IMAGE_INTERVALS} {TESTS}"
    if min(seed_counts) > 1:
        return f"{SEED_INTERVALS} {TESTS}"
    return (
        f"Rows with several seeds: {SEED_INTERVALS} Rows with one seed: {IMAGE_INTERVALS} {TESTS}"
    )


def _clusters(table: "Table") -> Iterator[str]:
    """The photographs whose words are clusters."""
    if photographs := table.records.photographs:
        yield cluster_note(photographs)


def _recipe(table: "Table") -> Iterator[str]:
    if table.overrides:
        settings = ", ".join(f"{key}={value}" for key, value in table.overrides.items())
        yield f"Settings of the command line, which change the file's recipe: {settings}."
    if from_records := [row.name for row in table.rows if row.from_records]:
        yield (
            "From stored runs of the same recipe whose ids differ from those planned here (other "
            "or absent data, fonts, library versions or precision): "
            f"{', '.join(from_records)}."
        )
    rows_of_runs: dict[tuple[str, ...], list[str]] = {}
    for row in table.rows:
        rows_of_runs.setdefault(tuple(row.evaluations.values()), []).append(row.name)
    for rows in rows_of_runs.values():
        if len(rows) > 1:
            yield f"Same runs at this scale: {', '.join(rows)}."


def _comparability(table: "Table") -> Iterator[str]:
    """Rows that cannot be compared with the paper's, and results of other groups."""
    if not table.paper_table:
        return
    rows_of_reasons: dict[str, list[str]] = {}
    for number, row in enumerate(table.rows):
        if row.reported_row is None or not table.measured[number]:
            continue
        if reasons := deviations_from_paper(table, number):
            rows_of_reasons.setdefault("; ".join(reasons), []).append(row.name)
    measured_rows = sum(bool(evaluations) for evaluations in table.measured)
    for why, rows in rows_of_reasons.items():
        listed = "all rows" if len(rows) == measured_rows else ", ".join(rows)
        yield f"Not comparable with the paper, {listed}: {why}."
    if protocol := reported_table(table.paper_table).protocol:
        yield f"Reported rows are not of the LMIM paper: {protocol}."
    yield from _external_results(table.paper_table)
    yield from peer_notes(table.columns, reported_table(table.paper_table).benchmark)


def _external_results(paper_table: str) -> Iterator[str]:
    """Averages of other papers, those of one source and protocol together."""
    results_of: dict[tuple[str, str], list[str]] = {}
    for result in reported().external_results:
        if result.table == paper_table:
            average = f"{result.avg:.2f}".removesuffix("0")
            results = results_of.setdefault((result.source, result.protocol), [])
            results.append(f"{result.method} {average}")
    for (source, protocol), results in results_of.items():
        yield (
            f"Avg of other methods, not comparable with these rows: {', '.join(results)} "
            f"(reported by {source}; protocol: {protocol})."
        )


def _evaluations(table: "Table") -> Iterator[str]:
    """Test sets, protocol, dropped samples, commits and run folders."""
    evaluations = [evaluation for row in table.measured for evaluation in row.values()]
    if not evaluations:
        return
    sizes = {name: images for run in evaluations for name, (_, images) in run.counts.items()}
    listed = ", ".join(f"{name} {images:,}" for name, images in sizes.items())
    yield f"Test images, for each seed: {listed}."
    yield from sorted({f"Protocol {run.protocol}: {run.statement}." for run in evaluations})
    yield from _dropped_in_tests(evaluations)
    yield from _dropped_in_training(table)
    yield f"Commit: {', '.join(sorted({run.commit for run in evaluations}))}."
    run_ids = dict.fromkeys(run.run_id for run in evaluations)
    folder = display_path(table.store.root / "runs")
    yield f"Records: in the folder of each run below {folder}: {', '.join(run_ids)}."


def _dropped_in_tests(evaluations: list[MeasuredEvaluation]) -> Iterator[str]:
    dropped = {name: counts for run in evaluations for name, counts in run.dropped.items()}
    for name, counts in dropped.items():
        if text := _dropped_text(counts):
            yield f"Test subset {name}, every image scored: {text}."


def _dropped_in_training(table: "Table") -> Iterator[str]:
    """Samples that training did not use; rows with the same numbers together."""
    rows_of_text: dict[tuple[str, str], list[str]] = {}
    for number, row in enumerate(table.rows):
        for kind, training in table.records.trainings_of(number):
            if text := _dropped_text(training.dropped):
                rows_of_text.setdefault((kind, text), []).append(row.name)
    for (kind, text), rows in rows_of_text.items():
        names = list(dict.fromkeys(rows))
        listed = "" if len(names) == len(table.rows) else f" ({', '.join(names)})"
        yield f"Data of {kind}{listed}: {text}."


def _dropped_text(dropped: Mapping[str, int]) -> str:
    return ", ".join(DROP_REASONS[name].format(count) for name, count in dropped.items() if count)
