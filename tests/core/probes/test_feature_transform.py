"""Standardized and whitened features."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from probe_runs import probe_config

from core.data.word_images import WordImages
from core.probes.feature_transform import (
    FeatureMoments,
    TransformedFeatures,
    TransformKind,
    make_transform,
    patch_moments,
)
from core.probes.features import FeatureBatch, FeatureCache, FrozenEncoder, WordFeatures
from core.probes.stage import make_encoder
from core.probes.words import SelectedWords, training_words
from core.training.run_context import RunContext


class FixedFeatures:
    """Anisotropic random features, of which [cls] is very different."""

    def __init__(self, words: SelectedWords) -> None:
        self.words = words
        self.unreadable = 0
        source = torch.Generator().manual_seed(0)
        mixing = torch.randn(6, 6, generator=source) * torch.tensor([10, 3, 1, 0.3, 0.1, 0.03])
        count = len(words.numbers)
        self.values = 5 + torch.randn(count, 9, 6, generator=source) @ mixing
        self.values[:, 0] = 1e4

    def batches(self, order: Iterable[list[int]]) -> Iterator[FeatureBatch]:
        for numbers in order:
            yield FeatureBatch(self.values[numbers], numbers, [""] * len(numbers))


@pytest.fixture
def words(probe_words: Path) -> SelectedWords:
    images = WordImages([str(probe_words / "train")])
    return training_words(images, probe_config(probe_words))


def _moments(features: WordFeatures, kind: TransformKind) -> FeatureMoments:
    transform = make_transform(kind, patch_moments(features))
    return patch_moments(TransformedFeatures(features, transform))


def test_whitened_patches_of_the_training_words_have_identity_covariance(
    words: SelectedWords,
) -> None:
    moments = _moments(FixedFeatures(words), "whitened")
    torch.testing.assert_close(moments.covariance.float(), torch.eye(6), atol=2e-3, rtol=0)
    torch.testing.assert_close(moments.mean.float(), torch.zeros(6), atol=2e-3, rtol=0)


def test_standardized_patches_have_unit_variance_and_keep_their_correlation(
    words: SelectedWords,
) -> None:
    moments = _moments(FixedFeatures(words), "standardized")
    torch.testing.assert_close(
        moments.covariance.diagonal().float(), torch.ones(6), atol=1e-3, rtol=0
    )
    assert float((moments.covariance - torch.eye(6)).abs().max()) > 0.1


def test_plain_features_are_unchanged(words: SelectedWords) -> None:
    features = FixedFeatures(words)
    transform = make_transform("plain", patch_moments(features))
    assert torch.equal(transform.apply(features.values), features.values)


def test_a_constant_feature_gives_finite_values(words: SelectedWords) -> None:
    features = FixedFeatures(words)
    features.values[..., 2] = 1.0
    for kind in ("standardized", "whitened"):
        transform = make_transform(kind, patch_moments(features))
        assert bool(transform.apply(features.values[:, 1:]).isfinite().all())


def test_features_of_an_encoder_are_whitened(
    probe_words: Path, words: SelectedWords, context: RunContext, tmp_path: Path
) -> None:
    config = probe_config(probe_words)
    frozen = FrozenEncoder(make_encoder(config, None), "fp32", context)
    features = FeatureCache(tmp_path).features(frozen, words, "words")
    covariance = _moments(features, "whitened").covariance
    # LayerNorm removes one direction of the features, which therefore has no variance.
    values = torch.linalg.eigvalsh(covariance)
    torch.testing.assert_close(values[1:].float(), torch.ones(15), atol=1e-2, rtol=0)
