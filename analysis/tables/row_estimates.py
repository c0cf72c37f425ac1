"""The accuracies of a table's row with intervals, from the evaluations of its seeds."""

from collections.abc import Sequence

import numpy as np

from analysis.tables.clusters import design_effect
from analysis.tables.content import AVERAGES
from analysis.tables.intervals import Estimate, average_weights, bootstrap, mean_accuracy, wilson
from analysis.tables.measurements import TableRecords


def row_estimates(
    records: TableRecords, number: int, columns: Sequence[str], averaged: Sequence[str]
) -> dict[str, Estimate]:
    """Subset, `Avg` and `W-Avg` -> accuracy in [0, 1], mean over the row's seeds.

    {} for a row without a complete evaluation.

    records: the runs of all rows.
    number: the row.
    columns: the subsets of the table.
    averaged: the subsets in Avg and W-Avg.
    """
    measured = records.measured[number]
    if not measured:
        return {}
    evaluated = records.subsets_of(number)
    subsets = [name for name in columns if name in evaluated]
    first = next(iter(measured.values()))
    images = [first.counts[name][1] for name in averaged]
    weightings = [average_weights(images, pooled=pooled) for pooled in (False, True)]
    clusters = {name: records.clusters(number, name) for name in subsets}
    if len(measured) == 1:
        correct = [first.counts[name][0] for name in averaged]
        effects = {name: design_effect(first.correct[name], clusters[name]) for name in subsets}
        of_averaged = [effects[name] for name in averaged]
        estimates = [wilson(*first.counts[name], effects[name]) for name in subsets]
        estimates += [
            mean_accuracy(correct, images, weights, of_averaged) for weights in weightings
        ]
    else:
        values = [records.values(number, name, list(measured)) for name in subsets]
        unit_weights = np.eye(len(subsets))
        positions = [subsets.index(name) for name in averaged]
        of_all_subsets = [unit_weights[positions].T @ weights for weights in weightings]
        estimates = bootstrap(
            values,
            *unit_weights,
            *of_all_subsets,
            paired=False,
            clusters=[clusters[name] for name in subsets],
        )
    return dict(zip((*subsets, *AVERAGES), estimates, strict=True))
