"""Words of one photograph as clusters: sums over them, their design effect, and their note.

Words of a photograph share font, light and camera, so they tend to be right or wrong together. An
interval that takes them as independent is too narrow. Where a test set names its photographs, the
bootstrap draws photographs. A word whose photograph is unknown is a cluster alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Clusters = NDArray[np.int64]  # (n,) number of the photograph of each word, from 0


def photo_clusters(names: Sequence[str]) -> Clusters | None:
    """The photographs of n words as numbers; None if every word has a photograph of its own.

    names: (n,) of the photographs; empty where it is unknown.
    """
    keys = [name if name else position for position, name in enumerate(names)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(numbers) == len(keys):
        return None
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def sizes_of(clusters: Clusters) -> NDArray[np.int64]:
    """(G,) words of each cluster."""
    return np.bincount(clusters)


def cluster_sums(values: ArrayLike, clusters: Clusters) -> np.ndarray:
    """(..., n) values -> (..., G) sums over the words of each cluster."""
    numbers = np.asarray(values, float)
    rows = numbers.reshape(-1, numbers.shape[-1])
    sums = [np.bincount(clusters, weights=row) for row in rows]
    return np.array(sums).reshape(*numbers.shape[:-1], len(sums[0]))


def design_effect(values: ArrayLike, clusters: Clusters | None) -> float:
    """How many times the variance of a mean is that of as many independent words (Kish, 1965).

    The variance over clusters is that of the ratio of two sums, linearized (Cochran, Sampling
    Techniques, 1977, section 6.3). It is 1 if each cluster has one word, or all values are equal.
    A result below 1 is set to 1: it would be noise, as words of a photograph are alike.

    values: (n,) of the words. clusters: of the words; None: each word is one.
    """
    numbers = np.asarray(values, float)
    variance = numbers.var()
    if clusters is None or not variance:
        return 1.0
    sums = cluster_sums(numbers - numbers.mean(), clusters)
    words = len(numbers)
    photos = len(sums)
    if photos == 1:
        return float(words)  # one photograph is one observation
    of_clusters = photos / (photos - 1) * float(sums @ sums) / words**2
    of_words = float(variance) / (words - 1)
    return max(1.0, of_clusters / of_words)


Photographs = Mapping[str, tuple[int, int]]  # subset -> (photographs, words)


def count_photographs(clusters: Mapping[str, Clusters]) -> dict[str, tuple[int, int]]:
    """Subset -> (photographs, words) of its clusters."""
    return {name: (len(sizes_of(numbers)), len(numbers)) for name, numbers in clusters.items()}


def listed_photographs(photographs: Photographs) -> str:
    """The numbers of photographs as text."""
    return ", ".join(
        f"{name} {words:,} words of {photos:,} photographs".strip()
        for name, (photos, words) in photographs.items()
    )


def cluster_note(photographs: Photographs) -> str:
    """Says that the intervals of a table took clusters, how, and how many."""
    return (
        "Words of one photograph are not independent; clusters are photographs: "
        f"{listed_photographs(photographs)}. There the bootstrap draws photographs (Field and "
        "Welsh, 2007), Wilson's and Agresti and Coull's intervals are widened by the design effect "
        "(Kish, 1965; Korn and Graubard, 1998), and McNemar's test exchanges both rows in whole "
        "photographs (Yang, Sun and Hardin, 2010)."
    )


def score_note(photographs: Photographs) -> str:
    """Says that the intervals of a score took clusters, how, and how many."""
    return (
        "words of one photograph are not independent; clusters are photographs: "
        f"{listed_photographs(photographs)}; Wilson's interval is widened by the design effect "
        "(Kish, 1965; Korn and Graubard, 1998)"
    )
