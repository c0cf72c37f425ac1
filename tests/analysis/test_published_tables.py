"""The published results give the numbers and verdicts of their stored tables."""

import csv
import io
from pathlib import Path

import pytest

from analysis.tables.planned import recorded_tables
from analysis.tables.render import FORMATS
from experiments.planning.planner import make_plan
from results.provenance import REPOSITORY
from results.store import Store

TABLES = [
    path
    for scale in ("former_mini", "mini")
    for path in sorted((REPOSITORY / "results/published" / scale / "tables").glob("*.csv"))
]
SOURCES_OF_VERSION_0_1 = {"ledger": "training cost"}  # `source` in the stored tables
TEXT_COLUMNS = ("why",)  # words may change


def numbers_and_verdicts(text: str) -> list[dict[str, str]]:
    """All lines of a table's CSV without columns of free text."""
    lines = []
    for line in csv.DictReader(io.StringIO(text)):
        source = line["source"]
        kept = {name: value for name, value in line.items() if name not in TEXT_COLUMNS}
        lines.append(kept | {"source": SOURCES_OF_VERSION_0_1.get(source, source)})
    return lines


def test_all_published_tables_are_compared() -> None:
    assert len(TABLES) == 7 + 5


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_published_results_give_the_stored_numbers_and_verdicts(path: Path) -> None:
    name, scale, _ = path.name.split(".")
    experiment = REPOSITORY / "experiments" / f"{name}.yaml"
    store = Store(path.parent.parent)
    _, (table,) = recorded_tables(
        lambda seeds: make_plan(
            [experiment], scale, store, precision=lambda: "bf16", overrides={}, seeds=seeds
        ),
        store,
    )
    recomputed = numbers_and_verdicts(FORMATS["csv"]([table.content]))
    assert recomputed == numbers_and_verdicts(path.read_text(encoding="utf-8"))
