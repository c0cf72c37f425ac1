"""The results of a sweep: the best trial with an interval and its differences to other trials."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from analysis.tables.intervals import Estimate, average_weights, bootstrap, mean_accuracy
from core.runtime.errors import UserError
from results.records import StoredRun, StoredValidation, read_record
from results.store import Store
from sweeps.engine.search import Search
from sweeps.engine.status import SweepStatus, TrialStatus, sweep_status
from sweeps.engine.trials import Trials

COMMIT_DIGITS = 12


@dataclass(frozen=True)
class ReportedInterval:
    """A value with its 95 % interval, as shares in [-1, 1].

    covers: the variance that the interval covers.
    """

    value: float
    low: float
    high: float
    covers: str

    @classmethod
    def from_estimate(cls, estimate: Estimate | None) -> "ReportedInterval | None":
        if estimate is None:
            return None
        covers = estimate.covers.replace("test images", "validation images")
        return cls(estimate.value, estimate.low, estimate.high, covers)

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class BaseRowComparison:
    """The best trial's accuracy minus that of the trial with the base row's values.

    trial: number of the trial with the base row's values.
    difference: None if one of the trials has no stored results by image.
    """

    trial: int
    difference: ReportedInterval | None


@dataclass(frozen=True)
class ValidationSet:
    """A data set that the best trial is validated on."""

    root: str
    fingerprint: str
    images: int


@dataclass(frozen=True)
class BestTrialSources:
    """Where the best trial's values come from.

    runs: ids of its training runs.
    commits: commits of the code that computed them.
    validation: the validation sets.
    hours: the time of the runs.
    """

    runs: tuple[str, ...]
    commits: tuple[str, ...]
    validation: tuple[ValidationSet, ...]
    hours: float


@dataclass(frozen=True)
class SweepReport:
    """The content of `report.json`.

    status: the sweep and its trials; at least one is complete.
    estimate: the best trial's objective; None if no interval can be computed.
    first: the comparison with the base row; None if the best trial has the base row's values, or
        if no trial has them.
    trace: where the best trial's values come from.
    compared: numbers of the complete trials that the best one is compared with, image by image.
    undecided: those of them whose difference to the best trial has an interval that contains 0.
    note: a difference between the sweep file and the sweep that was run; "" if there is none.
    """

    status: SweepStatus
    estimate: ReportedInterval | None
    first: BaseRowComparison | None
    trace: BestTrialSources
    undecided: tuple[int, ...]
    compared: tuple[int, ...]
    note: str = ""

    @property
    def best(self) -> TrialStatus:
        best = self.status.best_trial
        assert best is not None
        return best

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        del content["status"]
        return self.status.as_json() | content


def find_trials(trials: Trials) -> tuple[Trials, str]:
    """The sweep as it was run, and a note if it differs from the sweep file.

    It is the file's sweep, or else the only sweep with the file's name and scale.

    Raises UserError if there is no such sweep, or if there are several.
    """
    search = trials.search
    if trials.exists():
        return Trials(Search.from_json(trials.description()), trials.store, trials.url), ""
    pattern = f"{search.name}.{search.scale}-*/sweep.json"
    others = sorted(path.parent.name for path in trials.folder.parent.glob(pattern))
    if len(others) != 1:
        advice = f"sweeps there: {', '.join(others)}" if others else "run the sweep file first"
        raise UserError(f"{trials.folder}: this sweep has not been run; {advice}")
    stored = Trials(replace(search, id=others[0]), trials.store, trials.url).description()
    other = Trials(Search.from_json(stored), trials.store, trials.url)
    other.check_storage()
    note = f"run as {others[0]}, with other data or settings than this file's ({search.id})"
    return other, note


def make_report(trials: Trials, note: str = "") -> SweepReport:
    """The report of a sweep. Raises UserError if no trial is complete."""
    store = trials.store
    status = sweep_status(trials)
    best = status.best_trial
    if best is None:
        raise UserError(
            f"{trials.folder}: no trial is complete yet; run the sweep again to continue it"
        )
    differences = {
        trial.number: ReportedInterval.from_estimate(
            difference(best, trial, status.objective, store)
        )
        for trial in status.complete
        if trial is not best
    }
    known = {number: interval for number, interval in differences.items() if interval is not None}
    return SweepReport(
        status=status,
        estimate=ReportedInterval.from_estimate(estimate_of(best, status.objective, store)),
        first=_compare_with_base_row(trials.search, status, differences),
        trace=_sources(best, store),
        undecided=tuple(number for number, interval in known.items() if not interval.excludes_zero),
        compared=tuple(known),
        note=note,
    )


def _compare_with_base_row(
    search: Search, status: SweepStatus, differences: Mapping[int, ReportedInterval | None]
) -> BaseRowComparison | None:
    first = status.complete[0]
    if search.base_values is None or first.values != search.base_values:
        return None
    if first.number == status.best:
        return None
    return BaseRowComparison(first.number, differences[first.number])


def correct_by_root(trial: TrialStatus, store: Store) -> list[np.ndarray] | None:
    """For each validation root, whether each image is recognized correctly: (seeds, images).

    None if a run has no stored results by image, or if the seeds have different images.
    """
    stored = [store.run(run).validation() for run in trial.recognizers.values()]
    seeds = [roots for roots in stored if roots]
    if len(seeds) < len(stored):
        return None
    shapes = {tuple((name, len(correct)) for name, correct in roots.items()) for roots in seeds}
    if len(shapes) != 1:
        return None
    return [np.stack([roots[name] for roots in seeds]) for name in seeds[0]]


def estimate_of(trial: TrialStatus, objective: str, store: Store) -> Estimate | None:
    """The objective of a complete trial with its interval, in [0, 1].

    None if there are several seeds without stored results by image.
    """
    correct = correct_by_root(trial, store)
    if correct is not None:
        return bootstrap(correct, _weights(correct, objective), paired=False)[0]
    runs = [store.run(run) for run in trial.recognizers.values()]
    if len(runs) > 1:
        return None
    metrics = read_record(runs[0], StoredValidation).metrics
    return mean_accuracy([metrics.validation_correct], [metrics.validation_images])


def difference(
    first: TrialStatus, second: TrialStatus, objective: str, store: Store
) -> Estimate | None:
    """The first trial's objective minus the second's, paired by image, in [-1, 1].

    first, second: complete trials.
    objective: a key of OBJECTIVES.
    store: the results folder.

    None unless both trials have stored results for the same images.
    """
    correct_first = correct_by_root(first, store)
    correct_second = correct_by_root(second, store)
    if correct_first is None or correct_second is None:
        return None
    if [root.shape for root in correct_first] != [root.shape for root in correct_second]:
        return None
    pairs = zip(correct_first, correct_second, strict=True)
    differences = [root.astype(float) - other for root, other in pairs]
    return bootstrap(differences, _weights(differences, objective), paired=True)[0]


def _weights(roots: Sequence[np.ndarray], objective: str) -> np.ndarray:
    images = [root.shape[1] for root in roots]
    return average_weights(images, pooled=objective == "validation_wavg")


def _sources(best: TrialStatus, store: Store) -> BestTrialSources:
    records = {run: store.run(run).record() for run in best.runs}
    recognizer = records[next(iter(best.recognizers.values()))]
    commits = {str(record["code"]["commit"])[:COMMIT_DIGITS] for record in records.values()}
    seconds = sum(read_record(store.run(run), StoredRun).seconds for run in records)
    return BestTrialSources(
        runs=tuple(best.runs),
        commits=tuple(sorted(commits)),
        validation=tuple(
            ValidationSet(root.get("root", ""), root["fingerprint"], root["images"])
            for root in recognizer["data"]["validation"]
        ),
        hours=round(seconds / 3600, 4),
    )
