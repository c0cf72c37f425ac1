"""Simulated differences between two recognizers, for tests of intervals and of power."""

import numpy as np

from analysis.tables.intervals import average_weights

EQUAL_WEIGHTS = average_weights([1, 1, 1], pooled=False)  # of three subsets
ADVANTAGE = 0.3  # of the first recognizer, in logits
DIFFICULTY_SPREAD = 2.0  # of images, in logits
CHANCE_SPREAD = 0.5  # of single predictions, in logits


def sigmoid(value: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-value)))


def simulate_differences(
    random: np.random.Generator,
    seeds: int,
    images: int,
    between: float,
    subsets: int = 3,
    advantage: float = ADVANTAGE,
) -> list[np.ndarray]:
    """For each subset the paired differences (seeds, images) of two recognizers: -1, 0 or 1.

    random: source of the random numbers.
    seeds: number of seeds.
    images: images of each subset, of random difficulty.
    between: standard deviation of a recognizer's ability between seeds, in logits.
    subsets: number of subsets.
    advantage: of the first recognizer, in logits.
    """
    differences = []
    first, second = random.normal(0, between, (2, seeds, 1))
    for _ in range(subsets):
        difficulty = random.normal(0, DIFFICULTY_SPREAD, images)
        chance = random.normal(0, CHANCE_SPREAD, (2, seeds, images))
        first_share = sigmoid(difficulty + first + advantage + chance[0])
        second_share = sigmoid(difficulty + second + chance[1])
        first_correct = (random.random((seeds, images)) < first_share).astype(int)
        differences.append(first_correct - (random.random((seeds, images)) < second_share))
    return differences


def true_difference(between: float, advantage: float = ADVANTAGE) -> float:
    """The expected difference, from a million images and seeds."""
    random = np.random.default_rng(99)
    difficulty = random.normal(0, DIFFICULTY_SPREAD, 10**6)
    first, second = random.normal(0, between, (2, 10**6))
    chance = random.normal(0, CHANCE_SPREAD, (2, 10**6))
    first_share = sigmoid(difficulty + first + advantage + chance[0])
    second_share = sigmoid(difficulty + second + chance[1])
    return float((first_share - second_share).mean())
