"""Heads `ctc_linear` and `ctc_bilstm`: CTC on the columns of a frozen encoder, greedy decoding.

White space is not part of the text. Training restarts from its beginning after an interruption.

Shapes: B words, R rows and C columns of patches, D features, F = outputs per column * C frames, K
classes: the charset's characters, then the blank.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from core.config import BiLSTMCTCHead, Encoder, LinearCTCHead, steps
from core.model.ctc import collapse, column_features, ctc_negative_log_likelihood
from core.probes.features import FeatureBatch
from core.probes.heads import HeadTraining, shuffled_batches
from core.probes.progress import ProbeProgress
from core.probes.results import HeadPrediction
from core.probes.words import SelectedWords
from core.runtime.errors import UserError
from core.runtime.seeds import derive_seed
from core.text.charset import Charset, make_charset


class ColumnClassifier(nn.Module):
    """Logits of the frames of each column: a linear layer, or a BiLSTM and a linear layer."""

    def __init__(self, head: LinearCTCHead | BiLSTMCTCHead, encoder: Encoder, classes: int) -> None:
        """head: its settings. encoder: of the features. classes: K, the blank included."""
        super().__init__()
        self.encoder = encoder
        self.classes = classes
        width = encoder.grid[0] * encoder.width
        self.lstm: nn.LSTM | None = None
        if isinstance(head, BiLSTMCTCHead):
            self.lstm = nn.LSTM(width, head.hidden, batch_first=True, bidirectional=True)
            width = 2 * head.hidden
        self.classify = nn.Linear(width, head.outputs_per_column * classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 1 + R * C, D) -> logits (B, F, K)."""
        columns = column_features(features, self.encoder)  # (B, C, R * D)
        if self.lstm is not None:
            columns, _ = self.lstm(columns)
        logits = self.classify(columns)
        return cast(Tensor, logits.reshape(len(features), -1, self.classes))


def plain_text(label: str, charset: Charset) -> str:
    """The label as CTC predicts it: in the charset's case, without white space."""
    return "".join(charset.fold_case(label).split())


def needed_frames(text: str) -> int:
    """The least number of frames for a text: a blank separates equal neighbors."""
    return len(text) + sum(first == second for first, second in pairwise(text))


class CTCClassifier:
    """The trained head."""

    def __init__(
        self, model: ColumnClassifier, charset: Charset, max_length: int, summary: dict[str, Any]
    ) -> None:
        """model: the layers. charset: of the labels. max_length: of labels, as of a recognizer.

        summary: what the training records."""
        self.model = model
        self.charset = charset
        self.max_length = max_length
        self.summary = summary

    def encode(self, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Classes (B, T), padded with 0, and lengths (B,) of texts."""
        index = {character: number for number, character in enumerate(self.charset.characters)}
        classes = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
        for row, text in enumerate(texts):
            classes[row, : len(text)] = torch.tensor([index[character] for character in text])
        lengths = torch.tensor([len(text) for text in texts])
        return classes.to(device), lengths.to(device)

    @torch.inference_mode()
    def predict(self, batch: FeatureBatch, words: SelectedWords) -> list[HeadPrediction]:
        """The prediction for each word of a batch. words: of the subset."""
        logits = self.model(batch.features)
        best, path = logits.double().log_softmax(-1).max(-1)  # (B, F) each
        confidences = best.sum(1).exp().tolist()
        texts = [plain_text(label, self.charset) for label in batch.labels]
        likelihoods = self._likelihoods(logits, batch.labels, texts)
        blank = self.model.classes - 1
        predictions = []
        for row, frames in enumerate(path.tolist()):
            text = "".join(self.charset.characters[number] for number in collapse(frames, blank))
            label = batch.labels[row]
            symbols = len(texts[row])
            predictions.append(
                HeadPrediction(text, confidences[row], label, likelihoods[row], symbols)
            )
        return predictions

    def _likelihoods(
        self, logits: Tensor, labels: Sequence[str], texts: Sequence[str]
    ) -> list[float | None]:
        """NLL of each text over all alignments; None where it cannot be expressed or aligned."""
        values: list[float | None] = [None] * len(texts)
        rows = [
            row
            for row, (label, text) in enumerate(zip(labels, texts, strict=True))
            if can_align(label, text, self.charset, self.max_length, logits.shape[1])
        ]
        if rows:
            classes, lengths = self.encode([texts[row] for row in rows], logits.device)
            losses = ctc_negative_log_likelihood(logits[rows], classes, lengths).tolist()
            for row, loss in zip(rows, losses, strict=True):
                values[row] = loss
        return values


def can_align(label: str, text: str, charset: Charset, max_length: int, frames: int) -> bool:
    """Whether a head with `frames` frames can predict a label.

    label: of the word. text: the label as CTC predicts it. charset, max_length: of the recognizer.
    frames: of an image."""
    return bool(text) and charset.can_express(label, max_length) and needed_frames(text) <= frames


def train_ctc(training: HeadTraining, head: LinearCTCHead | BiLSTMCTCHead) -> CTCClassifier:
    """Train the head. Raises Interrupted, and UserError if no word can be used."""
    config = training.config
    charset = make_charset(config.charset)
    words = training.features.words
    frames = head.outputs_per_column * config.encoder.grid[1]
    numbers = []
    for number, label in words.labels.items():
        if can_align(label, plain_text(label, charset), charset, config.max_length, frames):
            numbers.append(number)
    if not numbers:
        raise UserError(
            f"{', '.join(words.images.roots)}: no label fits into {frames} frames; "
            "increase head.outputs_per_column"
        )
    _, total = steps(len(numbers), head.batch, head.epochs)
    torch.manual_seed(derive_seed(config.seed, "probe", "weights"))
    model = ColumnClassifier(head, config.encoder, len(charset.characters) + 1)
    model.to(training.context.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=head.lr)
    summary: dict[str, Any] = {
        "steps": total,
        "words": len(numbers),
        "labels_without_alignment": len(words.numbers) - len(numbers),
    }
    trained = CTCClassifier(model, charset, config.max_length, summary)
    progress = ProbeProgress(training.context, total, "steps", f"head {head.kind}")
    loss = torch.zeros(())
    for batch in training.features.batches(
        shuffled_batches(numbers, head.batch, total, config.seed)
    ):
        texts = [plain_text(label, charset) for label in batch.labels]
        classes, lengths = trained.encode(texts, batch.features.device)
        loss = ctc_negative_log_likelihood(model(batch.features), classes, lengths).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if head.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), head.clip)
        optimizer.step()
        progress.advance(1, len(batch.numbers))
    summary["last_loss"] = float(loss.detach())
    model.eval()
    return trained
