"""Differences between rows: paired on the same images and seeds, with intervals, power, tests and a verdict."""

from collections.abc import Sequence
from typing import Any

from analysis.tables.intervals import (
    Estimate,
    average_weights,
    bootstrap,
    holm,
    mcnemar_exact,
    minimum_detectable_difference,
    percent,
)
from analysis.tables.measurements import Records

RULE = (
    "Verdict on a difference of Avg, at any scale: `holds` where the paired interval excludes 0 on the side that the paper "
    "reports, `reversed` where it excludes 0 on the other, `undecided` where it holds 0; `higher` or `lower` where the paper "
    "reports none. `detectable` is the true difference that such a comparison finds in 80 of 100 cases, if 100 points suffice."
)


def pairs(records: Records) -> list[tuple[int, int]]:
    """(row, the row it is compared with), as the experiment says."""
    names = [row.name for row in records.rows]
    return [
        (number, names.index(other))
        for number, row in enumerate(records.rows)
        for other in row.against
    ]


def comparison(
    records: Records,
    number: int,
    other: int,
    subsets: Sequence[str],
    paper: float | None,
    *,
    like_the_paper: bool,
) -> dict[str, Any]:
    """Row `number` minus row `other` over subsets that both have, in percent, as a table's content has it.

    paper: the difference of the reported Avg. like_the_paper: both rows may be compared with the paper's, so that the size of
    the difference is judged too."""
    first, second = records.rows[number], records.rows[other]
    entry: dict[str, Any] = {"row": first.name, "other": second.name, "reported": paper}
    seeds = records.seeds_of(number, other)
    if not seeds:
        blocked_experiments = [
            records.rows[row].name for row in (number, other) if not records.measured[row]
        ]
        why = (
            f"no complete run of {' and '.join(blocked_experiments)}"
            if blocked_experiments
            else "no common seed"
        )
        return entry | {"verdict": "missing", "why": [why]}
    entry["seeds"] = seeds
    if all(
        records.measured[number][seed].run == records.measured[other][seed].run for seed in seeds
    ):
        return entry | {
            "verdict": "same runs",
            "why": ["at this scale the two rows are one and the same"],
        }
    if deviations := _unlike(records, number, other, subsets, seeds):
        return entry | {"verdict": "not comparable", "why": [deviations]}
    values = [
        records.values(number, name, seeds) - records.values(other, name, seeds) for name in subsets
    ]
    images = [one.shape[1] for one in values]
    estimate, pooled = bootstrap(
        values, *(average_weights(images, pooled=kind) for kind in (False, True)), paired=True
    )
    entry |= {"subsets": list(subsets), "Avg": percent(estimate), "W-Avg": percent(pooled)}
    least = minimum_detectable_difference(estimate)
    entry["detectable"] = round(100 * least, 4) if least < 1 else None
    entry["verdict"] = _direction(estimate, paper)
    if paper is not None and like_the_paper:
        entry["size"] = (
            "reproduced" if 100 * estimate.low <= paper <= 100 * estimate.high else "differs"
        )
    return entry | {
        "mcnemar": {str(seed): _mcnemar(records, number, other, subsets, seed) for seed in seeds}
    }


def _unlike(
    records: Records, number: int, other: int, subsets: Sequence[str], seeds: Sequence[int]
) -> str:
    """Why two rows' images cannot be paired, or nothing."""
    if not subsets:
        return "data: no subset was evaluated for both"
    for seed in seeds:
        one, two = records.measured[number][seed], records.measured[other][seed]
        if (one.protocol, one.labels) != (two.protocol, two.labels):
            return f"protocol: {one.protocol} ({one.labels} labels) and {two.protocol} ({two.labels} labels)"
        for name in subsets:
            if (one.data[name], one.counts[name][1]) != (two.data[name], two.counts[name][1]):
                return f"data: {name} has other images in one row than in the other"
    return ""


def _direction(estimate: Estimate, paper: float | None) -> str:
    if not estimate.excludes_zero():
        return "undecided"
    if not paper:
        return "higher" if estimate.value > 0 else "lower"
    return "holds" if (estimate.value > 0) == (paper > 0) else "reversed"


def _mcnemar(
    records: Records, number: int, other: int, subsets: Sequence[str], seed: int
) -> dict[str, dict[str, float]]:
    """Subset -> images that only the first (`won`) or only the other (`lost`) reads at one seed, and the exact p-value (`p`),
    corrected for the number of subsets (Holm). It covers test images."""
    one, two = records.measured[number][seed].correct, records.measured[other][seed].correct
    corrected = holm([mcnemar_exact(one[name], two[name]) for name in subsets])
    return {
        name: {
            "won": int((one[name] > two[name]).sum()),
            "lost": int((one[name] < two[name]).sum()),
            "p": float(f"{p:.4g}"),
        }
        for name, p in zip(subsets, corrected, strict=True)
    }
