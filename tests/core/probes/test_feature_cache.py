"""Cached features: equal to computed ones, bound to encoder and data, within the budget."""

from pathlib import Path

import pytest
import torch
from conftest import jpeg, write_lmdb
from probe_runs import probe_config

from core.config import Probe
from core.data.word_images import WordImages
from core.probes.features import (
    CachedFeatures,
    FeatureCache,
    FrozenEncoder,
    RecomputedFeatures,
    WordFeatures,
    feature_bytes,
    in_order,
)
from core.probes.stage import make_encoder
from core.probes.words import SelectedWords, training_words
from core.runtime.errors import UserError
from core.training.run_context import Interrupted, RunContext

NO_BUDGET = 0


@pytest.fixture
def config(probe_words: Path) -> Probe:
    return probe_config(probe_words)


@pytest.fixture
def words(config: Probe) -> SelectedWords:
    return training_words(WordImages(config.data.roots), config)


def _frozen(config: Probe, context: RunContext, seed: int = 0) -> FrozenEncoder:
    seeded = config.model_copy(update={"seed": seed})
    return FrozenEncoder(make_encoder(seeded, None), "fp32", context)


def _values(features: WordFeatures) -> torch.Tensor:
    batches = features.batches(in_order(features.words.numbers, 25))
    return torch.cat([batch.features for batch in batches])


def test_cached_features_equal_those_without_a_cache(
    config: Probe, words: SelectedWords, context: RunContext, tmp_path: Path
) -> None:
    frozen = _frozen(config, context)
    computed = FeatureCache(tmp_path, NO_BUDGET).features(frozen, words, "words")
    written = FeatureCache(tmp_path).features(frozen, words, "words")
    stored = FeatureCache(tmp_path).features(frozen, words, "words")
    assert isinstance(computed, RecomputedFeatures)
    assert isinstance(written, CachedFeatures)
    assert len(list(tmp_path.glob("*.f32"))) == 1
    torch.testing.assert_close(_values(written), _values(computed), atol=1e-5, rtol=1e-5)
    assert torch.equal(_values(stored), _values(written))


def test_stored_features_are_used_without_computing_them(
    config: Probe,
    words: SelectedWords,
    context: RunContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = _frozen(config, context)
    FeatureCache(tmp_path).features(frozen, words, "words")
    monkeypatch.setattr(FrozenEncoder, "features", lambda *_: pytest.fail("computed again"))
    assert _values(FeatureCache(tmp_path).features(frozen, words, "words")).shape == (60, 17, 16)


def test_another_encoder_or_other_words_do_not_use_stored_features(
    config: Probe, words: SelectedWords, context: RunContext, tmp_path: Path, probe_words: Path
) -> None:
    cache = FeatureCache(tmp_path)
    fewer = training_words(words.images, config.model_copy(update={"images": 20}))
    test = training_words(WordImages([str(probe_words / "general")]), config)
    first = _values(cache.features(_frozen(config, context), words, "words"))
    second = _values(cache.features(_frozen(config, context, seed=1), words, "words"))
    assert not torch.equal(first, second)
    assert len(_values(cache.features(_frozen(config, context), fewer, "words"))) == 20
    assert len(_values(cache.features(_frozen(config, context), test, "words"))) == 8
    assert len(list(tmp_path.glob("*.f32"))) == 4


def test_changed_data_do_not_use_stored_features(
    config: Probe, context: RunContext, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    values = []
    ctc = probe_config(tmp_path, "ctc_linear")
    for name, color in (("first", 10), ("second", 240)):
        root = write_lmdb(tmp_path / name, [(jpeg(color), "ab"), (jpeg(color), "cd")])
        words = training_words(WordImages([root]), ctc)
        values.append(_values(cache.features(_frozen(config, context), words, "words")))
    assert not torch.equal(*values)


def test_a_damaged_file_is_computed_again(
    config: Probe, words: SelectedWords, context: RunContext, tmp_path: Path
) -> None:
    frozen = _frozen(config, context)
    values = _values(FeatureCache(tmp_path).features(frozen, words, "words")).clone()
    (file,) = tmp_path.glob("*.f32")
    for damage in (lambda: file.write_bytes(b"short"), file.with_suffix(".json").unlink):
        damage()
        again = FeatureCache(tmp_path).features(frozen, words, "words")
        assert torch.equal(_values(again), values)


def test_the_files_used_longest_ago_make_room_within_the_budget(
    config: Probe, words: SelectedWords, context: RunContext, tmp_path: Path
) -> None:
    size = feature_bytes(config.encoder, 60)
    assert size == 60 * 17 * 16 * 4
    for seed in range(4):
        FeatureCache(tmp_path, 2 * size).features(_frozen(config, context, seed), words, "words")
        files = list(tmp_path.glob("*.f32"))
        assert sum(file.stat().st_size for file in files) <= 2 * size
        assert len(list(tmp_path.glob("*.json"))) == len(files)


def test_files_in_use_are_kept_and_further_features_are_computed(
    config: Probe, words: SelectedWords, context: RunContext, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path, feature_bytes(config.encoder, 60) * 3 // 2)
    first = cache.features(_frozen(config, context), words, "words")
    second = cache.features(_frozen(config, context, seed=1), words, "words")
    assert isinstance(first, CachedFeatures)
    assert isinstance(second, RecomputedFeatures)
    assert len(list(tmp_path.glob("*.f32"))) == 1
    assert len(_values(first)) == len(_values(second)) == 60


def test_images_that_cannot_be_decoded_are_counted_and_left_out(
    config: Probe, context: RunContext, tmp_path: Path
) -> None:
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(9), "ab"),
        (b"no image", "cd"),
        (jpeg(7), "ef"),
    ]
    words = training_words(
        WordImages([write_lmdb(tmp_path / "root", samples)]), probe_config(tmp_path, "ctc_linear")
    )
    for budget in (NO_BUDGET, 1 << 20):
        cache = FeatureCache(tmp_path / str(budget), budget)
        features = cache.features(_frozen(config, context), words, "words")
        (batch,) = list(features.batches([[0, 1, 2]]))
        assert (batch.numbers, batch.labels) == ([0, 2], ["ab", "ef"])
        assert features.unreadable == 1


def test_a_data_set_without_readable_image_is_an_error(
    config: Probe, context: RunContext, tmp_path: Path
) -> None:
    root = write_lmdb(tmp_path / "root", [(b"no image", "ab"), (b"none", "cd")])
    words = training_words(WordImages([root]), probe_config(tmp_path, "ctc_linear"))
    with pytest.raises(UserError, match="root"):
        FeatureCache(tmp_path / "cache").features(_frozen(config, context), words, "words")


def test_an_interruption_leaves_no_file(
    config: Probe, words: SelectedWords, tmp_path: Path
) -> None:
    context = RunContext(torch.device("cpu"), should_stop=lambda: True)
    with pytest.raises(Interrupted):
        FeatureCache(tmp_path).features(_frozen(config, context), words, "words")
    assert not list(tmp_path.iterdir())
