"""Agreement of endpoints: how well one endpoint ranks encoders as another one does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.tables.endpoint_content import EndpointTable
from core.runtime.errors import UserError
from experiments.planning.endpoints import DEFAULT_ENDPOINT

FEWEST_POINTS = 3  # a rank correlation of fewer points is not computed


@dataclass(frozen=True)
class AgreementPoint:
    """The values of two endpoints for one row at one seed."""

    row: str
    seed: int
    value: float
    reference: float


@dataclass(frozen=True)
class EndpointAgreement:
    """An endpoint against a reference endpoint.

    points: one for each row and seed that both endpoints have.
    correlation: Spearman's rank correlation of the two, with the sign that makes +1 the same order
        from worst to best; None with fewer than FEWEST_POINTS points, or if all values are equal.
    """

    endpoint: EndpointTable
    reference: EndpointTable
    points: tuple[AgreementPoint, ...]
    correlation: float | None


def endpoint_agreements(
    endpoints: Sequence[EndpointTable],
) -> dict[str, tuple[EndpointAgreement, ...]]:
    """Name of a reference -> its agreement with each other endpoint.

    The references are the primary endpoint and the word accuracy of fine-tuning, if measured.
    Raises UserError if there is no reference, or no other endpoint."""
    references = [
        endpoint for endpoint in endpoints if endpoint.primary or endpoint.name == DEFAULT_ENDPOINT
    ]
    if not references or len(endpoints) < 2:
        raise UserError("agreement needs the primary endpoint and another one with complete runs")
    return {
        reference.name: tuple(
            _agreement(endpoint, reference)
            for endpoint in endpoints
            if endpoint.name != reference.name
        )
        for reference in references
    }


def _agreement(endpoint: EndpointTable, reference: EndpointTable) -> EndpointAgreement:
    points = tuple(
        AgreementPoint(name, seed, value, reference.rows[name].by_seed[seed])
        for name, row in endpoint.rows.items()
        if name in reference.rows
        for seed, value in row.by_seed.items()
        if seed in reference.rows[name].by_seed
    )
    same_direction = endpoint.lower_is_better == reference.lower_is_better
    correlation = _rank_correlation(points)
    if correlation is not None and not same_direction:
        correlation = -correlation
    return EndpointAgreement(endpoint, reference, points, correlation)


def _rank_correlation(points: Sequence[AgreementPoint]) -> float | None:
    from scipy.stats import spearmanr

    values = np.array([(point.value, point.reference) for point in points])
    if len(points) < FEWEST_POINTS or (np.ptp(values, axis=0) == 0).any():
        return None
    return float(spearmanr(values[:, 0], values[:, 1]).statistic)


def agreement_table(agreements: Sequence[EndpointAgreement]) -> pd.DataFrame:
    """One line for each endpoint: rank correlation with the reference, and number of points."""
    lines = [
        {
            "endpoint": agreement.endpoint.name,
            "reference": agreement.reference.name,
            "Spearman's rank correlation": format_correlation(agreement.correlation),
            "points": len(agreement.points),
        }
        for agreement in agreements
    ]
    return pd.DataFrame(lines)


def format_correlation(correlation: float | None) -> str:
    """With two digits and its sign; `–` if there is none."""
    return "–" if correlation is None else f"{correlation:+.2f}".replace("-", "−")
