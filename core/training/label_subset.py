"""The words of a label fraction: seeded, nested, and stratified by the length of the label."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from core.config import LabelSubset
from core.runtime.seeds import derive_seed


def labeled_subset(lengths: Mapping[int, int], subset: LabelSubset, seed: int) -> list[int]:
    """Numbers of the words to train on, in ascending order: the first ones of `stratified_order`.

    lengths: number of a usable word -> length of its label.
    subset: how many words.
    seed: of the run.
    """
    order = stratified_order(lengths, seed)
    chosen: list[int] = np.sort(order[: subset.size(len(order))]).tolist()
    return chosen


def stratified_order(lengths: Mapping[int, int], seed: int) -> NDArray[np.int64]:
    """(n,) numbers of all words, in the order in which subsets take them.

    The words of each length are shuffled. A word's rank, as a share of the words of its length, is
    its priority; the words with the lowest priorities come first. So the first words have the
    lengths of the whole in proportion, and a smaller subset is contained in a larger one.

    lengths: number of a usable word -> length of its label.
    seed: of the run.
    """
    numbers = np.fromiter(lengths.keys(), np.int64, len(lengths))
    length_of = np.fromiter(lengths.values(), np.int64, len(lengths))
    random = np.random.default_rng(derive_seed(seed, "label subset"))
    priority = np.empty(len(numbers))
    for length in np.unique(length_of):
        (members,) = np.nonzero(length_of == length)
        ranks = random.permutation(len(members))
        priority[members] = (ranks + random.random()) / len(members)
    ordered: NDArray[np.int64] = numbers[np.argsort(priority, kind="stable")]
    return ordered
