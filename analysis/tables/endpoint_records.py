"""An endpoint: one measure of one kind of run, and the values of a table's runs on it.

The kind of run is the evaluation of the fine-tuned recognizer, or a probe of the encoder. The
measures are those of `word_values.DESCRIPTIONS`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np

from analysis.tables.word_values import LOWER_IS_BETTER, PredictedWords, word_values
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS, Protocol
from experiments.planning.endpoints import MEASURES, Measure, split_endpoint
from results.records import StoredProtocol, read_record
from results.store import Run, Store

# Row -> seed -> ids of the runs that measure the endpoint: one for each transfer of that seed.
EndpointRuns = Mapping[str, Mapping[int, Sequence[str]]]


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


def parse_endpoint(name: str) -> Endpoint:
    """The endpoint of a name such as `fine-tuned words`. Raises ValueError."""
    return Endpoint(*split_endpoint(name))


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


def _values(run: Run, endpoint: Endpoint) -> dict[str, np.ndarray]:
    """Subset -> (n,) values of the words of a run on an endpoint; {} if it has none."""
    return _values_of_measures(run).get(endpoint.measure, {})


@cache
def _values_of_measures(run: Run) -> dict[Measure, dict[str, np.ndarray]]:
    """Measure -> subset -> (n,) values of the words, those without a value left out.

    All measures come from one reading of the predictions. With several evaluated checkpoints
    (`evaluate.last`), the values are means over them.

    {} if the run is not complete or is damaged (the table of the fine-tuned recognizer says so). A
    measure that the run does not have is left out.
    """
    try:
        if run.state().name != "complete":
            return {}
        protocol = PROTOCOLS[read_record(run, StoredProtocol).config.protocol]
        checkpoints = [_predicted_words(run, n) for n in range(run.checkpoints_evaluated())]
    except UserError:
        return {}
    measured: dict[Measure, dict[str, np.ndarray]] = {}
    for measure in MEASURES:
        with suppress(UserError):
            measured[measure] = {
                name: _mean_values([words[name] for words in checkpoints], measure, protocol)
                for name in checkpoints[0]
            }
    return measured


def _mean_values(
    checkpoints: Sequence[PredictedWords], measure: Measure, protocol: Protocol
) -> np.ndarray:
    """(n,) values of a subset's words, means over checkpoints, those without a value left out.

    Raises UserError if the predictions lack what the measure needs."""
    values = np.mean(
        [word_values(words, measure, protocol.normalize) for words in checkpoints], axis=0
    )
    return np.asarray(values[~np.isnan(values)])


def _predicted_words(run: Run, earlier: int) -> dict[str, PredictedWords]:
    """Subset -> its words. earlier: number of the checkpoint. Raises UserError for a bad file."""
    columns, likelihoods = run.predictions_with_nll(earlier)
    subsets, _, labels, predictions, _, scorable = map(np.array, columns)
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
