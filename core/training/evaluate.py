"""Stage 3: recognize every image of every subset, and count correct predictions."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from core.checkpoints.load import read_recognizer
from core.config import Evaluate, Precision
from core.data.batches import Batch, load_batches, normalize, to_unit
from core.data.word_images import Dropped, Selection, WordImages
from core.model.ctc import AnyRecognizer, make_recognizer
from core.runtime import safetensors_io
from core.runtime.distributed import ProcessGroup
from core.text.protocols import (
    LABEL_POLICIES,
    PROTOCOLS,
    Prediction,
    apply_released_policy,
    count_correct,
)
from core.training.last_checkpoints import earlier_models
from core.training.run_context import Interrupted, RunContext, RunProgress, autocast
from core.training.stage_results import EvaluationMetrics, EvaluationResult


class RecognizedText(NamedTuple):
    """A text and its confidence: the product of the probabilities of its characters and EOS."""

    text: str
    confidence: float


def recognize_batch(
    model: AnyRecognizer, images: torch.Tensor, beams: int = 1
) -> list[RecognizedText]:
    """(B, 3, H, W) in [-1, 1] -> B texts; greedy decoding, or beam search if `beams` > 1."""
    with torch.inference_mode():
        return recognize_features(model, model.encoder(images), beams)


def recognize_features(
    model: AnyRecognizer, features: torch.Tensor, beams: int
) -> list[RecognizedText]:
    """As `recognize_batch`, from the encoder's features (B, M, encoder width)."""
    if beams == 1:
        tokens, probabilities = model.greedy_decode_features(features)
    else:
        tokens, probabilities = model.beam_search_features(features, beams)
    is_eos = tokens == model.charset.eos  # (B, T)
    after_eos = is_eos.cumsum(1) - is_eos.long()  # 0 up to the first EOS, which counts
    confidences = torch.where(after_eos > 0, 1.0, probabilities).prod(1).tolist()
    texts = map(model.charset.decode, tokens.tolist())
    return [RecognizedText(*pair) for pair in zip(texts, confidences, strict=True)]


def recognize(
    model: AnyRecognizer,
    images: WordImages,
    batch: int,
    precision: Precision,
    context: RunContext,
    name: str,
    beams: int = 1,
) -> tuple[list[Prediction], Dropped]:
    """Predictions for every image, in order, and counts of images that could not be used.

    model: set to evaluation mode.
    images: with labels; images that a filter list names are skipped.
    batch: images per forward pass.
    precision: of the forward pass.
    context: how the run is computed. Each process recognizes its part of the batches; all
        return the predictions for all images.
    name: of the subset, for progress and messages.
    beams: width of the beam search; 1: greedy decoding.

    Raises Interrupted."""
    model.eval()
    selection = images.selection()
    group = context.process_group
    order = _local_batches(selection, batch, group)
    batches = iter(
        load_batches(
            images,
            model.config.encoder.image,
            order,
            labeled=True,
            num_workers=context.num_workers,
            pin_memory=context.pinned,
        )
    )
    subset = _SubsetPredictions(model, images, precision, context, beams)
    started = time.monotonic()
    local_images = sum(map(len, order))
    # Every process takes the same number of turns, because all of them stop in the same turn.
    for _ in range(-(-len(selection) // (batch * group.size))):
        _raise_if_interrupted(context, name)
        if (loaded := next(batches, None)) is None:
            break
        subset.add(loaded)
        done = len(subset.predictions)
        rate = done / (time.monotonic() - started)
        seconds_left = (local_images - done) / rate
        context.on_progress(RunProgress(done, local_images, "images", rate, seconds_left, name))
    gathered = group.all_gather((subset.predictions, subset.dropped))
    predictions = [prediction for part, _ in gathered for prediction in part]
    predictions.sort(key=lambda prediction: prediction.index)
    dropped = Dropped.total([part for _, part in gathered])
    dropped.filtered = len(images) - len(selection)
    return predictions, dropped


def _local_batches(selection: Selection, batch: int, group: ProcessGroup) -> list[list[int]]:
    """Image numbers of the batches that this process recognizes.

    The batches are those of a single process, so that predictions do not depend on the number of
    processes."""
    count = len(selection)
    starts = range(0, count, batch)[group.rank :: group.size]
    return [selection[np.arange(start, min(start + batch, count))].tolist() for start in starts]


def _raise_if_interrupted(context: RunContext, name: str) -> None:
    """Raise Interrupted in all processes if the main process is asked to stop."""
    group = context.process_group
    (stopping,) = group.all_reduce_counts(int(group.is_main and context.should_stop()))
    if stopping:
        raise Interrupted(
            f"stopped while recognizing {name}; the evaluation restarts from its first image"
        )


class _SubsetPredictions:
    """The predictions for a subset so far, and counts of images that could not be used."""

    def __init__(
        self,
        model: AnyRecognizer,
        images: WordImages,
        precision: Precision,
        context: RunContext,
        beams: int,
    ) -> None:
        """The arguments are those of `recognize`."""
        self.model = model
        self.images = images
        self.precision = precision
        self.device = context.device
        self.beams = beams
        self.predictions: list[Prediction] = []
        self.dropped = Dropped()

    def add(self, batch: Batch) -> None:
        """Recognize a batch."""
        for index, label, recognized, likelihood in self._recognized(batch):
            self._count_label(label)
            self.predictions.append(
                Prediction(
                    index,
                    label,
                    recognized.text,
                    round(recognized.confidence, 6),
                    self._can_express(label),
                    likelihood,
                )
            )
        for index in batch.unreadable:
            self.dropped.unreadable.add(index)
            label = self.images.label(index) or ""
            self.predictions.append(Prediction(index, label, "", 0.0, scorable=False))

    def _can_express(self, label: str) -> bool:
        return self.model.charset.can_express(label, self.model.config.max_length)

    def _recognized(self, batch: Batch) -> Iterator[tuple[int, str, RecognizedText, float | None]]:
        """(number, label, recognized text, NLL of the label) of each image that was decoded."""
        if not batch.indices:
            return iter(())
        with autocast(self.device, self.precision), torch.inference_mode():
            features = self.model.encoder(normalize(to_unit(batch.images, self.device)))
            texts = recognize_features(self.model, features, self.beams)
            likelihoods = self._negative_log_likelihoods(features, batch.labels)
        return zip(batch.indices, batch.labels, texts, likelihoods, strict=True)

    def _negative_log_likelihoods(
        self, features: torch.Tensor, labels: list[str]
    ) -> list[float | None]:
        """NLL of each label in nats, EOS included; None for a label that cannot be expressed."""
        expressible = [row for row, label in enumerate(labels) if self._can_express(label)]
        likelihoods: list[float | None] = [None] * len(labels)
        if not expressible:
            return likelihoods
        texts = [labels[row] for row in expressible]
        tokens, lengths = self.model.charset.encode(texts, max(map(len, texts)) + 1)
        values = self.model.negative_log_likelihood(
            features[expressible], tokens.to(self.device), lengths.to(self.device)
        )
        for row, value in zip(expressible, values.tolist(), strict=True):
            likelihoods[row] = round(value, 5)
        return likelihoods

    def _count_label(self, label: str) -> None:
        self.dropped.over_long += len(label) >= self.model.config.max_length
        self.dropped.unknown_characters += bool(self.model.charset.unknown_characters(label))
        self.dropped.unlabeled += not label


def load_recognizer(path: Path, device: torch.device) -> AnyRecognizer:
    """The recognizer of a file: a run's `model.safetensors`, or a fine-tuned checkpoint."""
    config, weights = read_recognizer(path)
    model = make_recognizer(config)
    safetensors_io.load_into(model, weights, "", path)
    return model.to(device)


def evaluate(
    config: Evaluate, subsets: dict[str, WordImages], recognizer: Path, context: RunContext
) -> EvaluationResult:
    """Run the stage.

    config: of the stage.
    subsets: name -> images with labels.
    recognizer: file of the recognizer. With `config.last` above 1 the files of its earlier
        checkpoints lie beside it.
    context: how the run is computed."""
    files = [recognizer, *earlier_models(recognizer, config.last - 1)]
    evaluations = [_evaluate_file(config, subsets, file, context) for file in files]
    (predictions, dropped), *earlier = evaluations
    protocol = PROTOCOLS[config.protocol]
    metrics = EvaluationMetrics(
        protocol=protocol.name,
        labels=config.labels,
        protocol_statement=f"{protocol.statement}; {LABEL_POLICIES[config.labels]}",
        counts={name: count_correct(rows, protocol) for name, rows in predictions.items()},
        dropped={name: counts.counts() for name, counts in dropped.items()},
    )
    return EvaluationResult(metrics, predictions, [rows for rows, _ in earlier])


def _evaluate_file(
    config: Evaluate, subsets: dict[str, WordImages], recognizer: Path, context: RunContext
) -> tuple[dict[str, list[Prediction]], dict[str, Dropped]]:
    """Predictions and dropped images of each subset. The arguments are those of `evaluate`."""
    model = load_recognizer(recognizer, context.device)
    predictions: dict[str, list[Prediction]] = {}
    dropped: dict[str, Dropped] = {}
    for name, images in subsets.items():
        predictions[name], dropped[name] = recognize(
            model, images, config.batch, config.precision, context, name, config.beams
        )
        if config.labels == "released":
            predictions[name], dropped[name].replaced = apply_released_policy(
                predictions[name], model.charset, model.config.max_length
            )
    return predictions, dropped
