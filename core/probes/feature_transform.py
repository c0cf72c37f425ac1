"""Standardizing and whitening of patch features, with statistics of the training words.

Features of pre-trained encoders are anisotropic: few directions have most of the variance. Heads
that are trained by gradient descent fail on them for that reason alone. A transform makes heads on
different encoders comparable.

Shapes: B words, N patches, D features.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.probes.features import FeatureBatch, WordFeatures, in_order
from core.probes.words import SelectedWords

TransformKind = Literal["plain", "standardized", "whitened"]
# Directions with less than this share of the largest variance are not scaled up.
MIN_VARIANCE = 1e-6


@dataclass(frozen=True)
class FeatureTransform:
    """(features - mean) @ matrix. mean: (D,). matrix: (D, D)."""

    mean: Tensor
    matrix: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., D) float32."""
        return (features - self.mean) @ self.matrix


@dataclass(frozen=True)
class FeatureMoments:
    """Mean (D,) and covariance (D, D) of features, in float64."""

    mean: Tensor
    covariance: Tensor


def patch_moments(features: WordFeatures) -> FeatureMoments:
    """Mean and covariance over all patches of all words. [cls] is left out."""
    count = 0
    total: Tensor | None = None
    products: Tensor | None = None
    for batch in features.batches(in_order(features.words.numbers)):
        patches = batch.features[:, 1:].flatten(0, 1).double()  # (B * N, D)
        count += len(patches)
        total = patches.sum(0) if total is None else total + patches.sum(0)
        squares = patches.T @ patches
        products = squares if products is None else products + squares
    assert total is not None
    assert products is not None
    mean = total / count
    return FeatureMoments(mean, products / count - torch.outer(mean, mean))


def make_transform(kind: TransformKind, moments: FeatureMoments) -> FeatureTransform:
    """The transform of a kind. whitened: by principal components (PCA), which are the new axes."""
    mean = moments.mean
    if kind == "plain":
        return FeatureTransform(
            torch.zeros_like(mean).float(), torch.eye(len(mean)).to(mean.device)
        )
    if kind == "standardized":
        variances = moments.covariance.diagonal()
        matrix = torch.diag(_inverse_deviations(variances))
    else:
        variances, directions = torch.linalg.eigh(moments.covariance)
        matrix = directions * _inverse_deviations(variances)
    return FeatureTransform(mean.float(), matrix.float())


def _inverse_deviations(variances: Tensor) -> Tensor:
    """1 / standard deviation; of a direction without variance that of the least one allowed."""
    least = (MIN_VARIANCE * variances.max()).clamp(min=torch.finfo(torch.float64).tiny)
    return variances.clamp(min=least).rsqrt()


class TransformedFeatures:
    """Features after a transform."""

    def __init__(self, source: WordFeatures, transform: FeatureTransform) -> None:
        self.source = source
        self.transform = transform

    @property
    def words(self) -> SelectedWords:
        """The words."""
        return self.source.words

    @property
    def unreadable(self) -> int:
        """Words that could not be decoded so far."""
        return self.source.unreadable

    def batches(self, order: Iterable[list[int]]) -> Iterator[FeatureBatch]:
        """As `WordFeatures.batches`."""
        for batch in self.source.batches(order):
            yield batch._replace(features=self.transform.apply(batch.features))
