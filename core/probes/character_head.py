"""Head `characters`: a ridge classifier of the characters at their true positions.

Head `hidden_letter` is the same classifier for words of which only the hidden letter has a position
(core/probes/words.py) and is hidden from the encoder.

A character is classified from the patches of the column under its middle and of the columns beside
it. A tenth of the training words is held out to choose the ridge and the temperature that turns
scores into probabilities. The classifier is then fitted on all training words; it keeps this
temperature.

Shapes: B words, n characters, R rows and C columns of patches, D features, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.config import CharacterHead, Encoder, HiddenLetterHead
from core.data.hidden_letter import own_column
from core.model.ctc import column_features
from core.probes.features import FeatureBatch, in_order
from core.probes.heads import HeadTraining
from core.probes.progress import ProbeProgress
from core.probes.results import HeadPrediction
from core.probes.ridge import (
    RidgeClassifier,
    RidgeSums,
    choose_ridge,
    fit_ridge,
    ridge_sums,
)
from core.probes.words import PlacedText, SelectedWords
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.text.charset import Charset, make_charset

HELD_OUT = 10  # one of this many training words is held out
CHUNK = 256  # words whose products are summed at once


def held_out_words(numbers: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """The words that the candidates are fitted on, and the held-out tenth; both ascending.

    numbers: of at least two training words. seed: of the run."""
    source = generator(seed, "probe", "held out")
    order = torch.randperm(len(numbers), generator=source).tolist()
    count = max(1, len(numbers) // HELD_OUT)
    held_out = sorted(numbers[row] for row in order[:count])
    fitted = sorted(numbers[row] for row in order[count:])
    return fitted, held_out


def character_features(
    features: Tensor, texts: Sequence[PlacedText], encoder: Encoder, neighbors: int
) -> Tensor:
    """The patches around each character of some words: (n, (1 + 2 * neighbors) * R * D).

    A column beyond the image counts as zeros.

    features: (B, 1 + R * C, D).
    texts: (B) the characters with their positions; n in all.
    encoder: of the features.
    neighbors: columns on each side of a character's own column."""
    columns = column_features(features, encoder)  # (B, C, R * D)
    count = columns.shape[1]
    padded = functional.pad(columns, (0, 0, neighbors, neighbors))  # (B, C + 2 * neighbors, R * D)
    middles = [own_column(middle, count) for text in texts for middle in text.middles]
    words = [row for row, text in enumerate(texts) for _ in text.middles]
    own = torch.tensor(middles, device=features.device)
    row = torch.tensor(words, device=features.device)
    window = torch.arange(2 * neighbors + 1, device=features.device)
    return padded[row[:, None], own[:, None] + window].flatten(1)


class CharacterClassifier:
    """The trained head."""

    def __init__(
        self,
        extractor: "CharacterExtractor",
        classifier: RidgeClassifier,
        temperature: float,
        summary: dict[str, Any],
    ) -> None:
        """extractor: of the features. classifier: of characters. temperature: of its scores.

        summary: what the training records."""
        self.extractor = extractor
        self.classifier = classifier
        self.temperature = temperature
        self.summary = summary

    def predict(self, batch: FeatureBatch, words: SelectedWords) -> list[HeadPrediction]:
        """The prediction for each word of a batch. words: of the subset, with their characters."""
        texts = [words.texts[number] for number in batch.numbers]
        scores = self.classifier.scores(self.extractor.features(batch.features, texts))
        likelihoods = (scores / self.temperature).log_softmax(1).cpu()  # (n, K)
        predictions = []
        start = 0
        for text in texts:
            stop = start + len(text.text)
            predictions.append(self._word(text.text, likelihoods[start:stop]))
            start = stop
        return predictions

    def _word(self, label: str, likelihoods: Tensor) -> HeadPrediction:
        """The prediction for a word. label: its characters. likelihoods: (characters, K), logs."""
        best, classes = likelihoods.max(1)
        text = "".join(self.extractor.charset.characters[number] for number in classes.tolist())
        numbers = [self.extractor.class_of.get(character, -1) for character in label]
        nll = None
        if min(numbers) >= 0:
            nll = -float(likelihoods[torch.arange(len(label)), torch.tensor(numbers)].sum())
        correct = sum(first == second for first, second in zip(text, label, strict=True))
        return HeadPrediction(text, float(best.sum().exp()), label, nll, len(label), correct)


class CharacterExtractor:
    """Features and classes of the characters of words."""

    def __init__(self, charset: Charset, encoder: Encoder, neighbors: int) -> None:
        self.charset = charset
        self.encoder = encoder
        self.neighbors = neighbors
        self.class_of = {character: row for row, character in enumerate(charset.characters)}

    def features(self, features: Tensor, texts: Sequence[PlacedText]) -> Tensor:
        """As `character_features`."""
        return character_features(features, texts, self.encoder, self.neighbors)

    def examples(self, batch: FeatureBatch, words: SelectedWords) -> tuple[Tensor, Tensor]:
        """Features and classes of the characters in the charset: (n, F) and (n,)."""
        texts = [words.texts[number] for number in batch.numbers]
        features = self.features(batch.features, texts)
        classes = [self.class_of.get(character, -1) for text in texts for character in text.text]
        known = [row for row, number in enumerate(classes) if number >= 0]
        device = features.device
        chosen = torch.tensor([classes[row] for row in known], dtype=torch.long, device=device)
        return features[torch.tensor(known, dtype=torch.long, device=device)], chosen


def train_characters(
    training: HeadTraining, head: CharacterHead | HiddenLetterHead
) -> CharacterClassifier:
    """Choose the ridge on held-out training words, then fit all training words.

    Raises Interrupted, and UserError if no character can be used."""
    config = training.config
    extractor = CharacterExtractor(make_charset(config.charset), config.encoder, head.neighbors)
    words = training.features.words
    fitted, held_out = held_out_words(words.numbers, config.seed)
    progress = ProbeProgress(
        training.context, len(fitted) + len(held_out), "images", "the ridge classifier"
    )

    def sums_of(numbers: Sequence[int]) -> RidgeSums | None:
        sums: RidgeSums | None = None
        for batch in training.features.batches(in_order(numbers, CHUNK)):
            features, classes = extractor.examples(batch, words)
            part = ridge_sums(features, classes, len(extractor.class_of))
            sums = part if sums is None else sums + part
            progress.advance(len(batch.numbers), len(batch.numbers))
        return sums

    fitted_sums = sums_of(fitted)
    held_out_sums = sums_of(held_out)
    if fitted_sums is None or held_out_sums is None or not held_out_sums.rows:
        raise UserError(
            f"{', '.join(words.images.roots)}: too few words with boxes and a label in the "
            "charset; name more training words"
        )
    examples = [
        extractor.examples(batch, words)
        for batch in training.features.batches(in_order(held_out, CHUNK))
    ]
    choice = choose_ridge(fitted_sums, head.ridges, examples)
    total = fitted_sums + held_out_sums
    summary: dict[str, Any] = {
        "words": len(words.numbers),
        "characters": total.rows,
        "ridge": choice.ridge,
        "temperature": choice.temperature,
        "held_out_words": len(held_out),
        "held_out_accuracies": {f"{ridge:g}": value for ridge, value in choice.accuracies.items()},
    }
    classifier = fit_ridge(total, choice.ridge)
    return CharacterClassifier(extractor, classifier, choice.temperature, summary)
