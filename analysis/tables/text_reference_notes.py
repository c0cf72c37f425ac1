"""Notes on hidden letters: how many are guessed from the text alone, beside the measured rows."""

from collections.abc import Sequence
from contextlib import suppress

from analysis.tables.endpoint_records import Endpoint
from analysis.tables.measurements import Row
from core.runtime.errors import UserError
from experiments.planning.endpoints import HIDDEN_LETTER_MEASURES
from results.records import StoredTextReferences, read_record
from results.store import Store


def text_reference_notes(
    endpoints: Sequence[Endpoint], rows: Sequence[Row], store: Store
) -> list[str]:
    """A sentence for each probe of hidden letters and each of its test subsets.

    The counts are summed over the runs of all rows and seeds. They differ only where seeds draw
    other training words of the head.

    endpoints: that the runs can have. rows: with their runs. store: the results folder."""
    sources = [one.source for one in endpoints if one.measure in HIDDEN_LETTER_MEASURES]
    return [
        note
        for source in dict.fromkeys(sources)
        for note in _notes_of_probe(source, _runs(source, rows), store)
    ]


def _runs(source: str, rows: Sequence[Row]) -> list[str]:
    """The ids of the runs of a probe. source: its name."""
    runs = [of_seed[source] for row in rows for of_seed in row.probes.values() if source in of_seed]
    return list(dict.fromkeys(runs))


def _notes_of_probe(source: str, runs: Sequence[str], store: Store) -> list[str]:
    sums: dict[str, list[int]] = {}
    for name in runs:
        run = store.run(name)
        with suppress(UserError):  # the endpoints say what is damaged
            if run.state().name != "complete":
                continue
            metrics = read_record(run, StoredTextReferences).metrics
            for subset, counts in metrics.text_reference.items():
                total = sums.setdefault(subset, [0, 0, 0])
                for row, count in enumerate((counts.words, counts.neighbors, counts.most_frequent)):
                    total[row] += count
    return [
        f"{source}: without the image, {100 * neighbors / words:.1f} % of the hidden letters of "
        f"{subset} are guessed from their two neighbors by counts over the head's training words, "
        f"and {100 * most_frequent / words:.1f} % as the most frequent letter."
        for subset, (words, neighbors, most_frequent) in sums.items()
        if words
    ]
