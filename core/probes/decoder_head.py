"""Head `decoder`: the recognizer's attention decoder on a frozen encoder, greedy decoding.

Training restarts from its beginning after an interruption.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from core.config import DecoderHead, RecognizerModel
from core.model.kernels.dropout import position_seeded_dropout
from core.model.recognizer import Recognizer, sequence_cross_entropy
from core.probes.features import FeatureBatch
from core.probes.heads import HeadTraining, shuffled_batches
from core.probes.progress import ProbeProgress
from core.probes.results import HeadPrediction
from core.probes.words import SelectedWords
from core.runtime.seeds import derive_seed
from core.training.evaluate import recognize_features
from core.training.run_context import RunContext, autocast


class FrozenRecognizer:
    """The trained head. The encoder of its recognizer is unused: features are computed before."""

    def __init__(self, model: Recognizer, training: HeadTraining, summary: dict[str, Any]) -> None:
        """model: the recognizer. training: the config and the context. summary: of the training."""
        self.model = model
        self.precision = training.config.precision
        self.context: RunContext = training.context
        self.summary = summary

    def encode(self, labels: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens (B, T) of labels, EOS and padding included, and their lengths (B,)."""
        tokens, lengths = self.model.charset.encode(labels, max(map(len, labels)) + 1)
        return tokens.to(device), lengths.to(device)

    @torch.inference_mode()
    def predict(self, batch: FeatureBatch, words: SelectedWords) -> list[HeadPrediction]:
        """The prediction for each word of a batch. words: of the subset."""
        with autocast(self.context.device, self.precision):
            texts = recognize_features(self.model, batch.features, beams=1)
            likelihoods = self._likelihoods(batch)
        return [
            HeadPrediction(*recognized, label, likelihood, len(label) + 1)
            for recognized, likelihood, label in zip(texts, likelihoods, batch.labels, strict=True)
        ]

    def _likelihoods(self, batch: FeatureBatch) -> list[float | None]:
        """NLL of each label under teacher forcing, EOS included; None if it cannot be expressed."""
        charset = self.model.charset
        max_length = self.model.config.max_length
        values: list[float | None] = [None] * len(batch.labels)
        rows = [
            row for row, label in enumerate(batch.labels) if charset.can_express(label, max_length)
        ]
        if rows:
            tokens, lengths = self.encode(
                [batch.labels[row] for row in rows], batch.features.device
            )
            losses = self.model.negative_log_likelihood(batch.features[rows], tokens, lengths)
            for row, loss in zip(rows, losses.tolist(), strict=True):
                values[row] = loss
        return values


def decoder_parts(model: Recognizer) -> list[nn.Module]:
    """All parts of a recognizer but its encoder."""
    return [module for name, module in model.named_children() if name != "encoder"]


def train_decoder(training: HeadTraining, head: DecoderHead) -> FrozenRecognizer:
    """Train the head. Raises Interrupted."""
    config = training.config
    torch.manual_seed(derive_seed(config.seed, "probe", "weights"))
    model = Recognizer(
        RecognizerModel(
            encoder=config.encoder,
            decoder=head.decoder,
            charset=config.charset,
            max_length=config.max_length,
        )
    )
    model.to(training.context.device).eval().requires_grad_(False)
    for part in decoder_parts(model):
        part.train().requires_grad_(True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=head.lr)
    schedule = OneCycleLR(optimizer, head.lr, head.steps, cycle_momentum=False)
    numbers = training.features.words.numbers
    summary: dict[str, Any] = {"steps": head.steps, "words": len(numbers)}
    trained = FrozenRecognizer(model, training, summary)
    progress = ProbeProgress(training.context, head.steps, "steps", "head decoder")
    loss = torch.zeros(())
    order = shuffled_batches(numbers, head.batch, head.steps, config.seed)
    for step, batch in enumerate(training.features.batches(order)):
        tokens, lengths = trained.encode(batch.labels, batch.features.device)
        count = len(batch.labels)
        seed = derive_seed(config.seed, "probe", "dropout", step)
        with (
            autocast(training.context.device, config.precision),
            position_seeded_dropout(model, seed, range(count), count),
        ):
            logits = model.decode_teacher_forced(batch.features, tokens, lengths)
            loss = sequence_cross_entropy(logits, tokens, lengths)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if head.clip is not None:
            nn.utils.clip_grad_norm_(parameters, head.clip)
        optimizer.step()
        schedule.step()
        progress.advance(1, count)
    summary["last_loss"] = float(loss.detach())
    model.eval()
    return trained
