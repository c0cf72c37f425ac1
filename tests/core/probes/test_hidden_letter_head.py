"""Head `hidden_letter`: what the encoder sees, what the head can know, what is recorded."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from probe_runs import ENCODER, WORDS, probe_config, run_probe
from torch import Tensor

from core.config import HiddenLetterHead, Probe
from core.data.lmdb_folder import fingerprint
from core.data.word_images import WordImages
from core.probes.features import FORMAT, FeatureCache, FrozenEncoder
from core.probes.hidden_pixels import hide
from core.probes.results import ProbeResult
from core.probes.stage import make_encoder
from core.probes.words import SelectedWords, evaluated_words, training_words
from core.runtime.errors import UserError
from core.synthetic.config import Synthetic
from core.synthetic.dataset import write_splits
from core.training.run_context import RunContext
from experiments.planning.endpoints import RANDOM_LETTERS

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
LANGUAGE = Synthetic(
    train=4, validation=2, test=16, vocabulary=600, letters=(3, 5), image=(32, 64), seed=1
)


@pytest.fixture(scope="module")
def language_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the language splits of `LANGUAGE`."""
    folder = tmp_path_factory.mktemp("language words")
    assert list(write_splits(LANGUAGE, folder, 1, lambda: False, for_language=True))
    return folder


def hidden_config(folder: Path, **settings: Any) -> Probe:
    """The probe on language splits."""
    values: dict[str, Any] = {
        "head": {"kind": "hidden_letter"},
        "data": {"roots": [str(folder / "language_train")]},
        "subsets": {
            "words": {"roots": [str(folder / "language_words")]},
            RANDOM_LETTERS: {"roots": [str(folder / "random_letters")]},
        },
    }
    return probe_config(folder, **(values | settings))


def encode_as(monkeypatch: pytest.MonkeyPatch, features: Any) -> None:
    """Let features be `features(images)`, (B, 3, H, W) uint8 -> (B, 1 + N, D)."""
    monkeypatch.setattr(FrozenEncoder, "features", lambda _, images: features(images))


def accuracies(result: ProbeResult) -> dict[str, float]:
    """Subset -> share of hidden letters that are right."""
    return {
        name: counts.correct / counts.characters
        for name, counts in result.metrics.characters.items()
    }


def test_the_label_is_the_hidden_letter_and_is_equal_in_both_subsets(
    language_words: Path, tmp_path: Path
) -> None:
    result = run_probe(hidden_config(language_words), None, tmp_path)
    labels = {
        name: [word.prediction.label for word in words] for name, words in result.words.items()
    }
    assert labels["words"] == labels[RANDOM_LETTERS]
    assert {len(label) for label in labels["words"]} == {1}
    assert len(labels["words"]) == 5 * LANGUAGE.test
    assert result.metrics.training["characters"] == result.metrics.training["words"]


def test_the_encoder_sees_hidden_images_only(
    language_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image has a painted column of patches, the one that the head classifies."""
    seen: list[Tensor] = []

    def record(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.rand(len(images), 1 + ENCODER.patches, ENCODER.width)

    encode_as(monkeypatch, record)
    config = hidden_config(language_words)
    run_probe(config, None, tmp_path)
    images = torch.cat(seen)
    words = [
        training_words(WordImages(config.data.roots), config),
        *(evaluated_words(WordImages(data.roots), config) for data in config.subsets.values()),
    ]
    rows = iter(images)
    for of_set in words:
        for number in of_set.numbers:
            image = next(rows)
            (middle,) = of_set.texts[number].middles
            start = 8 * int(8 * middle)
            left, right = of_set.hidden[number].columns
            assert left <= start < start + 8 <= right
            hidden = image[:, :, left:right].flatten(1)
            assert bool((hidden == hidden[:, :1]).all())
            whole = of_set.images.image(number, (32, 64))
            assert whole is not None
            assert torch.equal(image[:, :, :left], whole[:, :, :left])
            assert torch.equal(image[:, :, right:], whole[:, :, right:])
    assert next(rows, None) is None


def test_a_constant_encoder_reaches_no_more_than_the_most_frequent_letter(
    language_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_as(
        monkeypatch, lambda images: torch.ones(len(images), 1 + ENCODER.patches, ENCODER.width)
    )
    result = run_probe(hidden_config(language_words, features="plain"), None, tmp_path)
    guesses = {word.prediction.prediction for words in result.words.values() for word in words}
    assert len(guesses) == 1
    (guess,) = guesses
    labels = Counter(word.prediction.label for word in result.words["words"])
    assert set(accuracies(result).values()) == {labels[guess] / labels.total()}


def test_an_encoder_of_single_patches_cannot_tell_words_from_random_letters(
    language_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own column shows paint alone: features that do not mix columns know no letter."""

    def pixels(images: Tensor) -> Tensor:
        count = len(images)
        patches = images[:, 0].reshape(count, 2, 16, 8, 8).transpose(2, 3).float()
        centered = patches.reshape(count, 16, 128)
        centered = centered - centered.mean(2, keepdim=True)
        features = centered[..., : ENCODER.width]
        return torch.cat([torch.zeros(count, 1, ENCODER.width), features], 1)

    encode_as(monkeypatch, pixels)
    result = run_probe(hidden_config(language_words, features="plain"), None, tmp_path)
    guesses = {word.prediction.prediction for words in result.words.values() for word in words}
    assert len(guesses) == 1


class _Telling:
    """Features of an encoder that writes the number of the hidden letter into every column."""

    def __init__(self, letters: dict[bytes, int]) -> None:
        """letters: bytes of a hidden image -> class."""
        self.letters = letters

    def __call__(self, images: Tensor) -> Tensor:
        features = torch.zeros(len(images), 1 + ENCODER.patches, ENCODER.width)
        for row, image in enumerate(images):
            number = torch.tensor(self.letters[image.numpy().tobytes()])
            one_hot = torch.nn.functional.one_hot(number, 32).float()
            features[row, 1:9] = one_hot[:16]  # the first row of patches
            features[row, 9:] = one_hot[16:]
        return features


def _letters(words: SelectedWords, *, told: bool) -> Iterator[tuple[bytes, int]]:
    for number in words.numbers:
        whole = words.images.image(number, (32, 64))
        assert whole is not None
        (image,) = hide(whole[None], [words.hidden[number].columns])
        letter = words.texts[number].text if told else "e"
        yield image.numpy().tobytes(), ALPHABET.index(letter)


def test_the_head_finds_what_the_encoder_knows_in_words_alone(
    language_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = hidden_config(language_words, features="plain")
    train = training_words(WordImages(config.data.roots), config)
    subsets = {
        name: evaluated_words(WordImages(data.roots), config)
        for name, data in config.subsets.items()
    }
    known = dict(_letters(train, told=True))
    known |= dict(_letters(subsets["words"], told=True))
    known |= dict(_letters(subsets[RANDOM_LETTERS], told=False))
    encode_as(monkeypatch, _Telling(known))
    result = run_probe(config, None, tmp_path)
    measured = accuracies(result)
    letters = Counter(train.texts[number].text for number in train.numbers)
    labels = [word.prediction.label for word in result.words["words"]]
    # a letter that is rare in training may be missed
    common = sum(letters[label] > 5 for label in labels) / len(labels)
    assert common > 0.8
    assert measured["words"] >= common
    assert measured[RANDOM_LETTERS] == labels.count("e") / len(labels)


def test_a_probe_of_hidden_letters_is_deterministic_and_shares_no_cached_features(
    language_words: Path, encoder_file: Path, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    config = hidden_config(language_words)
    whole = hidden_config(language_words, head={"kind": "characters", "neighbors": 0})
    wider = hidden_config(language_words, head={"kind": "hidden_letter", "margin": 6})
    alone = run_probe(config, encoder_file, tmp_path / "a")
    run_probe(whole, encoder_file, tmp_path / "b", cache=cache)
    files = set(cache.folder.glob("*.f32"))
    run_probe(wider, encoder_file, tmp_path / "c", cache=cache)
    after = run_probe(config, encoder_file, tmp_path / "d", cache=cache)
    again = run_probe(config, encoder_file, tmp_path / "e", cache=FeatureCache(cache.folder))
    assert len(files) == 3
    assert len(set(cache.folder.glob("*.f32"))) == 9
    for result in (after, again):
        assert _without_times(result) == _without_times(alone)


def _without_times(result: ProbeResult) -> ProbeResult:
    return replace(result, metrics=replace(result.metrics, seconds=0, feature_seconds=0))


def test_words_of_the_test_subsets_are_no_training_words(
    language_words: Path, tmp_path: Path
) -> None:
    test = language_words / "language_words"
    config = hidden_config(
        language_words,
        data={"roots": [str(language_words / "language_train"), str(test)]},
    )
    result = run_probe(config, None, tmp_path)
    assert result.metrics.dropped["training"]["in_test"] == 5 * LANGUAGE.test
    assert result.metrics.training["words"] == 15 * LANGUAGE.test


def test_the_text_reference_is_recorded_for_each_subset(
    language_words: Path, tmp_path: Path
) -> None:
    reference = run_probe(hidden_config(language_words), None, tmp_path).metrics.to_json()[
        "text_reference"
    ]
    words = reference["words"]
    letters = reference[RANDOM_LETTERS]
    assert words["words"] == letters["words"] == 5 * LANGUAGE.test
    assert words["most_frequent"] == letters["most_frequent"]
    assert words["neighbors"] > letters["neighbors"]


def test_other_heads_hide_nothing_and_keep_their_cached_features(
    probe_words: Path, tmp_path: Path
) -> None:
    config = probe_config(probe_words)
    words = training_words(WordImages(config.data.roots), config)
    assert words.hidden == {}
    encoder = FrozenEncoder(make_encoder(config, None), "fp32", RunContext(torch.device("cpu")))
    cache = FeatureCache(tmp_path / "cache")
    cache.features(encoder, words, "words")
    (file,) = cache.folder.glob("*.f32")
    parts = [
        FORMAT,
        encoder.content_hash(),
        ENCODER.model_dump(mode="json"),
        "fp32",
        "cpu",
        [fingerprint(root) for root in words.images.roots],
        words.numbers,
    ]
    assert file.stem == hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    hidden = config.model_copy(update={"head": HiddenLetterHead(kind="hidden_letter")})
    of_hidden = training_words(WordImages(config.data.roots), hidden)
    assert set(of_hidden.hidden) == set(of_hidden.numbers)
    cache.features(encoder, of_hidden, "hidden")
    assert len(list(cache.folder.glob("*.f32"))) == 2


def test_words_without_boxes_are_an_error(tmp_path: Path) -> None:
    plain = WORDS.model_copy(update={"boxes": False, "train": 6})
    assert list(write_splits(plain, tmp_path, 1, lambda: False))
    with pytest.raises(UserError, match=r"synthetic\.boxes"):
        run_probe(probe_config(tmp_path, head={"kind": "hidden_letter"}), None, tmp_path / "run")
