"""McNemar's exact test, also of words in photographs, and Holm's correction for several tests."""

from collections.abc import Sequence

import numpy as np

from analysis.tables.clusters import Clusters, cluster_sums


def mcnemar_exact(first: np.ndarray, second: np.ndarray, clusters: Clusters | None = None) -> float:
    """The two-sided exact p-value of equal accuracy on the same images (McNemar, 1947).

    It is the binomial test on the images that exactly one of two recognizers predicts correctly;
    1 if there are no such images. Covers test images.

    With clusters it is the test of clustered pairs, whose statistic is the sum over photographs of
    won minus lost images (Obuchowski, Statistics in Medicine 17, 1998, as modified by Yang, Sun and
    Hardin, Biometrical Journal 52, 2010; Durkalski et al., Statistics in Medicine 22, 2003, divide
    by the images of each photograph). These papers refer it to a normal distribution whose variance
    is the sum of its squared parts. Here the p-value is exact: under the hypothesis each part has
    either sign with probability 1/2. With one image a photograph it is the test without clusters.

    first, second: (n,) 0 or 1 for each image.
    clusters: (n,) the photograph of each image; None: images are independent.

    Raises ValueError if the shapes differ.
    """
    from scipy.special import bdtr

    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} images cannot be paired")
    if clusters is not None:
        return _sign_test(cluster_sums(first.astype(int) - second.astype(int), clusters))
    only_first = int((first > second).sum())
    only_second = int((second > first).sum())
    both = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), both, 0.5)))


def _sign_test(parts: np.ndarray) -> float:
    """The probability that a sum with random signs is as far from 0 as this one, or farther.

    The distribution is that of the sum of the signed parts: for each size of parts a binomial
    distribution on a grid, and all of them convolved.

    parts: (G,) whole numbers.
    """
    from scipy.special import gammaln

    differences = np.rint(parts).astype(int)
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    distribution = np.ones(1)  # of the number of units in positive parts: 0, 1, ...
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        positive = np.arange(count + 1)
        log_choices = gammaln(count + 1) - gammaln(positive + 1) - gammaln(count - positive + 1)
        of_size = np.zeros(size * count + 1)
        of_size[::size] = np.exp(log_choices - count * np.log(2))
        distribution = np.convolve(distribution, of_size)
    total = len(distribution) - 1  # the sum of all sizes
    distances = np.abs(2 * np.arange(total + 1) - total)
    as_far = distances >= abs(int(differences.sum()))
    return min(1.0, float(distribution[as_far].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for multiple tests (Holm, 1979), in the order given.

    The result equals that of statsmodels' `multipletests`, which collects garbage at every call
    (0.1 s).
    """
    order = np.argsort(p_values)
    corrected = np.empty(len(order))
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.maximum.accumulate(np.asarray(p_values)[order] * factors).clip(max=1)
    return [float(value) for value in corrected]
