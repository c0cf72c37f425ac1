"""Differences between rows on the same images and seeds: interval, power, tests and verdict."""

from collections.abc import Sequence

from analysis.tables.content import McNemarTest, PairedComparison, PercentEstimate, RowComparison
from analysis.tables.intervals import average_weights, bootstrap
from analysis.tables.measurements import TableRecords
from analysis.tables.power import minimum_detectable_difference
from analysis.tables.significance import holm, mcnemar_exact
from analysis.tables.verdicts import difference_verdict, size_verdict

SIGNIFICANCE_LEVEL = 0.05


def compared_pairs(records: TableRecords) -> list[tuple[int, int]]:
    """(row, the row it is compared with), as the experiment declares them; both are numbers."""
    names = [row.name for row in records.rows]
    return [
        (number, names.index(other))
        for number, row in enumerate(records.rows)
        for other in row.compare_with
    ]


def compare_rows(
    records: TableRecords,
    number: int,
    other: int,
    subsets: Sequence[str],
    reported: float | None,
    *,
    judge_size: bool,
    fewer_subsets: bool = False,
) -> RowComparison:
    """Row `number` minus row `other`.

    records: the runs of all rows.
    number, other: the two rows.
    subsets: those that both rows have.
    reported: the difference of the paper's Avg, in percent; None if there is none.
    judge_size: both rows are comparable with the paper, so the size is judged too.
    fewer_subsets: one of the rows has more subsets than `subsets`; the result names them.
    """
    first = records.rows[number].name
    second = records.rows[other].name
    seeds = tuple(records.seeds_of(number, other))

    def without_numbers(verdict: str, why: str) -> RowComparison:
        return RowComparison(
            row=first, other=second, reported=reported, verdict=verdict, why=(why,), seeds=seeds
        )

    if not seeds:
        missing = [records.rows[row].name for row in (number, other) if not records.measured[row]]
        why = f"no complete run of {' and '.join(missing)}" if missing else "no common seed"
        return without_numbers("missing", why)
    evaluations = records.measured[number]
    other_evaluations = records.measured[other]
    if all(evaluations[seed].run_id == other_evaluations[seed].run_id for seed in seeds):
        return without_numbers("same runs", "at this scale both rows consist of the same runs")
    if mismatch := _mismatch(records, number, other, subsets, seeds):
        return without_numbers("not comparable", mismatch)

    values = [
        records.values(number, name, seeds) - records.values(other, name, seeds) for name in subsets
    ]
    images = [array.shape[1] for array in values]
    weightings = [average_weights(images, pooled=pooled) for pooled in (False, True)]
    clusters = [records.clusters(number, name) for name in subsets]
    average, weighted_average = bootstrap(values, *weightings, paired=True, clusters=clusters)
    detectable = minimum_detectable_difference(average)
    return PairedComparison(
        row=first,
        other=second,
        reported=reported,
        verdict=difference_verdict(average, reported),
        why=(f"over {', '.join(subsets)}, which both have",) if fewer_subsets else (),
        seeds=seeds,
        subsets=tuple(subsets),
        average=PercentEstimate.of(average),
        weighted_average=PercentEstimate.of(weighted_average),
        detectable=round(100 * detectable, 4) if detectable < 1 else None,
        size=size_verdict(average, reported) if judge_size else "",
        mcnemar={seed: _mcnemar(records, number, other, subsets, seed) for seed in seeds},
    )


def _mismatch(
    records: TableRecords, number: int, other: int, subsets: Sequence[str], seeds: Sequence[int]
) -> str:
    """Why the images of two rows cannot be paired; empty if they can."""
    if not subsets:
        return "data: no subset was evaluated for both"
    for seed in seeds:
        first = records.measured[number][seed]
        second = records.measured[other][seed]
        if (first.protocol, first.labels) != (second.protocol, second.labels):
            protocols = f"{first.protocol} ({first.labels} labels)"
            return f"protocol: {protocols} and {second.protocol} ({second.labels} labels)"
        for name in subsets:
            same_data = first.data[name] == second.data[name]
            if not same_data or first.counts[name][1] != second.counts[name][1]:
                return f"data: the two rows have different images of {name}"
    return ""


def _mcnemar(
    records: TableRecords, number: int, other: int, subsets: Sequence[str], seed: int
) -> dict[str, McNemarTest]:
    """Subset -> McNemar's test at one seed, corrected for the number of subsets."""
    first = records.measured[number][seed].correct
    second = records.measured[other][seed].correct
    corrected = holm(
        [
            mcnemar_exact(first[name], second[name], records.clusters(number, name))
            for name in subsets
        ]
    )
    return {
        name: McNemarTest(
            won=int((first[name] > second[name]).sum()),
            lost=int((first[name] < second[name]).sum()),
            p=float(f"{p:.4g}"),
        )
        for name, p in zip(subsets, corrected, strict=True)
    }
