"""Endpoints of an experiment: every measure of every row, with intervals, differences and verdicts.

An endpoint is one measure (`word_values.DESCRIPTIONS`) of one kind of run: of the evaluation of the
fine-tuned recognizer, or of a probe of the encoder. An experiment declares one of them as primary
before it is run. The others are exploratory: their intervals are widened for their number
(Bonferroni), so that all of them together are wrong in at most 5 % of the cases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from analysis.tables.endpoint_content import EndpointDifference, EndpointRow, EndpointTable
from analysis.tables.intervals import Estimate, average_weights, bootstrap
from analysis.tables.measurements import Row
from analysis.tables.power import minimum_detectable_difference, seeds_needed
from analysis.tables.variance import variance_components
from analysis.tables.verdicts import difference_verdict
from analysis.tables.word_values import (
    DESCRIPTIONS,
    LOWER_IS_BETTER,
    PredictedWords,
    word_values,
)
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.planning.endpoints import FINE_TUNED, Measure, split_endpoint
from results.records import StoredProtocol, read_record
from results.store import Run, Store

DECISIONS = (1.0, 2.0)  # differences, in the endpoint's unit, whose cost a table states


@dataclass(frozen=True)
class Endpoint:
    """One measure of one kind of run.

    source: FINE_TUNED (experiments/planning/endpoints.py), or the name of a probe in the recipe.
    measure: what is measured.
    """

    source: str
    measure: Measure

    @property
    def name(self) -> str:
        """Its name in experiment files and tables, such as `fine-tuned words`."""
        return f"{self.source} {self.measure}"

    @property
    def unit(self) -> str:
        """`%`, or `nats` per character."""
        return "nats" if self.measure == "nll" else "%"

    @property
    def factor(self) -> float:
        """From the values' unit to the printed one."""
        return 1.0 if self.measure == "nll" else 100.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest possible value of a row."""
        return (0.0, 1.0) if self.measure in ("words", "characters") else (0.0, np.inf)

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value is the better one."""
        return self.measure in LOWER_IS_BETTER


ENDPOINT_RULE = (
    "Endpoints: the primary one was declared before the runs; its intervals have a level of 95 %. "
    "Those of the exploratory ones are widened for their number (Bonferroni). Verdicts need at "
    "least two seeds: `holds` if the interval excludes 0 and the better row is the one that the "
    "paper reports as better, `reversed` if it is the other one, `undecided` if the interval "
    "contains 0; `better` or `worse` if the paper reports no difference. `seeds for 1 / 2`: the "
    "seeds with which differences of 1 and 2 points would be detected in 80 of 100 cases."
)

# Row -> seed -> ids of the runs that measure the endpoint: one for each transfer of that seed.
EndpointRuns = Mapping[str, Mapping[int, Sequence[str]]]


@dataclass(frozen=True)
class ComparedRows:
    """A difference that an experiment declares. reported: of the paper's Avg, or None."""

    row: str
    other: str
    reported: float | None


@dataclass(frozen=True)
class EndpointRecords:
    """The predictions of the runs of one endpoint, loaded once.

    endpoint: the measure.
    runs: of each row.
    store: the results folder.
    """

    endpoint: Endpoint
    runs: EndpointRuns
    store: Store

    def seeds(self, *rows: str) -> list[int]:
        """The seeds at which all of these rows have complete runs."""
        complete = [
            {
                seed
                for seed, runs in self.runs.get(row, {}).items()
                if runs and all(_values(self.store.run(run), self.endpoint) for run in runs)
            }
            for row in rows
        ]
        return sorted(set.intersection(*complete)) if complete else []

    def subsets(self, *rows: str) -> list[str]:
        """The subsets that all of these rows have at all of their complete seeds."""
        names: list[str] | None = None
        for row in rows:
            for seed in self.seeds(row):
                measured = self._of_seed(row, seed)
                names = [name for name in names if name in measured] if names else list(measured)
        return names or []

    def values(self, row: str, subset: str, seeds: Sequence[int]) -> np.ndarray:
        """(S, T, n) values of a subset's words; T transfers, the fewest of the seeds."""
        by_seed = [self._of_seed(row, seed)[subset] for seed in seeds]
        transfers = min(len(values) for values in by_seed)
        return np.stack([values[:transfers] for values in by_seed])

    def _of_seed(self, row: str, seed: int) -> dict[str, np.ndarray]:
        """Subset -> (T, n)."""
        runs = [_values(self.store.run(run), self.endpoint) for run in self.runs[row][seed]]
        return {name: np.stack([values[name] for values in runs]) for name in runs[0]}


@cache
def _values(run: Run, endpoint: Endpoint) -> dict[str, np.ndarray]:
    """Subset -> (n,) values of the words of a run, those without a value left out.

    With several evaluated checkpoints (`evaluate.last`), the means over them.

    {} if the run is not complete, is damaged (the table of the fine-tuned recognizer says so), or
    has no such measure.
    """
    try:
        if run.state().name != "complete":
            return {}
        protocol = PROTOCOLS[read_record(run, StoredProtocol).config.protocol]
        checkpoints = [_predicted_words(run, n) for n in range(run.checkpoints_evaluated())]
        means = {}
        for name in checkpoints[0]:
            values = np.mean(
                [
                    word_values(words[name], endpoint.measure, protocol.normalize)
                    for words in checkpoints
                ],
                axis=0,
            )
            means[name] = values[~np.isnan(values)]
        return means
    except UserError:
        return {}


def _predicted_words(run: Run, earlier: int) -> dict[str, PredictedWords]:
    """Subset -> its words. earlier: number of the checkpoint. Raises UserError for a bad file."""
    subsets, _, labels, predictions, _, scorable = map(np.array, run.predictions(earlier))
    likelihoods = run.negative_log_likelihoods(earlier)
    nll = None if likelihoods is None else np.array(likelihoods)
    words = {}
    for name in dict.fromkeys(subsets.tolist()):
        rows = subsets == name
        words[name] = PredictedWords(
            labels=labels[rows].tolist(),
            predictions=predictions[rows].tolist(),
            scorable=(scorable[rows] == "1").tolist(),
            nll=None if nll is None else nll[rows].tolist(),
        )
    return words


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
    records = [EndpointRecords(endpoint, _runs(rows, endpoint), store) for endpoint in endpoints]
    measured = [one for one in records if any(one.seeds(row) for row in one.runs)]
    if not any(one.endpoint.measure == "nll" for one in measured):
        return ()
    exploratory = sum(one.endpoint.name != primary for one in measured)
    tables = (
        endpoint_table(one, compared, primary=one.endpoint.name == primary, exploratory=exploratory)
        for one in sorted(measured, key=lambda one: one.endpoint.name != primary)
    )
    return tuple(table for table in tables if table is not None)


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

    records: its runs.
    compared: the differences that the experiment declares.
    primary: the experiment declared this endpoint as primary.
    exploratory: the number of exploratory endpoints, for the correction.
    """
    endpoint = records.endpoint
    rows = {name: row for name in records.runs if (row := _row(records, name)) is not None}
    if not rows:
        return None
    level = 0.95 if primary else 1 - 0.05 / max(1, exploratory)
    return EndpointTable(
        name=endpoint.name,
        unit=endpoint.unit,
        description=DESCRIPTIONS[endpoint.measure],
        lower_is_better=endpoint.lower_is_better,
        primary=primary,
        level=level,
        rows=rows,
        differences=tuple(_difference(records, pair, level) for pair in compared),
    )


def _row(records: EndpointRecords, name: str) -> EndpointRow | None:
    seeds = records.seeds(name)
    subsets = records.subsets(name)
    if not seeds or not subsets:
        return None
    values = [records.values(name, subset, seeds) for subset in subsets]  # (S, T, n) each
    weights = average_weights([array.shape[2] for array in values], pooled=False)
    endpoint = records.endpoint
    (estimate,) = bootstrap(
        [array.mean(1) for array in values], weights, paired=False, bounds=endpoint.bounds
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


def _difference(records: EndpointRecords, pair: ComparedRows, level: float) -> EndpointDifference:
    seeds = records.seeds(pair.row, pair.other)
    subsets = records.subsets(pair.row, pair.other)

    def without_numbers(verdict: str) -> EndpointDifference:
        return EndpointDifference(
            row=pair.row,
            other=pair.other,
            reported=pair.reported,
            verdict=verdict,
            seeds=tuple(seeds),
        )

    if not seeds or not subsets:
        return without_numbers("missing")
    both = [
        [records.values(name, subset, seeds).mean(1) for subset in subsets]
        for name in (pair.row, pair.other)
    ]
    if [array.shape for array in both[0]] != [array.shape for array in both[1]]:
        return without_numbers("not comparable")
    differences = [first - second for first, second in zip(*both, strict=True)]
    weights = average_weights([array.shape[1] for array in differences], pooled=False)
    bound = records.endpoint.bounds[1]
    (estimate,) = bootstrap(differences, weights, paired=True, level=level, bounds=(-bound, bound))
    factor = records.endpoint.factor
    detectable = minimum_detectable_difference(estimate, level=level)
    return EndpointDifference(
        row=pair.row,
        other=pair.other,
        reported=pair.reported,
        verdict=_verdict(estimate, pair.reported, records.endpoint),
        seeds=tuple(seeds),
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


def parse_endpoint(name: str) -> Endpoint:
    """The endpoint of a name such as `fine-tuned words`. Raises ValueError."""
    return Endpoint(*split_endpoint(name))
