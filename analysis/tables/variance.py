"""Components of a row's variance: pre-training seed, transfer seed, choice of test words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VarianceComponents:
    """Standard deviations in the endpoint's unit.

    pretraining: between pre-training seeds, without the part that transfers cause. With one
        transfer for each seed it contains that part.
    transfer: between transfers of one pre-trained encoder; None with one transfer for each seed.
    words: of one seed's mean, due to the choice of test words.
    """

    pretraining: float
    transfer: float | None
    words: float


def variance_components(
    subsets: Sequence[np.ndarray], weights: np.ndarray, factor: float
) -> VarianceComponents:
    """The components of the weighted mean over subsets (analysis of variance, nested).

    subsets: for each subset the values (S, T, n) of n words under S seeds with T transfers each.
    weights: (K,) of the subsets.
    factor: from the values' unit to the result's.
    """
    means = np.tensordot(
        weights, np.array([values.mean(2) for values in subsets]), axes=1
    )  # (S, T)
    seeds, transfers = means.shape
    between_transfers = float(means.var(axis=1, ddof=1).mean()) if transfers > 1 else 0.0
    between_seeds = float(means.mean(1).var(ddof=1)) if seeds > 1 else 0.0
    pretraining = max(0.0, between_seeds - between_transfers / transfers)
    words = sum(
        weight**2 * float(values.mean((0, 1)).var()) / values.shape[2]
        for weight, values in zip(weights, subsets, strict=True)
    )
    return VarianceComponents(
        pretraining=round(factor * pretraining**0.5, 4),
        transfer=round(factor * between_transfers**0.5, 4) if transfers > 1 else None,
        words=round(factor * words**0.5, 4),
    )
