"""95 % intervals of accuracies, averages and paired differences, from counts and per-image values.

All functions are pure. Each estimate names the variance that its interval covers.
Shapes: S seeds, K subsets, n images of a subset. Values are 0 (wrong) or 1 (correct), or
differences of these. Words of one photograph are not independent: functions that take `clusters`
(`analysis/tables/clusters.py`) sample photographs in place of words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from analysis.tables.clusters import Clusters, cluster_sums, sizes_of

IMAGES = "test images"
IMAGES_AND_SEEDS = "test images and seeds"
RESAMPLES = 1_000
Z95 = 1.959964  # 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, its standard error and the variance that both cover.

    value, low, high, standard_error: in the unit of the values, usually shares in [0, 1].
    covers: IMAGES, IMAGES_AND_SEEDS, or another sampled unit such as `words`.
    seeds: the number of seeds.
    seed_error: the part of `standard_error` due to the variance between seeds (squares add up).
    degrees: degrees of freedom of `seed_error`; 0 with one seed.
    """

    value: float
    low: float
    high: float
    standard_error: float
    covers: str = IMAGES
    seeds: int = 1
    seed_error: float = 0.0
    degrees: float = 0.0

    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0

    def format(self, digits: int = 1, sign: str = "", times: float = 1.0) -> str:
        """The value and its interval as text, such as `81.0 (72.2 to 87.5)`.

        digits: digits after the decimal point.
        sign: `+` prints a sign before positive numbers too.
        times: a factor; 100 prints a share in percent.
        """
        numbers = (times * number for number in (self.value, self.low, self.high))
        value, low, high = (f"{number:{sign}.{digits}f}" for number in numbers)
        return f"{value} ({low} to {high})"


def wilson(correct: int, images: int, design_effect: float = 1.0) -> Estimate:
    """The share `correct / images` with Wilson's interval (1927). Covers test images.

    With clusters it is the interval of as many independent images as have the same variance (Korn
    and Graubard, Survey Methodology 24, 1998; Dean and Pagano, JSSAM 3, 2015).

    correct, images: counts.
    design_effect: of the clusters (`clusters.design_effect`); 1: images are independent.

    Raises ValueError unless 0 <= correct <= images and images > 0.
    """
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= correct <= images or not images:
        raise ValueError(f"{correct} correct of {images} images is no share")
    low, high = proportion_confint(correct / design_effect, images / design_effect, method="wilson")
    share = correct / images
    error = float(np.sqrt(design_effect * share * (1 - share) / images))
    return Estimate(share, float(low), float(high), error)


def mean_accuracy(
    correct: ArrayLike,
    images: ArrayLike,
    weights: ArrayLike | None = None,
    design_effects: ArrayLike | None = None,
) -> Estimate:
    """The weighted mean of the subsets' accuracies of one recognizer. Covers test images.

    Subsets are independent strata. The variance of each one is that of Agresti and Coull's share
    (two more correct and two more wrong images), so that 0 of n still has a variance. The interval
    of a single subset is Wilson's.

    correct: (K,) correct images of each subset.
    images: (K,) images of each subset.
    weights: (K,) of sum 1; None weighs all subsets equally (Avg).
    design_effects: (K,) of the clusters of each subset; None: images are independent.

    Raises ValueError if a subset is empty.
    """
    hits = np.asarray(correct, float)
    sizes = np.asarray(images, float)
    if not len(sizes) or (sizes < 1).any():
        raise ValueError("every subset needs at least one image")
    effects = np.ones(len(sizes)) if design_effects is None else np.asarray(design_effects, float)
    if len(sizes) == 1:
        return wilson(int(hits[0]), int(sizes[0]), float(effects[0]))
    independent = sizes / effects  # images with the same variance
    share = (hits / effects + 2) / (independent + 4)
    parts = average_weights(sizes, pooled=False) if weights is None else np.asarray(weights, float)
    error = float(np.sqrt((parts**2 * share * (1 - share) / independent).sum()))
    value = float(parts @ (hits / sizes))
    half = Z95 * error
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), error)


def mean_value(values: ArrayLike, covers: str = "words") -> Estimate:
    """The mean of values (n,) with its normal interval. Covers the choice of words, for one model.

    Raises ValueError if there are no values.
    """
    numbers = np.asarray(values, float)
    count = len(numbers)
    if not count:
        raise ValueError("there is nothing to average")
    value = float(numbers.mean())
    error = float(numbers.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return Estimate(value, value - Z95 * error, value + Z95 * error, error, covers)


def pooled_accuracy(correct: Sequence[int], images: Sequence[int]) -> float:
    """The accuracy over the images of all subsets (W-Avg), in [0, 1]."""
    return sum(correct) / sum(images)


def average_weights(images: ArrayLike, *, pooled: bool) -> np.ndarray:
    """The weight of each subset (K,) in Avg, or in W-Avg if `pooled`. images: (K,)."""
    sizes = np.asarray(images, float)
    return sizes / sizes.sum() if pooled else np.full(len(sizes), 1 / len(sizes))


def bootstrap(
    subsets: Sequence[np.ndarray],
    *weightings: np.ndarray,
    paired: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    unpaired_seeds: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    clusters: Sequence[Clusters | None] | None = None,
) -> list[Estimate]:
    """Weighted means of subset means with intervals by resampling, stratified by subset.

    With one seed the interval consists of percentiles over resampled images. With several seeds
    the seeds are drawn too (`_over_seeds`). With clusters, whole photographs are drawn with all of
    their images (Field and Welsh, JRSS B 69, 2007; Davison and Hinkley, Bootstrap Methods, 1997,
    section 3.8), and a mean is the ratio of two drawn sums.

    Pseudo-observations widen the draws without moving the estimate, so that the interval of
    `no difference in 16 images` is not a point: half an image in each cell of a paired 2 x 2 table
    (Agresti and Min, 2005), two correct and two wrong images for accuracies (Agresti and Coull,
    1998).

    subsets: for each subset the values (S, n) of the same n images under S seeds.
    weightings: (K,) each, of sum 1; one estimate is returned for each of them.
    paired: the values are differences between two recognizers, in [-1, 1].
    resamples: the number of draws.
    seed: of the random numbers.
    level: the probability that the interval shall cover the truth.
    bounds: the lowest and the highest possible mean. None: those of accuracies, or of their
        differences if `paired`.
    unpaired_seeds: for each subset the values (S, n) of both recognizers whose differences are
        given, if a seed of one has nothing to do with the same seed of the other. None: the seeds
        are pairs.
    clusters: for each subset the photographs (n,) of its images; None: images are independent.

    Raises ValueError if a subset is empty, numbers of seeds differ or a value is not finite.
    """
    if len({values.shape[0] for values in subsets}) != 1 or not all(
        values.size for values in subsets
    ):
        raise ValueError("every subset needs at least one image, and all of them the same seeds")
    seed_means = np.array([values.mean(1) for values in subsets])  # (K, S)
    if not np.isfinite(seed_means).all():
        raise ValueError("every image needs a value")
    random = np.random.default_rng(seed)
    of_photos = list(zip(subsets, clusters or [None] * len(subsets), strict=True))
    drawn = np.array(
        [_draw_means(values, photos, paired, resamples, random) for values, photos in of_photos]
    )
    of_images, double = np.array([_variances(*subset) for subset in of_photos]).T  # (K,) each
    lowest, highest = bounds or ((-1.0, 1.0) if paired else (0.0, 1.0))
    tails = ((1 - level) / 2, (1 + level) / 2)
    estimates = []
    for weights in weightings:
        deviations = weights @ drawn  # (resamples,)
        means = weights @ seed_means  # (S,)
        if len(means) > 1:
            image_variance = float(weights**2 @ of_images)
            double_counted = float(weights**2 @ double)
            rows = [means]
            if unpaired_seeds is not None:
                of_both = zip(*unpaired_seeds, strict=True)
                rows = [weights @ np.array([values.mean(1) for values in row]) for row in of_both]
            spread = _seed_spread(rows)
            centered = _over_seeds(
                means, spread, deviations, image_variance, double_counted, random, tails
            )
        else:
            low, high = np.quantile(deviations, tails)
            error = float(deviations.std())
            centered = Estimate(float(means[0]), float(low), float(high), error)
        estimates.append(
            replace(
                centered,
                low=max(lowest, centered.value + centered.low),
                high=min(highest, centered.value + centered.high),
            )
        )
    return estimates


def _draw_means(
    values: np.ndarray,
    clusters: Clusters | None,
    paired: bool,
    resamples: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Means of one subset's resampled images, minus their expectation: (resamples,).

    Drawing images with replacement is drawing how often each of their values occurs, so the time
    does not depend on the number of images. A pseudo-observation is an image of a photograph of its
    own.
    """
    pseudo_values, pseudo_weight = ([-1, 0, 0, 1], 0.5) if paired else ([0, 0, 1, 1], 1.0)
    if clusters is not None:
        return _draw_photos(values, clusters, pseudo_values, pseudo_weight, resamples, random)
    images = values.shape[1]
    weights = np.append(np.ones(images), [pseudo_weight] * 4)
    means, position = np.unique(np.append(values.mean(0), pseudo_values), return_inverse=True)
    share = np.bincount(position, weights=weights) / (images + 4 * pseudo_weight)
    counts = random.multinomial(images, share, size=resamples)
    return np.asarray(counts @ means / images - share @ means)


def _draw_photos(
    values: np.ndarray,
    clusters: Clusters,
    pseudo_values: Sequence[float],
    pseudo_weight: float,
    resamples: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Means of the images of resampled photographs, minus their expectation: (resamples,).

    Photographs with equal sums and sizes are drawn together.
    """
    sums = np.append(cluster_sums(values.mean(0), clusters), pseudo_values)
    sizes = np.append(sizes_of(clusters), [1] * len(pseudo_values))
    photos = len(sums) - len(pseudo_values)
    weights = np.append(np.ones(photos), [pseudo_weight] * len(pseudo_values))
    kinds, position = np.unique(np.column_stack([sums, sizes]), axis=0, return_inverse=True)
    share = np.bincount(position.ravel(), weights=weights) / weights.sum()
    counts = random.multinomial(photos, share, size=resamples)
    drawn_sums, drawn_sizes = (counts @ kinds).T
    expected_sum, expected_size = share @ kinds
    return np.asarray(drawn_sums / drawn_sizes - expected_sum / expected_size)


def _variances(values: np.ndarray, clusters: Clusters | None) -> tuple[float, float]:
    """Variance of a subset's mean (S, n) due to the choice of images, and its double-counted part.

    The second number is the part that the variance between seeds contains as well. With clusters
    (n,) both are those of the choice of photographs.
    """
    seeds, images = values.shape
    if seeds == 1:
        return 0.0, 0.0
    residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    if clusters is None:
        degrees = (seeds - 1) * max(images - 1, 1)
        double_counted = float((residuals**2).sum()) / degrees / images / seeds
        return float(values.mean(0).var()) / images, double_counted
    photo_residuals = cluster_sums(residuals, clusters)  # (S, G)
    photos = photo_residuals.shape[1]
    correction = photos / max(photos - 1, 1) / (seeds - 1) / seeds
    double_counted = correction * float((photo_residuals**2).sum()) / images**2
    deviations = cluster_sums(values.mean(0) - values.mean(), clusters)  # (G,)
    return float((deviations**2).sum()) / images**2, double_counted


def _seed_spread(rows: Sequence[np.ndarray]) -> tuple[float, float]:
    """The variance of a mean over seeds, or of a difference of such means; degrees of freedom.

    With two rows they are those of Welch and Satterthwaite (Biometrika 34, 1947). They stay valid
    if the same seed raises or lowers both rows: then the variance is overestimated.

    rows: for each row the value of each seed (S,).
    """
    parts = [float(row.var(ddof=1)) / len(row) for row in rows]
    total = sum(parts)
    seeds_less_one = len(rows[0]) - 1
    if not total:
        return 0.0, float(seeds_less_one)
    return total, total**2 / sum(part**2 / seeds_less_one for part in parts)


def _over_seeds(
    means: np.ndarray,
    spread: tuple[float, float],
    deviations: np.ndarray,
    image_variance: float,
    double_counted: float,
    random: np.random.Generator,
    tails: tuple[float, float],
) -> Estimate:
    """A hierarchical bootstrap over seeds and images; every seed is evaluated on every image.

    Percentiles over three resampled seeds cover the truth in only 3 of 4 cases. Therefore the mean
    of the seeds' effects is drawn from Student's t distribution with the measured variance.
    An image that is correct under one seed and wrong under another adds to both variances; that
    part is removed from the draws over images, so that it counts once. If the seeds' means happen
    to be equal, almost nothing would remain: the interval is at least half of the one over images.

    means: (S,) the mean of each seed.
    spread: the variance between seeds, of the mean, and its degrees of freedom.
    deviations: means of resampled images, minus their expectation.
    image_variance: variance due to the choice of images.
    double_counted: the part of it that the variance between seeds contains too.
    tails: the probabilities of the interval's ends.

    Returns an Estimate whose interval is around 0.
    """
    between, degrees = spread
    counted_once = max(0.0, 1 - double_counted / image_variance) if image_variance else 1.0
    seed_effects = random.permutation(student_quantiles(len(deviations), degrees))
    draws = deviations * np.sqrt(counted_once) + seed_effects * np.sqrt(between)
    of_both = np.quantile(draws, tails)
    half_of_images = np.quantile(deviations, tails) / 2
    variance = max(deviations.var() * counted_once, deviations.var() / 4) + between
    return Estimate(
        value=float(means.mean()),
        low=float(min(of_both[0], half_of_images[0])),
        high=float(max(of_both[1], half_of_images[1])),
        standard_error=float(np.sqrt(variance)),
        covers=IMAGES_AND_SEEDS,
        seeds=len(means),
        seed_error=float(np.sqrt(between)),
        degrees=degrees,
    )


@cache
def student_quantiles(count: int, degrees: float) -> np.ndarray:
    """Evenly spaced quantiles of Student's t distribution: a sample without sampling noise.

    count: the number of quantiles.
    degrees: degrees of freedom.
    """
    from scipy import special  # scipy.stats, which has the same, is slow to import

    return np.asarray(special.stdtrit(degrees, (np.arange(count) + 0.5) / count))
