"""The results of a card: accuracies of evaluations and measures of probes, with intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.cards.lineage import CardRuns, RecordedRoot, RecordedRun, fingerprints
from analysis.tables.clusters import (
    Photographs,
    count_photographs,
    design_effect,
    photo_clusters,
)
from analysis.tables.endpoint_records import Endpoint, EndpointRecords
from analysis.tables.intervals import (
    Estimate,
    average_weights,
    bootstrap,
    mean_accuracy,
    wilson,
)
from analysis.tables.word_values import DESCRIPTIONS
from core.runtime.errors import UserError
from experiments.planning.endpoints import measures_of
from results.records import StoredEvaluation, StoredReadings, read_record
from results.store import Store

AVG = "Avg (mean over test sets)"
W_AVG = "W-Avg (over all images)"


@dataclass(frozen=True)
class SubsetAccuracy:
    """The accuracy on one test set, or an average.

    name: of the test set.
    estimate: in [0, 1], with the interval of the choice of test images.
    correct, images: counts; None for an average.
    roots: the data.
    """

    name: str
    estimate: Estimate
    correct: int | None = None
    images: int | None = None
    roots: Sequence[RecordedRoot] = ()


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation: its readings, and an accuracy for each test set and average.

    photographs: of the test sets whose words are clusters in the intervals.
    """

    run: RecordedRun
    readings: StoredReadings
    subsets: tuple[SubsetAccuracy, ...]
    averages: tuple[SubsetAccuracy, ...]
    photographs: Photographs

    @property
    def w_avg(self) -> float:
        """The accuracy over all images, in [0, 1]."""
        counts = self.readings.counts.values()
        return sum(one.correct for one in counts) / sum(one.images for one in counts)


def evaluation_result(run: RecordedRun) -> EvaluationResult:
    """The accuracies of an evaluation. Raises UserError for a damaged record."""
    stored = read_record(run.run, StoredEvaluation)
    counts = stored.metrics.counts
    effects, photographs = _photo_effects(run)
    subsets = tuple(
        SubsetAccuracy(
            name,
            wilson(one.correct, one.images, effects.get(name, 1.0)),
            one.correct,
            one.images,
            run.roots[name],
        )
        for name, one in counts.items()
    )
    averages: tuple[SubsetAccuracy, ...] = ()
    if len(counts) > 1:
        correct = [one.correct for one in counts.values()]
        images = [one.images for one in counts.values()]
        of_subsets = [effects.get(name, 1.0) for name in counts]
        averages = tuple(
            SubsetAccuracy(
                name,
                mean_accuracy(correct, images, average_weights(images, pooled=pooled), of_subsets),
            )
            for name, pooled in ((AVG, False), (W_AVG, True))
        )
    return EvaluationResult(run, stored.metrics, subsets, averages, photographs)


def _photo_effects(run: RecordedRun) -> tuple[dict[str, float], Photographs]:
    """Subset -> design effect of its photographs, and their numbers.

    Only of the subsets that name their photographs, if it is recorded which words are correct."""
    correct = run.run.correct() or {}
    named = {name: photo_clusters(photos) for name, photos in run.run.photos().items()}
    clusters = {
        name: numbers
        for name, numbers in named.items()
        if numbers is not None and len(correct.get(name, ())) == len(numbers)
    }
    effects = {name: design_effect(correct[name], clusters[name]) for name in clusters}
    return effects, count_photographs(clusters)


@dataclass(frozen=True)
class ProbeMeasure:
    """One measure of a probe: the mean over its test sets, with the interval over their words."""

    run: RecordedRun
    endpoint: Endpoint
    estimate: Estimate
    words: int

    @property
    def description(self) -> str:
        """What is measured."""
        return DESCRIPTIONS[self.endpoint.measure]


def probe_measures(runs: CardRuns) -> list[ProbeMeasure]:
    """The measures of all probes of a model. A probe without readable predictions has none."""
    return [measure for probe in runs.probes for measure in _measures(probe, runs.store)]


def _measures(run: RecordedRun, store: Store) -> Iterator[ProbeMeasure]:
    head = run.probe.head.kind
    for measure in measures_of(head):
        endpoint = Endpoint(head, measure)
        records = EndpointRecords(endpoint, {"": {0: [run.id]}}, store)
        subsets = records.subsets("")
        values = [records.values("", subset, [0]).mean(1) for subset in subsets]  # (1, n) each
        if not values or not all(array.size for array in values):
            continue
        weights = average_weights([array.shape[1] for array in values], pooled=False)
        (estimate,) = bootstrap(values, weights, paired=False, bounds=endpoint.bounds)
        yield ProbeMeasure(run, endpoint, estimate, sum(array.shape[1] for array in values))


def sibling_accuracies(runs: CardRuns, result: EvaluationResult) -> dict[str, float]:
    """Run -> W-Avg in [0, 1] of the same recipe with another seed, on the same test images.

    result: of the model, for the config and the data of the test."""
    found: dict[str, float] = {}
    siblings = {sibling.id for sibling in runs.siblings}
    for path in sorted((runs.store.root / "runs").glob("evaluate-*/record.json")):
        run = RecordedRun(runs.store.run(path.parent.name), {})
        try:
            record = run.run.record()
            other = RecordedRun(run.run, record)
            if other.inputs.get("recognizer") in siblings and _same_test(other, result.run):
                found[other.inputs["recognizer"]] = evaluation_result(other).w_avg
        except UserError:
            continue  # a damaged record of another run; tables name it
    return found


def _same_test(run: RecordedRun, other: RecordedRun) -> bool:
    """Whether two evaluations have the same images, labels and scoring."""
    return run.config == other.config and fingerprints(run) == fingerprints(other)
