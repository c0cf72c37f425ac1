"""The ridge classifier: its solution, the choice of the ridge, the temperature."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from core.probes.ridge import choose_ridge, fit_ridge, fit_temperature, ridge_sums


def _rows(count: int, features: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(count)
    values = torch.randn(count, features, generator=source, dtype=torch.float64)
    return values, torch.randint(0, classes, (count,), generator=source)


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 2.0])
def test_the_solution_equals_the_normal_equations_in_numpy(ridge: float) -> None:
    features, classes = _rows(50, 6, 3)
    classifier = fit_ridge(ridge_sums(features, classes, 3), ridge)
    centered = features.numpy() - features.numpy().mean(0)
    targets = np.eye(3)[classes.numpy()]
    penalty = ridge * centered.var(0).mean() * len(centered)
    weights = np.linalg.solve(
        centered.T @ centered + penalty * np.eye(6), centered.T @ (targets - targets.mean(0))
    )
    scores = centered @ weights + targets.mean(0)
    np.testing.assert_allclose(classifier.weights.numpy(), weights, rtol=1e-9)
    np.testing.assert_allclose(classifier.scores(features).numpy(), scores, atol=1e-12)


def test_the_sums_of_parts_give_the_solution_of_the_whole() -> None:
    features, classes = _rows(40, 5, 4)
    whole = fit_ridge(ridge_sums(features, classes, 4), 0.1)
    parts = [ridge_sums(features[rows], classes[rows], 4) for rows in (slice(15), slice(15, None))]
    divided = fit_ridge(parts[0] + parts[1], 0.1)
    torch.testing.assert_close(divided.weights, whole.weights)
    torch.testing.assert_close(divided.bias, whole.bias)


def test_separable_classes_are_classified_without_error() -> None:
    classes = torch.arange(300) % 6
    source = torch.Generator().manual_seed(0)
    features = functional.one_hot(classes, 6).float() @ torch.randn(6, 12, generator=source)
    features += 0.01 * torch.randn(300, 12, generator=source)
    classifier = fit_ridge(ridge_sums(features[:200], classes[:200], 6), 1e-3)
    assert bool((classifier.scores(features[200:]).argmax(1) == classes[200:]).all())


def test_the_best_ridge_on_held_out_rows_is_chosen_and_the_largest_of_equal_ones() -> None:
    source = torch.Generator().manual_seed(3)
    classes = torch.randint(0, 3, (260,), generator=source)
    noise = torch.randn(260, 60, generator=source)
    features = noise + 1.2 * functional.one_hot(classes, 60)
    held_out = [(features[60:], classes[60:])]
    choice = choose_ridge(ridge_sums(features[:60], classes[:60], 3), (1e-6, 1.0, 1e5), held_out)
    best = max(choice.accuracies.values())
    assert choice.ridge == max(r for r, value in choice.accuracies.items() if value == best)
    assert choice.accuracies[1e-6] < best


def test_the_temperature_has_the_least_cross_entropy() -> None:
    source = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(4000, 5, generator=source, dtype=torch.float64)
    classes = torch.multinomial(logits.softmax(1), 1, generator=source)[:, 0]
    assert fit_temperature(logits * 0.05, classes) == pytest.approx(0.05, rel=0.1)
    fitted = fit_temperature(logits * 0.05, classes)
    losses = [
        float(functional.cross_entropy(logits * 0.05 / (fitted * factor), classes))
        for factor in (0.9, 1.0, 1.1)
    ]
    assert losses[1] == min(losses)


def test_a_class_without_training_rows_gets_finite_scores() -> None:
    features, classes = _rows(30, 4, 3)
    classifier = fit_ridge(ridge_sums(features, classes, 5), 0.01)
    assert bool(classifier.scores(features).isfinite().all())
    assert classifier.scores(features).shape == (30, 5)
