"""Repairs of the alignment loss: losses in place of Eq. 3 that do not let [cls] collapse.

Each repair of `pretrain.alignment.repair` is one pure function. Shapes: B images, D features,
K projections. All are computed in fp32.
"""

import torch
from torch import Tensor
from torch.nn import functional

VARIANCE_FLOOR = 1e-4  # VICReg's epsilon, under the square root
TARGET_DEVIATION = 1.0  # VICReg's hinge: a feature with a larger standard deviation costs nothing


def squared_distance(cls: Tensor, guidance_cls: Tensor) -> Tensor:
    """Eq. 3 as a part of a repair: mean squared distance of (B, D) features; a scalar."""
    return functional.mse_loss(cls.float(), guidance_cls.float())


def normalized_alignment(cls: Tensor, guidance_cls: Tensor) -> Tensor:
    """|| LN(cls) - LN(cls^) ||^2, the mean over (B, D); a scalar.

    LN is a LayerNorm without affine parameters, as of the reconstruction target (MaskFeat, arXiv
    2112.09133; I-JEPA, arXiv 2301.08243, normalizes its targets so). It fixes the length of [cls]
    over features; it does not keep the images apart."""
    width = cls.shape[-1:]
    first, second = (functional.layer_norm(x.float(), width) for x in (cls, guidance_cls))
    return squared_distance(first, second)


def predictor_alignment(
    cls: Tensor, guidance_cls: Tensor, predicted: Tensor, guidance_predicted: Tensor
) -> Tensor:
    """1 - (cos(h(cls), sg(cls^)) + cos(h(cls^), sg(cls))) / 2, the mean over B; a scalar.

    SimSiam, Eq. 2 and 3 of arXiv 2011.10566, plus 1. sg: stop-gradient.

    cls, guidance_cls: (B, D). predicted, guidance_predicted: (B, D), the predictor h of these."""
    first = functional.cosine_similarity(predicted.float(), guidance_cls.detach().float())
    second = functional.cosine_similarity(guidance_predicted.float(), cls.detach().float())
    return 1 - (first + second).mean() / 2


def ema_alignment(cls: Tensor, teacher_cls: Tensor) -> Tensor:
    """|| cls - sg(teacher's cls^) ||^2, the mean over (B, D); a scalar.

    BYOL, arXiv 2006.07733, without its predictor and norms; DSHM, AAAI 2026. sg: stop-gradient.

    cls: (B, D) of the masked branch. teacher_cls: (B, D), the teacher's, of the guidance view."""
    return squared_distance(cls, teacher_cls.detach())


def variance_hinge(values: Tensor) -> Tensor:
    """v(Z) = mean over features of max(0, 1 - sqrt(Var(z) + 1e-4)), (B, D) -> a scalar.

    VICReg, Eq. 1 and 2 of arXiv 2105.04906; the variance divides by B - 1."""
    deviation = (values.var(dim=0) + VARIANCE_FLOOR).sqrt()  # (D,)
    return functional.relu(TARGET_DEVIATION - deviation).mean()


def off_diagonal_covariance(values: Tensor) -> Tensor:
    """c(Z) = sum over i != j of Cov(Z)_ij^2, divided by D; (B, D) -> a scalar.

    VICReg, Eq. 3 and 4 of arXiv 2105.04906; the covariance divides by B - 1."""
    centered = values - values.mean(dim=0)
    covariance = centered.T @ centered / (len(values) - 1)  # (D, D)
    squares = covariance.square()
    return (squares.sum() - squares.diagonal().sum()) / values.shape[1]


def vicreg_alignment(
    projected: Tensor,
    guidance_projected: Tensor,
    invariance: float,
    variance: float,
    covariance: float,
) -> Tensor:
    """invariance * s(Z, Z^) + variance * (v(Z) + v(Z^)) + covariance * (c(Z) + c(Z^)); a scalar.

    VICReg, Eq. 6 of arXiv 2105.04906. s is the mean squared distance, over features too, as in its
    Algorithm 1.

    projected, guidance_projected: (B, K), the projector's outputs of [cls] of both branches.
    invariance, variance, covariance: weights of the terms; 25, 25 and 1 in the source."""
    views = projected.float(), guidance_projected.float()
    hinges = sum(variance_hinge(view) for view in views)
    correlations = sum(off_diagonal_covariance(view) for view in views)
    return invariance * squared_distance(*views) + variance * hinges + covariance * correlations


def epps_pulley(samples: Tensor, knots: int, bound: float) -> Tensor:
    """Epps-Pulley statistic of samples against the standard normal; (B, K) -> (K,).

    B * integral of |f(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt from -bound to bound, where
    f(t) = mean over the samples x of exp(i t x). The integrand is even, so the trapezoidal rule
    runs from 0 and is doubled. Epps and Pulley, Biometrika 1983; LeJEPA, arXiv 2511.08544.

    samples: (B, K), K samples of B numbers.
    knots: points of the trapezoidal rule from 0 to `bound`."""
    points = torch.linspace(0, bound, knots, device=samples.device)
    angles = samples.float()[..., None] * points  # (B, K, knots)
    normal = torch.exp(-points.square() / 2)
    real = angles.cos().mean(dim=0) - normal  # (K, knots)
    imaginary = angles.sin().mean(dim=0)
    integrand = (real.square() + imaginary.square()) * normal
    return 2 * len(samples) * torch.trapezoid(integrand, points, dim=-1)


def random_directions(width: int, count: int, generator: torch.Generator) -> Tensor:
    """(width, count) columns of length 1, uniform over the sphere."""
    return functional.normalize(torch.randn(width, count, generator=generator), dim=0)


def sigreg_alignment(
    cls: Tensor, guidance_cls: Tensor, directions: Tensor, share: float, knots: int, bound: float
) -> Tensor:
    """(1 - share) * Eq. 3 + share * (SIGReg(cls) + SIGReg(cls^)) / 2; a scalar.

    SIGReg is the mean Epps-Pulley statistic over projections on random directions. LeJEPA, arXiv
    2511.08544.

    cls, guidance_cls: (B, D). directions: (D, K) of length 1.
    share: weight of SIGReg; 0.02 in the source.
    knots, bound: of the statistic; 17 and 3."""
    views = cls.float(), guidance_cls.float()
    statistics = [epps_pulley(view @ directions, knots, bound).mean() for view in views]
    return (1 - share) * squared_distance(*views) + share * sum(statistics) / 2


def mean_squared_cosine(values: Tensor) -> Tensor:
    """Mean of cos^2 over all pairs of different images, (B, D) -> a scalar in [0, 1]."""
    directions = functional.normalize(values.float(), dim=1)
    squares = (directions @ directions.T).square()  # (B, B)
    pairs = len(values) * (len(values) - 1)
    return (squares.sum() - squares.diagonal().sum()) / pairs


def uniformity_alignment(cls: Tensor, guidance_cls: Tensor, factor: float) -> Tensor:
    """Eq. 3 + factor * (C(cls) + C(cls^)) / 2, C the mean squared cosine of images; a scalar.

    It spreads [cls] over orthogonal directions, as the uniformity term of arXiv 2005.10242 spreads
    it over the sphere.

    cls, guidance_cls: (B, D). factor: 0.01 by default."""
    spread = (mean_squared_cosine(cls) + mean_squared_cosine(guidance_cls)) / 2
    return squared_distance(cls, guidance_cls) + factor * spread


def info_nce(cls: Tensor, guidance_cls: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding an image's other view among all images; a scalar, in nats.

    The logits of image i are cos(cls_i, cls^_j) / temperature over j. The mean is over images and
    both directions. InfoNCE, arXiv 1807.03748, symmetric as in MoCo v3, arXiv 2104.02057. Two
    images of the same word count as different.

    cls, guidance_cls: (B, D). temperature: divides the cosines."""
    first, second = (functional.normalize(x.float(), dim=1) for x in (cls, guidance_cls))
    logits = first @ second.T / temperature  # (B, B)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
