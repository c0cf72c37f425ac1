"""The rules by which differences and rows get their verdicts.

A difference between two rows varies with the seed, by more than with the choice of test images. So
a verdict on a difference needs an interval that covers seeds: at least two seeds of both rows.
"""

from collections.abc import Sequence

from analysis.tables.intervals import Estimate

ONE_SEED = "one seed: undecided"
ONE_SEED_RULE = (
    "With one seed the interval does not cover the variance between seeds, and the verdict is "
    f"`{ONE_SEED}`."
)
DECIDED_RULE = (
    "Verdict on a difference of Avg, at any scale: `holds` if the paired interval excludes 0 on "
    "the side that the paper reports, `reversed` if it excludes 0 on the opposite side, "
    "`undecided` if it contains 0; `higher` or `lower` if the paper reports no difference. These "
    f"need at least two seeds of both rows. {ONE_SEED_RULE}"
)
UNDECIDED_RULE = (
    "Verdict on a difference of Avg, at any scale: a decision needs at least two seeds of both "
    f"rows. {ONE_SEED_RULE}"
)
DETECTABLE_RULE = (
    "`detectable` is the true difference that such a comparison detects in 80 of 100 cases; "
    "`none` means that 100 points would not be detected."
)
ROW_RULE = (
    "Verdict on a row, by its Avg: `reproduced` if the reported value lies inside our 95 % "
    "interval, `differs` if it lies outside; in brackets the number of seeds. With one seed the "
    "interval covers test images only. Both require scale paper, the paper's protocol, its "
    "test sets and the unchanged recipe of the file. Otherwise `not comparable`, with the reasons. "
    "`missing`: no complete run."
)


def is_one_seed(seeds: Sequence[int]) -> bool:
    """Whether a row, or a difference between two rows, has one seed only.

    seeds: of a difference those that both rows have. A seed is one number for pre-training and
    fine-tuning; further fine-tunings of the same encoder (`transfers`) are no seeds. The seeds of
    a row that starts from a checkpoint file are those of fine-tuning alone.
    """
    return len(seeds) < 2


def difference_rule(seeds: int) -> str:
    """The rule of the verdicts on differences.

    seeds: the highest number of seeds of a difference in the table. With fewer than two the rule
    names no verdict that a reader could take for one of the table's.
    """
    return f"{DECIDED_RULE if seeds > 1 else UNDECIDED_RULE} {DETECTABLE_RULE}"


def difference_verdict(
    estimate: Estimate, reported: float | None, *, names: tuple[str, str] = ("higher", "lower")
) -> str:
    """The verdict on a difference.

    Differences are paired by seed: only seeds that both rows have count. A row with one seed beside
    a row with three has one seed in common at most, so nothing is decided. Without a common seed
    there is no estimate, and the verdict is `missing`.

    estimate: of the difference, counted so that a positive value is the better one.
    reported: the difference of the paper; None or 0 if it reports none.
    names: the verdicts on a positive and on a negative difference that the paper does not report.
    """
    if estimate.seeds < 2:
        return ONE_SEED
    if not estimate.excludes_zero():
        return "undecided"
    positive = estimate.value > 0
    if not reported:
        return names[0] if positive else names[1]
    return "holds" if positive == (reported > 0) else "reversed"


def size_verdict(estimate: Estimate, reported: float | None) -> str:
    """Whether a difference has the reported size; empty if that cannot be judged.

    estimate: in [-1, 1]. reported: in percent, or None.
    """
    if reported is None or estimate.seeds < 2:
        return ""
    return _inside(estimate, reported)


def row_verdict(estimate: Estimate, reported: float) -> tuple[str, str]:
    """The verdict on a row that is comparable with the paper, and what its interval covers.

    estimate: of the row's Avg, in [0, 1]. reported: in percent.
    """
    covered = f"the interval covers {estimate.covers}"
    seeds = "one seed" if estimate.seeds == 1 else f"{estimate.seeds} seeds"
    return _inside(estimate, reported), f"{seeds}: {covered}"


def _inside(estimate: Estimate, reported: float) -> str:
    inside = 100 * estimate.low <= reported <= 100 * estimate.high
    return "reproduced" if inside else "differs"
