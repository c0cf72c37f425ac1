"""Distributions of the draws of guidance views: batched, and image by image."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import stats
from view_pairs import MEDIUM

from analysis.bench import per_image
from analysis.bench.per_image import FIXED, JITTER, draw_one
from core.runtime.seeds import generator
from core.views.guidance import OPERATIONS, sample_draws

pytestmark = pytest.mark.slow

DRAWS = 10_000
P_VALUE = 1e-3  # below it, distributions are considered different
Values = dict[str, np.ndarray]  # name -> (DRAWS, ...)
Quantity = Callable[[Values], np.ndarray]


@cache
def batched_draws() -> Values:
    """Batched draws; whether an operation was chosen is named "OPERATION chosen"."""
    draws = sample_draws(MEDIUM, DRAWS, generator=generator("statistics"))
    values = {name: value.numpy() for name, value in vars(draws).items() if name != "chosen"}
    chosen = {f"{name} chosen": value.numpy() for name, value in draws.chosen.items()}
    return values | chosen


@cache
def per_image_draws() -> Values:
    """The same from draws for single images."""
    random = np.random.default_rng(0)
    draws = [draw_one(random) for _ in range(DRAWS)]
    names = draws[0].keys() - {"chosen"}
    values = {name: np.array([dict(drawn)[name] for drawn in draws]) for name in sorted(names)}
    chosen = {
        f"{name} chosen": np.array([drawn["chosen"][name] for drawn in draws])
        for name in OPERATIONS
    }
    return values | chosen


def named(name: str) -> Quantity:
    return lambda values: values[name]


SCALARS = (
    "angle",
    "sigma",
    "alpha",
    "lightness",
    "contrast",
    "threshold",
    "gray",
    "saturation",
    "hue",
    "jitter_contrast",
    "brightness",
)
SINGLE: dict[str, Quantity] = {
    "cut from the top": lambda values: values["crop"][:, 0],
    "cut from the bottom": lambda values: values["crop"][:, 1],
    "cut from the left": lambda values: values["crop_sides"][:, 0],
    "cut from the right": lambda values: values["crop_sides"][:, 1],
    "first corner, along": lambda values: values["inward"][:, 0, 0],
    "first point, along": lambda values: values["shifts"][:, 0, 0, 0],
    "last point, across": lambda values: values["shifts"][:, 1, 3, 3],
} | {name: named(name) for name in SCALARS}
# Of several values, or of values whose deviation is drawn for each image.
COMBINED: dict[str, Quantity] = {
    "cut from top and bottom": lambda values: values["crop"].sum(1),
    "cut from left and right": lambda values: values["crop_sides"].sum(1),
    "third corner, across": lambda values: values["inward"][:, 2, 1],
    "corners' mean": lambda values: values["inward"].mean((1, 2)),
    "corners' largest": lambda values: values["inward"].max((1, 2)),
    "points' deviation": lambda values: values["shifts"].std((1, 2, 3)),
    "points' deviation, across to along": lambda values: (
        values["shifts"][:, 1].std((1, 2)) / values["shifts"][:, 0].std((1, 2))
    ),
}


@pytest.mark.parametrize("name", [*SINGLE, *COMBINED])
def test_a_drawn_quantity_has_the_distribution_of_single_images(name: str) -> None:
    quantity = (SINGLE | COMBINED)[name]
    test = stats.ks_2samp(quantity(batched_draws()), quantity(per_image_draws()))
    assert test.pvalue > P_VALUE


def test_the_number_of_operations_has_the_distribution_of_single_images() -> None:
    counts = []
    for values in (batched_draws(), per_image_draws()):
        chosen = sum(values[f"{name} chosen"].astype(int) for name in OPERATIONS)
        counts.append(np.bincount(chosen, minlength=11))
    assert not any(count[:3].any() for count in counts)
    assert stats.chi2_contingency([count[3:] for count in counts]).pvalue > P_VALUE


@pytest.mark.parametrize(
    "event", [*(f"{name} chosen" for name in OPERATIONS), "jittered", "grayed"]
)
def test_an_event_is_as_frequent_as_for_single_images(event: str) -> None:
    happened = [int(values[event].sum()) for values in (batched_draws(), per_image_draws())]
    table = [happened, [DRAWS - count for count in happened]]
    assert stats.chi2_contingency(table).pvalue > P_VALUE


@pytest.mark.parametrize("draws", [batched_draws, per_image_draws])
def test_draws_of_different_quantities_are_uncorrelated(draws: Callable[[], Values]) -> None:
    values = draws()
    quantities = [quantity(values) for quantity in SINGLE.values()]
    quantities += [values[name] for name in ("jittered", "grayed", "blur chosen")]
    correlations = np.corrcoef(quantities) - np.eye(len(quantities))
    assert np.abs(correlations).max() < 4.5 / DRAWS**0.5


def test_the_fixed_order_names_every_operation_once() -> None:
    assert sorted(FIXED) == sorted([*OPERATIONS, *JITTER])
    assert set(per_image.OPERATIONS) == set(OPERATIONS)
