"""The ridge classifier: least squares on one-hot targets with a quadratic penalty, in closed form.

Shapes: n rows, F features, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SEARCH_STEPS = 60  # of the temperature


@dataclass(frozen=True)
class RidgeSums:
    """Sums over rows that determine the classifier, in float64. Sums of two sets can be added.

    rows: n.
    features: (F,) sum of the features.
    products: (F, F) sum of their products.
    targets: (K,) rows of each class.
    class_features: (K, F) sum of the features of each class.
    """

    rows: int
    features: Tensor
    products: Tensor
    targets: Tensor
    class_features: Tensor

    def __add__(self, other: "RidgeSums") -> "RidgeSums":
        return RidgeSums(
            self.rows + other.rows,
            self.features + other.features,
            self.products + other.products,
            self.targets + other.targets,
            self.class_features + other.class_features,
        )


def ridge_sums(features: Tensor, classes: Tensor, count: int) -> RidgeSums:
    """The sums of some rows. Products are computed in the precision of `features`.

    features: (n, F). classes: (n,) from 0. count: K."""
    class_features = torch.zeros(
        count, features.shape[1], dtype=torch.float64, device=features.device
    )
    class_features.index_add_(0, classes, features.double())
    return RidgeSums(
        len(features),
        features.sum(0, dtype=torch.float64),
        (features.T @ features).double(),
        torch.bincount(classes, minlength=count).double(),
        class_features,
    )


@dataclass(frozen=True)
class RidgeClassifier:
    """Scores = features @ weights + bias. weights: (F, K). bias: (K,). Both are float64."""

    weights: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """(n, F) -> (n, K) float64."""
        return (features @ self.weights.to(features.dtype)).double() + self.bias


def fit_ridge(sums: RidgeSums, ridge: float) -> RidgeClassifier:
    """The classifier that minimizes the mean squared error plus the penalty.

    The penalty on the weights is `ridge` times the mean variance of the features; the bias has
    none.

    sums: of the training rows. ridge: above 0."""
    mean = sums.features / sums.rows  # (F,)
    target_mean = sums.targets / sums.rows  # (K,)
    covariance = sums.products / sums.rows - torch.outer(mean, mean)  # (F, F)
    cross = sums.class_features.T / sums.rows - torch.outer(mean, target_mean)  # (F, K)
    penalty = ridge * covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    covariance.diagonal().add_(penalty)
    weights = torch.cholesky_solve(cross, torch.linalg.cholesky(covariance))
    return RidgeClassifier(weights, target_mean - mean @ weights)


@dataclass(frozen=True)
class RidgeChoice:
    """The ridge that classifies most held-out rows correctly, and a temperature for its scores.

    ridge: the largest one of those that are equally good.
    temperature: softmax(scores / temperature) has the least cross-entropy on the held-out rows.
    accuracies: share of correct held-out rows for each ridge.
    """

    ridge: float
    temperature: float
    accuracies: dict[float, float]


def choose_ridge(
    sums: RidgeSums, ridges: Sequence[float], held_out: Sequence[tuple[Tensor, Tensor]]
) -> RidgeChoice:
    """Fit each ridge on the training rows and compare them on held-out rows.

    sums: of the training rows, without the held-out ones.
    ridges: to choose from.
    held_out: (features (n, F), classes (n,)) of the held-out rows, in parts."""
    classes = torch.cat([part for _, part in held_out])
    best_scores: Tensor | None = None
    best = 0.0
    accuracies: dict[float, float] = {}
    for ridge in sorted(ridges, reverse=True):
        classifier = fit_ridge(sums, ridge)
        scores = torch.cat([classifier.scores(features) for features, _ in held_out])
        accuracies[ridge] = float((scores.argmax(1) == classes).double().mean())
        if best_scores is None or accuracies[ridge] > accuracies[best]:
            best_scores = scores
            best = ridge
    assert best_scores is not None
    return RidgeChoice(best, fit_temperature(best_scores, classes), accuracies)


def fit_temperature(scores: Tensor, classes: Tensor) -> float:
    """The temperature in [0.001, 10] with the least cross-entropy of softmax(scores / temperature).

    Golden-section search over the logarithm. scores: (n, K). classes: (n,)."""
    low = torch.tensor(1e-3, dtype=torch.float64).log()
    high = torch.tensor(10.0, dtype=torch.float64).log()
    golden = (5**0.5 - 1) / 2

    def loss(logarithm: Tensor) -> float:
        temperature = logarithm.exp().to(scores.device)
        return float(functional.cross_entropy(scores / temperature, classes))

    inner = [high - golden * (high - low), low + golden * (high - low)]
    losses = [loss(value) for value in inner]
    for _ in range(SEARCH_STEPS):
        if losses[0] < losses[1]:
            high = inner[1]
            inner = [high - golden * (high - low), inner[0]]
            losses = [loss(inner[0]), losses[0]]
        else:
            low = inner[0]
            inner = [inner[1], low + golden * (high - low)]
            losses = [losses[1], loss(inner[1])]
    return float(((low + high) / 2).exp())
