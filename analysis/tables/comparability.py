"""Whether a row can be compared with the paper's row."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from analysis.tables.measurements import MeasuredEvaluation
from core.text.protocols import PROTOCOLS
from results.reported import METRICS, reported_table

if TYPE_CHECKING:
    from analysis.tables.table import Table


def deviations_from_paper(table: "Table", number: int) -> list[str]:
    """Why row `number` cannot be compared with the paper's row; [] if it can.

    A table without numbers of the paper has a scale, data and a recipe, but no protocol to deviate
    from. Each text starts with `scale`, `data`, `recipe` or `protocol`, and a colon.
    """
    return list(dict.fromkeys(_deviations(table, number)))


def _deviations(table: "Table", number: int) -> Iterator[str]:
    if table.scale != "paper":
        yield f"scale: {table.scale}"
    if table.substitute_synthetic:
        yield "data: synthetic words in place of the paper's data"
    if table.overrides:
        yield "recipe: settings of the command line"
    for deviation in table.rows[number].deviations:
        yield f"data: {deviation}"
    if table.paper_table is None:
        return
    protocol = METRICS[reported_table(table.paper_table).benchmark]
    for evaluation in table.measured[number].values():
        if evaluation.protocol != protocol:
            yield f"protocol: {evaluation.protocol}, not {protocol}"
        if not table.substitute_synthetic:
            known = PROTOCOLS[protocol].sizes
            sizes = {name: known[name] for name in table.paper_columns() if name in known}
            yield from _test_set_deviations(evaluation, sizes)


def _test_set_deviations(evaluation: MeasuredEvaluation, sizes: Mapping[str, int]) -> Iterator[str]:
    """Test subsets that are missing or have another size than the paper's."""
    for name, size in sizes.items():
        _, images = evaluation.counts.get(name, (0, 0))
        if not images:
            yield f"data: {name} was not evaluated"
        elif images != size:
            yield f"data: {name} has {images:,} images, not {size:,}"
