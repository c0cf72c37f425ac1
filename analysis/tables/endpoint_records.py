"""An endpoint: one measure of one kind of run, and the values of a table's runs on it.

The kind of run is the evaluation of the fine-tuned recognizer, or a probe of the encoder. The
measures are those of `word_values.DESCRIPTIONS`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from analysis.tables.clusters import Clusters, photo_clusters
from analysis.tables.word_values import LOWER_IS_BETTER, PredictedWords, word_values
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.planning.endpoints import (
    HIDDEN_LETTER_MEASURES,
    MEASURES,
    RANDOM_LETTERS,
    Measure,
    split_endpoint,
)
from results.records import StoredScoredWords, read_record
from results.store import MOVE_FOLDER, Run, Store

# Row -> seed -> ids of the runs that measure the endpoint: one for each transfer of that seed.
EndpointRuns = Mapping[str, Mapping[int, Sequence[str]]]
CACHED_TEXTS = 1 << 16  # normalized texts in memory
SCORED_BY_PROTOCOL: frozenset[Measure] = frozenset({"words", "cer"})


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
        if self.measure == "language_use":
            return (-1.0, 1.0)
        return (0.0, np.inf) if self.measure in LOWER_IS_BETTER else (0.0, 1.0)

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value is the better one."""
        return self.measure in LOWER_IS_BETTER


def parse_endpoint(name: str) -> Endpoint:
    """The endpoint of a name such as `fine-tuned words`. Raises ValueError."""
    return Endpoint(*split_endpoint(name))


@dataclass(frozen=True)
class MeasuredWords:
    """The words of one subset that have a value in a run.

    values: (n,) one for each of these words.
    numbers: (n,) their numbers in the subset. A word without a value is not among them.
    data: contents of the subset's roots: fingerprints of their words, and of boxes if the run read
        them.
    protocol: by which the run's predictions are scored.
    photos: (n,) names of the photos of these words; None if the run stored none.
    """

    values: np.ndarray
    numbers: np.ndarray
    data: tuple[str, ...]
    protocol: str
    photos: np.ndarray | None = None


def pairing_problem(words: Sequence[MeasuredWords], subset: str, measure: Measure) -> str:
    """Why values cannot be paired word by word; empty if they can.

    words: of several runs on the same subset.
    subset: its name.
    measure: of which the values are.
    """
    for other in words[1:]:
        first = words[0]
        if first.data != other.data:
            return f"data: the runs have different images, labels or boxes of {subset}"
        if measure in SCORED_BY_PROTOCOL and first.protocol != other.protocol:
            return f"protocol: {first.protocol} and {other.protocol}"
        if not np.array_equal(first.numbers, other.numbers):
            counts = f"{len(first.numbers):,} and {len(other.numbers):,}"
            return f"words: the runs have values of different words of {subset} ({counts} words)"
    return ""


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

    def has_nll(self) -> bool:
        """Whether any run has likelihoods; reads only the first line of its predictions."""
        return any(
            self.store.run(run).has_nll()
            for of_row in self.runs.values()
            for runs in of_row.values()
            for run in runs
        )

    def seeds(self, *rows: str) -> list[int]:
        """The seeds at which all of these rows have complete runs."""
        complete = [
            {
                seed
                for seed, runs in self.runs.get(row, {}).items()
                if runs and all(_words(self.store.run(run), self.endpoint) for run in runs)
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
                known = list(measured) if names is None else names
                names = [name for name in known if name in measured]
        return names or []

    def words(self, row: str, subset: str, seeds: Sequence[int]) -> list[MeasuredWords]:
        """The measured words of a subset in each run of a row: of all seeds and transfers."""
        return [words for seed in seeds for words in self._of_seed(row, seed)[subset]]

    def pairing_problem(self, *rows: str) -> str:
        """Why the runs of these rows cannot be paired word by word; empty if they can.

        The runs are those of the seeds that all of the rows have."""
        seeds = self.seeds(*rows)
        for subset in self.subsets(*rows):
            words = [of_run for row in rows for of_run in self.words(row, subset, seeds)]
            if problem := pairing_problem(words, subset, self.endpoint.measure):
                return problem
        return ""

    def clusters(self, row: str, subset: str) -> Clusters | None:
        """(n,) the photo of each word of a row's subset; None if words are independent.

        Of runs with the same words, those that stored no photos use those of the others."""
        first = self.words(row, subset, self.seeds(row)[:1])[0]
        for words in self._words_with_photos.get((subset, *first.data), ()):
            if words.photos is not None and np.array_equal(words.numbers, first.numbers):
                return photo_clusters(words.photos.tolist())
        return None

    @cached_property
    def _words_with_photos(self) -> dict[tuple[str, ...], list[MeasuredWords]]:
        """A subset and its data -> words with stored photos, once for each choice of words."""
        found: dict[tuple[str, ...], list[MeasuredWords]] = {}
        for row in self.runs:
            for seed in self.seeds(row):
                for subset, of_transfers in self._of_seed(row, seed).items():
                    for words in of_transfers:
                        known = found.setdefault((subset, *words.data), [])
                        if words.photos is not None and not any(
                            np.array_equal(words.numbers, other.numbers) for other in known
                        ):
                            known.append(words)
        return found

    def photographs(self) -> dict[str, tuple[int, int]]:
        """Subset -> (photographs, words), for the subsets whose words are taken as clusters."""
        found = {}
        for row in self.runs:
            for subset in self.subsets(row):
                if (clusters := self.clusters(row, subset)) is not None:
                    found[subset] = (int(clusters.max()) + 1, len(clusters))
        return found

    def values(self, row: str, subset: str, seeds: Sequence[int]) -> np.ndarray:
        """(S, T, n) values of a subset's words; T transfers, the fewest of the seeds.

        The runs of the row have no `pairing_problem`."""
        by_seed = [self._of_seed(row, seed)[subset] for seed in seeds]
        transfers = min(len(of_seed) for of_seed in by_seed)
        return np.stack([[words.values for words in of_seed[:transfers]] for of_seed in by_seed])

    def _of_seed(self, row: str, seed: int) -> dict[str, list[MeasuredWords]]:
        """Subset -> the words of each transfer, for the subsets that all transfers have."""
        runs = [_words(self.store.run(run), self.endpoint) for run in self.runs[row][seed]]
        common = [name for name in runs[0] if all(name in of_run for of_run in runs)]
        return {name: [of_run[name] for of_run in runs] for name in common}


def _words(run: Run, endpoint: Endpoint) -> dict[str, MeasuredWords]:
    """Subset -> the words of a run that have a value on an endpoint; {} if it has none."""
    return _words_of_measures(run).get(endpoint.measure, {})


@cache
def _words_of_measures(run: Run) -> dict[Measure, dict[str, MeasuredWords]]:
    """Measure -> subset -> the words that have a value.

    All measures come from one reading of the predictions. With several evaluated checkpoints
    (`evaluate.last`), the values are means over them.

    {} if the run is not complete or is damaged (the table of the fine-tuned recognizer says so). A
    measure that the run does not have is left out.
    """
    try:
        if run.state().name != "complete":
            return {}
        record = read_record(run, StoredScoredWords)
        checkpoints = _all_predictions(run)
        photos = _photos(run, checkpoints[-1])
    except UserError:
        return {}
    measured: dict[Measure, dict[str, MeasuredWords]] = {}
    for measure in MEASURES:
        with suppress(UserError):
            subsets = {
                name: _measured_words(
                    [of_one[name] for of_one in checkpoints],
                    measure,
                    name,
                    record,
                    photos.get(name),
                )
                for name in checkpoints[0]
            }
            if measure in HIDDEN_LETTER_MEASURES:
                subsets = _of_hidden_letters(measure, subsets, checkpoints[-1])
            measured[measure] = subsets
    return measured


def _of_hidden_letters(
    measure: Measure,
    subsets: Mapping[str, MeasuredWords],
    predictions: Mapping[str, "_Predictions"],
) -> dict[str, MeasuredWords]:
    """Subset -> its values on a measure of hidden letters.

    Args:
        measure: Of `HIDDEN_LETTER_MEASURES`.
        subsets: Subset -> whether the letter is right.
        predictions: Of a checkpoint, for the hidden letters.

    Raises:
        UserError: A word has no random letters of equal look.
    """
    words = {name: measured for name, measured in subsets.items() if name != RANDOM_LETTERS}
    if measure == "in_words":
        return words
    if RANDOM_LETTERS not in subsets:
        raise UserError(f"no subset {RANDOM_LETTERS}")
    random = subsets[RANDOM_LETTERS]
    if measure == "in_random_letters":
        return {RANDOM_LETTERS: random}
    if len(words) != 1:
        raise UserError(f"{RANDOM_LETTERS} need one subset of words to be compared with")
    (name,) = words
    if (
        not np.array_equal(words[name].numbers, random.numbers)
        or predictions[name].words.labels != predictions[RANDOM_LETTERS].words.labels
    ):
        raise UserError(f"{name} and {RANDOM_LETTERS} have other hidden letters")
    difference = words[name].values - random.values
    data = (*words[name].data, *random.data)
    photos = words[name].photos
    return {name: MeasuredWords(difference, random.numbers, data, random.protocol, photos)}


def _measured_words(
    checkpoints: Sequence["_Predictions"],
    measure: Measure,
    subset: str,
    record: StoredScoredWords,
    photos: np.ndarray | None,
) -> MeasuredWords:
    """The words of a subset that have a value, with means over checkpoints.

    Args:
        checkpoints: The predictions of each checkpoint for the same words.
        measure: What to measure.
        subset: The subset's name.
        record: Of the run.
        photos: The photo of each word, if the run stored them.

    Raises:
        UserError: The predictions lack what the measure needs.
    """
    protocol = PROTOCOLS[record.config.protocol]
    normalize = _cached_normalization(protocol.name)
    values = np.mean(
        [word_values(of_one.words, measure, normalize) for of_one in checkpoints], axis=0
    )
    known = ~np.isnan(values)
    return MeasuredWords(
        values=values[known],
        numbers=checkpoints[0].numbers[known],
        data=tuple(root.content for root in record.data.get(subset, ())),
        protocol=protocol.name,
        photos=None if photos is None else photos[known],
    )


@cache
def _cached_normalization(protocol: str) -> Callable[[str], str]:
    """The normalization of a protocol; all runs of a table have the same labels."""
    return lru_cache(CACHED_TEXTS)(PROTOCOLS[protocol].normalize)


class _Predictions(NamedTuple):
    """The predictions of one checkpoint for the words of a subset."""

    numbers: np.ndarray  # (n,) of the words
    words: PredictedWords


def _all_predictions(run: Run) -> list[dict[str, _Predictions]]:
    """For each evaluated checkpoint: subset -> its predictions.

    Raises UserError for a bad file, or if the checkpoints have other words."""
    checkpoints = [_predictions(run, number) for number in range(run.checkpoints_evaluated())]
    for earlier in checkpoints[1:]:
        has_same_words = earlier.keys() == checkpoints[0].keys() and all(
            np.array_equal(earlier[name].numbers, last.numbers)
            for name, last in checkpoints[0].items()
        )
        if not has_same_words:
            raise UserError(f"{run.folder}: predictions of other words; {MOVE_FOLDER}")
    return checkpoints


def _photos(run: Run, predictions: Mapping[str, _Predictions]) -> dict[str, np.ndarray]:
    """Subset -> (n,) names of the photos of its words. Raises UserError if they are of others."""
    photos = {name: np.array(names) for name, names in run.photos().items()}
    for name, names in photos.items():
        if name not in predictions or len(names) != len(predictions[name].numbers):
            raise UserError(f"{run.folder}: photos.json has other words; {MOVE_FOLDER}")
    return photos


def _predictions(run: Run, earlier: int) -> dict[str, _Predictions]:
    """Subset -> its predictions. earlier: number of the checkpoint. Raises UserError."""
    columns, likelihoods = run.predictions_with_nll(earlier)
    subsets, numbers, labels, predictions, _, scorable = map(np.array, columns)
    nll = None if likelihoods is None else np.array(likelihoods)
    by_subset = {}
    for name in dict.fromkeys(subsets.tolist()):
        rows = subsets == name
        words = PredictedWords(
            labels=labels[rows].tolist(),
            predictions=predictions[rows].tolist(),
            scorable=(scorable[rows] == "1").tolist(),
            nll=None if nll is None else nll[rows].tolist(),
        )
        by_subset[name] = _Predictions(numbers[rows], words)
    return by_subset
