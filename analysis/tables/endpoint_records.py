"""An endpoint: one measure of one kind of run, and the values of a table's runs on it.

The kind of run is the evaluation of the fine-tuned recognizer, or a probe of the encoder. The
measures are those of `word_values.DESCRIPTIONS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from analysis.tables.word_values import LOWER_IS_BETTER, PredictedWords, word_values
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.planning.endpoints import Measure, split_endpoint
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
