"""Repairs of the alignment loss: values and gradients against references in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from core.model.alignment_losses import (
    ema_alignment,
    epps_pulley,
    info_nce,
    mean_squared_cosine,
    normalized_alignment,
    predictor_alignment,
    random_directions,
    sigreg_alignment,
    uniformity_alignment,
    vicreg_alignment,
)
from core.runtime.seeds import generator

IMAGES = 5
WIDTH = 4
STEP = 1e-5  # of finite differences

Array = np.ndarray
Reference = Callable[[Array, Array], float]
DIRECTIONS = random_directions(WIDTH, 3, generator(7))


def distance(first: Array, second: Array) -> float:
    return float(((first - second) ** 2).mean())


def rows_of_length_1(values: Array) -> Array:
    return np.stack([row / np.sqrt((row**2).sum()) for row in values])


def normalized_reference(first: Array, second: Array) -> float:
    def normalize(row: Array) -> Array:
        return np.asarray((row - row.mean()) / np.sqrt(row.var() + 1e-5))

    return distance(np.stack([*map(normalize, first)]), np.stack([*map(normalize, second)]))


def vicreg_reference(first: Array, second: Array) -> float:
    total = 25 * distance(first, second)
    for view in (first, second):
        deviations = np.sqrt(view.var(axis=0, ddof=1) + 1e-4)
        total += 25 * float(np.maximum(0, 1 - deviations).mean())
        covariance = np.cov(view.T)
        pairs = [(i, j) for i in range(WIDTH) for j in range(WIDTH) if i != j]
        total += sum(covariance[pair] ** 2 for pair in pairs) / WIDTH
    return total


def statistic_reference(samples: Array, knots: int, bound: float) -> float:
    """Epps-Pulley of one sample, with the trapezoidal rule from -bound to bound."""
    points = np.linspace(-bound, bound, 2 * knots - 1)
    function = np.exp(1j * samples[:, None] * points).mean(axis=0)
    gaps = np.abs(function - np.exp(-(points**2) / 2)) ** 2
    return float(len(samples) * np.trapezoid(gaps * np.exp(-(points**2) / 2), points))


def sigreg_reference(first: Array, second: Array) -> float:
    directions = DIRECTIONS.double().numpy().T
    statistics = [
        statistic_reference(view @ direction, 17, 3)
        for view in (first, second)
        for direction in directions
    ]
    return 0.98 * distance(first, second) + 0.02 * float(np.mean(statistics))


def uniformity_reference(first: Array, second: Array) -> float:
    cosines = [
        float(unit[i] @ unit[j])
        for unit in map(rows_of_length_1, (first, second))
        for i in range(IMAGES)
        for j in range(IMAGES)
        if i != j
    ]
    return distance(first, second) + 0.01 * float(np.mean(np.square(cosines)))


def info_nce_reference(first: Array, second: Array) -> float:
    cosines = rows_of_length_1(first) @ rows_of_length_1(second).T / 0.2
    chances = [np.exp(row[i]) / np.exp(row).sum() for i, row in enumerate(cosines)]
    chances += [np.exp(row[i]) / np.exp(row).sum() for i, row in enumerate(cosines.T)]
    return float(-np.log(chances).mean())


Case = tuple[Callable[[Tensor, Tensor], Tensor], Reference]
CASES: dict[str, Case] = {
    "normalized": (normalized_alignment, normalized_reference),
    "vicreg": (lambda x, y: vicreg_alignment(x, y, 25, 25, 1), vicreg_reference),
    "sigreg": (lambda x, y: sigreg_alignment(x, y, DIRECTIONS, 0.02, 17, 3), sigreg_reference),
    "uniformity": (lambda x, y: uniformity_alignment(x, y, 0.01), uniformity_reference),
    "infonce": (lambda x, y: info_nce(x, y, 0.2), info_nce_reference),
}


def two_views(scale: float = 0.8) -> tuple[Array, Array]:
    """Features whose standard deviations lie on both sides of VICReg's hinge."""
    first = scale * torch.randn(IMAGES, WIDTH, generator=generator(1))
    second = first + 0.5 * torch.randn(IMAGES, WIDTH, generator=generator(2))
    return first.double().numpy(), second.double().numpy()


def gradients_by_differences(function: Reference, first: Array, second: Array) -> list[Array]:
    """The gradient for both arguments by central differences."""
    gradients = []
    for number, values in enumerate((first, second)):
        gradient = np.zeros_like(values)
        for index in np.ndindex(values.shape):
            sides = []
            for sign in (1, -1):
                moved = [first.copy(), second.copy()]
                moved[number][index] += sign * STEP
                sides.append(function(*moved))
            gradient[index] = (sides[0] - sides[1]) / (2 * STEP)
        gradients.append(gradient)
    return gradients


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_those_of_the_formula(name: str) -> None:
    loss, reference = CASES[name]
    arrays = two_views()
    tensors = [torch.tensor(values, dtype=torch.float32).requires_grad_() for values in arrays]
    value = loss(*tensors)
    assert value.item() == pytest.approx(reference(*arrays), rel=1e-4)
    expected = gradients_by_differences(reference, *arrays)
    for actual, gradient in zip(torch.autograd.grad(value, tensors), expected, strict=True):
        np.testing.assert_allclose(actual.numpy(), gradient, rtol=1e-3, atol=1e-4)


def test_both_sides_of_the_hinge_are_tested() -> None:
    deviations = two_views()[0].std(axis=0, ddof=1)
    assert deviations.min() < 1 < deviations.max()


def test_a_predictor_is_trained_and_its_targets_are_detached() -> None:
    values = [torch.randn(IMAGES, WIDTH, generator=generator(n)).requires_grad_() for n in range(4)]
    cls, guidance_cls, predicted, guidance_predicted = values
    loss = predictor_alignment(*values)
    arrays = [value.detach().double().numpy() for value in values]

    def reference(first: Array, second: Array) -> float:
        pairs = ((first, arrays[1]), (second, arrays[0]))
        cosines = [(rows_of_length_1(x) * rows_of_length_1(y)).sum(axis=1) for x, y in pairs]
        return 1 - float(np.mean(cosines))

    assert loss.item() == pytest.approx(reference(*arrays[2:]), rel=1e-5)
    trained = torch.autograd.grad(loss, [predicted, guidance_predicted], retain_graph=True)
    expected = gradients_by_differences(reference, *arrays[2:])
    for actual, gradient in zip(trained, expected, strict=True):
        np.testing.assert_allclose(actual.numpy(), gradient, rtol=1e-3, atol=1e-4)
    detached = torch.autograd.grad(loss, [cls, guidance_cls], allow_unused=True)
    assert all(gradient is None for gradient in detached)


def test_the_teacher_gets_no_gradient_and_the_student_that_of_eq_3() -> None:
    first, second = (torch.tensor(x, dtype=torch.float32).requires_grad_() for x in two_views())
    loss = ema_alignment(first, second)
    gradient, of_teacher = torch.autograd.grad(loss, [first, second], allow_unused=True)
    torch.testing.assert_close(gradient, 2 * (first - second).detach() / first.numel())
    assert of_teacher is None


def test_the_statistic_equals_its_integral_for_many_knots() -> None:
    samples = np.array([-1.3, 0.2, 0.4, 2.0])

    def integrand(point: float) -> float:
        gap = np.exp(1j * samples * point).mean() - np.exp(-(point**2) / 2)
        return float(abs(gap) ** 2 * np.exp(-(point**2) / 2))

    expected = len(samples) * quad(integrand, -3, 3)[0]
    statistic = epps_pulley(torch.tensor(samples)[:, None], 2000, 3.0)
    assert statistic.shape == (1,)
    assert statistic.item() == pytest.approx(expected, rel=1e-4)


def test_a_normal_sample_has_a_smaller_statistic_than_a_collapsed_one() -> None:
    normal = torch.randn(500, 8, generator=generator(3))
    statistics = {
        name: epps_pulley(values, 17, 3.0).mean().item()
        for name, values in {
            "normal": normal,
            "narrow": 0.1 * normal,
            "shifted": normal + 2,
            "collapsed": torch.zeros(500, 8),
        }.items()
    }
    assert statistics["normal"] < 2
    assert min(statistics["narrow"], statistics["shifted"], statistics["collapsed"]) > 50


def test_directions_have_length_1_and_follow_from_the_generator() -> None:
    first, same, other = (random_directions(6, 9, generator(seed)) for seed in (0, 0, 1))
    torch.testing.assert_close(first.norm(dim=0), torch.ones(9))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_mean_squared_cosine_is_1_for_one_direction_and_0_for_orthogonal_ones() -> None:
    line = torch.tensor([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0]])
    assert mean_squared_cosine(line).item() == pytest.approx(1)
    assert mean_squared_cosine(torch.eye(3)).item() == pytest.approx(0)


@pytest.mark.parametrize("name", ["vicreg", "sigreg", "uniformity", "infonce"])
def test_a_repair_prefers_different_images_to_a_collapse(name: str) -> None:
    loss, _ = CASES[name]
    spread = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator(4)))[0] * WIDTH**0.5
    collapsed = spread[:1].expand(WIDTH, -1)
    assert loss(spread, spread) < loss(collapsed, collapsed)
