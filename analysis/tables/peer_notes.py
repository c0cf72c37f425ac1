"""The published score of the peer, as a note below tables of the common benchmarks."""

import json
from collections.abc import Iterator, Sequence

from core.peer import NOT_COMPARABLE, PPOCRV6
from results.provenance import REPOSITORY
from results.reported import METRICS

BENCHMARK = "common"
FOLDER = REPOSITORY / "results" / "published" / "peer"


def peer_notes(columns: Sequence[str], benchmark: str) -> Iterator[str]:
    """The peer's accuracy on the subsets of a table that it has read.

    columns: subsets of the table.
    benchmark: of the table; other benchmarks than the common one have no note.
    """
    if benchmark != BENCHMARK:
        return
    protocol = METRICS[benchmark]
    path = FOLDER / "scores" / f"{protocol}.json"
    subsets = json.loads(path.read_text(encoding="utf-8"))["subsets"]
    shown = [
        f"{name} {score['accuracy']:.1f} ({score['images']:,} images)"
        for name, score in subsets.items()
        if name in columns
    ]
    if shown:
        yield (
            f"Reference {PPOCRV6} ({NOT_COMPARABLE}): {', '.join(shown)}; protocol {protocol}, "
            "results/published/peer."
        )
