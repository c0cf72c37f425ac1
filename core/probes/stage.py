"""Stage probe: train a head on the features of a frozen encoder, and test it on other words."""

import time
from pathlib import Path

import torch

from core.checkpoints.load import load_weights
from core.config import CharacterHead, DecoderHead, HiddenLetterHead, Probe
from core.data.word_images import WordImages
from core.model.vit import VisionTransformer
from core.probes.character_head import train_characters
from core.probes.ctc_heads import train_ctc
from core.probes.decoder_head import train_decoder
from core.probes.feature_transform import (
    FeatureTransform,
    TransformedFeatures,
    make_transform,
    patch_moments,
)
from core.probes.features import FeatureCache, FrozenEncoder, WordFeatures, in_order
from core.probes.heads import HeadTraining, TrainedHead
from core.probes.progress import ProbeProgress
from core.probes.results import (
    HeadPrediction,
    ProbedWord,
    ProbeMetrics,
    ProbeResult,
    character_counts,
    correct_words,
    probed_word,
)
from core.probes.text_reference import (
    LetterCounts,
    TextReference,
    letter_counts,
    text_reference,
)
from core.probes.words import SelectedWords, evaluated_words, training_words
from core.runtime import safetensors_io
from core.runtime.seeds import derive_seed
from core.text.charset import make_charset
from core.text.protocols import LABEL_POLICIES, PROTOCOLS
from core.training.run_context import RunContext

CACHE = "features"  # folder of cached features in the run's folder


def make_encoder(config: Probe, encoder: Path | None) -> VisionTransformer:
    """The encoder of a file. None: an untrained one, as fine-tuning from scratch starts with it.

    Raises UserError if the file holds no encoder of these sizes."""
    torch.manual_seed(derive_seed(config.seed, "finetune", "weights"))
    module = VisionTransformer(config.encoder)
    if encoder is not None:
        safetensors_io.load_into(module, load_weights(encoder)[0], "encoder.", encoder)
    return module


def train_head(training: HeadTraining) -> TrainedHead:
    """Train the head that the config names. Raises Interrupted."""
    head = training.config.head
    if isinstance(head, CharacterHead | HiddenLetterHead):
        return train_characters(training, head)
    if isinstance(head, DecoderHead):
        return train_decoder(training, head)
    return train_ctc(training, head)


def probe(
    config: Probe,
    images: WordImages,
    subsets: dict[str, WordImages],
    encoder: Path | None,
    folder: Path,
    context: RunContext,
    cache: FeatureCache | None = None,
) -> ProbeResult:
    """Run the stage. It is deterministic in the config; it restarts after an interruption.

    Every process of a process group computes the whole stage.

    config: of the stage.
    images: training words, with labels.
    subsets: name -> test words.
    encoder: file of the encoder's weights; None: an untrained encoder.
    folder: of the run.
    context: how the run is computed.
    cache: where features are kept. None: in the run's folder, from which they are removed at the
        end.

    Raises Interrupted, and UserError if words or weights cannot be used."""
    started = time.monotonic()
    own_cache = FeatureCache(folder / CACHE) if cache is None else cache
    try:
        return _Stage(config, encoder, context, own_cache).run(images, subsets, started)
    finally:
        if cache is None:
            own_cache.clear()


class _Stage:
    """One run of the stage."""

    def __init__(
        self, config: Probe, encoder: Path | None, context: RunContext, cache: FeatureCache
    ) -> None:
        """The arguments are those of `probe`."""
        self.config = config
        self.context = context
        self.cache = cache
        self.frozen = FrozenEncoder(make_encoder(config, encoder), config.precision, context)
        self.feature_seconds = 0.0
        self.dropped: dict[str, dict[str, int]] = {}
        self.charset = make_charset(config.charset)
        self.counts: LetterCounts | None = None
        self.references: dict[str, TextReference] = {}

    def run(
        self, images: WordImages, subsets: dict[str, WordImages], started: float
    ) -> ProbeResult:
        """Train and test. images, subsets: as of `probe`. started: time of the stage's start."""
        content = self.frozen.content_hash()
        selected = training_words(images, self.config, self._test_labels(subsets))
        if selected.hidden:
            self.counts = letter_counts(selected, self.charset)
        source = self._features(selected, "the training words")
        transform = make_transform(self.config.features, patch_moments(source))
        features = TransformedFeatures(source, transform)
        head = train_head(HeadTraining(self.config, features, self.context))
        self._count_dropped("training", source)
        words = {
            name: self._test(name, subset, head, transform) for name, subset in subsets.items()
        }
        if self.frozen.content_hash() != content:
            raise RuntimeError("the frozen encoder's weights changed during the probe")
        protocol = PROTOCOLS[self.config.protocol]
        metrics = ProbeMetrics(
            head=self.config.head.kind,
            features=self.config.features,
            protocol=protocol.name,
            labels="strict",
            protocol_statement=f"{protocol.statement}; {LABEL_POLICIES['strict']}",
            counts={name: correct_words(rows, protocol) for name, rows in words.items()},
            characters={name: character_counts(rows) for name, rows in words.items()},
            dropped=self.dropped,
            training=head.summary,
            text_reference={name: row._asdict() for name, row in self.references.items()},
            encoder_sha256=content,
            seconds=round(time.monotonic() - started, 3),
            feature_seconds=round(self.feature_seconds, 3),
        )
        return ProbeResult(metrics, words)

    def _test_labels(self, subsets: dict[str, WordImages]) -> frozenset[str]:
        """Labels that a hidden letter must not be learned from, in the charset's case."""
        if not isinstance(self.config.head, HiddenLetterHead):
            return frozenset()
        labels = (label for subset in subsets.values() for label in subset.labels())
        return frozenset(self.charset.fold_case(label) for label in labels if label)

    def _features(self, words: SelectedWords, note: str) -> WordFeatures:
        """Features of some words. note: names the words in progress reports."""
        started = time.monotonic()
        features = self.cache.features(self.frozen, words, note)
        self.feature_seconds += time.monotonic() - started
        return features

    def _count_dropped(self, name: str, features: WordFeatures) -> None:
        unreadable = {"unreadable": features.unreadable}
        self.dropped[name] = features.words.dropped | unreadable

    def _test(
        self, name: str, images: WordImages, head: TrainedHead, transform: FeatureTransform
    ) -> list[ProbedWord]:
        """The words of a subset with their predictions, in the order of their images.

        name: of the subset. images: its words. head: trained. transform: of the features."""
        source = self._features(evaluated_words(images, self.config), name)
        features = TransformedFeatures(source, transform)
        normalize = PROTOCOLS[self.config.protocol].normalize
        if self.counts is not None:
            self.references[name] = text_reference(self.counts, source.words, self.charset)
        numbers = source.words.numbers
        progress = ProbeProgress(self.context, len(numbers), "images", name)
        words: dict[int, ProbedWord] = {}
        for batch in features.batches(in_order(numbers)):
            predictions = head.predict(batch, source.words)
            for number, predicted in zip(batch.numbers, predictions, strict=True):
                scorable = self.charset.can_express(predicted.label, self.config.max_length)
                words[number] = probed_word(number, scorable, predicted, normalize)
            progress.advance(len(batch.numbers), len(batch.numbers))
        for number in numbers:
            if number not in words:  # the image cannot be decoded
                correct = 0 if number in source.words.texts else None
                label = source.words.reference(number)
                missing = HeadPrediction("", 0.0, label, correct=correct)
                words[number] = probed_word(number, False, missing, normalize)
        self._count_dropped(name, source)
        return [words[number] for number in numbers]
