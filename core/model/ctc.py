"""Connectionist temporal classification (CTC; Graves et al., 2006) on the columns of an encoder.

Shapes: B images, R rows and C columns of patches, D features, F = frames per column * C frames,
T positions of text, K classes: the characters' classes, then the blank.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Encoder, RecognizerModel
from core.model.recognizer import Recognizer
from core.model.vit import initialize


def column_features(features: Tensor, encoder: Encoder) -> Tensor:
    """(B, 1 + R * C, D) of [cls] and all patches -> (B, C, D): the mean over the rows."""
    rows, columns = encoder.grid
    return features[:, 1:].unflatten(1, (rows, columns)).mean(1)


class CTCHead(nn.Module):
    """A linear classifier of columns. Each column gives several frames.

    A character and the blank behind it need two frames, so a narrow patch grid has too few columns
    of one frame each.
    """

    def __init__(self, width: int, classes: int, frames_per_column: int = 2) -> None:
        """width: D. classes: K, the blank included. frames_per_column: outputs for each column."""
        super().__init__()
        self.classes = classes
        self.classify = nn.Linear(width, frames_per_column * classes)
        initialize(self)

    def forward(self, columns: Tensor) -> Tensor:
        """(B, C, D) -> logits (B, F, K)."""
        return cast(Tensor, self.classify(columns).reshape(len(columns), -1, self.classes))


def ctc_negative_log_likelihood(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Negative log-likelihood of each word, in nats: (B,). A word that cannot be aligned gives 0.

    logits: (B, F, K); the last class is the blank.
    tokens: (B, T) classes of the characters.
    lengths: (B,) number of characters.
    """
    frames = torch.full((len(logits),), logits.shape[1], dtype=torch.long)
    return functional.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),  # (F, B, K)
        tokens,
        frames,
        lengths,
        blank=logits.shape[-1] - 1,
        reduction="none",
        zero_infinity=True,
    )


class JointRecognizer(Recognizer):
    """A recognizer with an auxiliary CTC head on its encoder, which only training uses.

    CTC aligns characters with columns from the first steps on, long before the attention decoder
    does (joint CTC and attention: arXiv 1609.06773).
    """

    def __init__(self, config: RecognizerModel) -> None:
        super().__init__(config)
        self.ctc = CTCHead(config.encoder.width, self.charset.classes + 1)

    def forward(  # type: ignore[override]
        self, images: Tensor, tokens: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of the decoder (B, T, classes) and of the CTC head (B, F, classes + 1).

        images: (B, 3, H, W) in [-1, 1]. tokens: (B, T). lengths: (B,), EOS included."""
        features = self.encoder(images)  # (B, 1 + N, D)
        logits = self.decode_teacher_forced(features, tokens, lengths)
        return logits, self.ctc(column_features(features, self.config.encoder))
