"""Connectionist temporal classification (CTC; Graves et al., 2006) on the columns of an encoder.

Shapes: B images, R rows and C columns of patches, D features, F = frames per column * C frames,
T positions of text, K classes: the characters' classes, then the blank.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Encoder, RecognizerModel
from core.model.cost import FRAMES_PER_COLUMN
from core.model.recognizer import Recognizer
from core.model.vit import VisionTransformer, initialize
from core.runtime.errors import UserError
from core.text.charset import Charset, make_charset


def column_features(features: Tensor, encoder: Encoder) -> Tensor:
    """(B, 1 + R * C, D) of [cls] and all patches -> (B, C, R * D): the patches of each column."""
    rows, columns = encoder.grid
    batch, _, width = features.shape
    patches = features[:, 1:].reshape(batch, rows, columns, width)
    return patches.transpose(1, 2).flatten(2)


def collapse(path: Sequence[int], blank: int) -> list[int]:
    """The classes of a path of frames without repetitions and blanks."""
    return [number for number, _ in groupby(path) if number != blank]


class CTCHead(nn.Module):
    """A linear classifier of columns, which gives FRAMES_PER_COLUMN frames for each of them.

    A character and the blank behind it need two frames."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        """encoder: whose columns are classified. classes: of the characters, without the blank."""
        super().__init__()
        self.encoder = encoder
        self.classes = classes + 1
        width = encoder.grid[0] * encoder.width
        self.classify = nn.Linear(width, FRAMES_PER_COLUMN * self.classes)
        initialize(self)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the encoder (B, 1 + R * C, D) -> logits (B, F, K)."""
        logits = self.classify(column_features(features, self.encoder))
        return cast(Tensor, logits.reshape(len(features), -1, self.classes))


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


def ctc_loss(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """The mean negative log-likelihood of the words; a scalar.

    logits: (B, F, K). tokens: (B, T). lengths: (B,), EOS included, which CTC does not predict."""
    return ctc_negative_log_likelihood(logits, tokens, lengths - 1).mean()


class CTCRecognizer(nn.Module):
    """ViT encoder -> CTC head. It has no decoder: all frames are predicted at once.

    It has the methods of `Recognizer` that evaluation uses."""

    def __init__(self, config: RecognizerModel) -> None:
        super().__init__()
        self.config = config
        self.charset: Charset = make_charset(config.charset)
        self.encoder = VisionTransformer(config.encoder)
        self.head = CTCHead(config.encoder, self.charset.classes)

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, F, K). images: (B, 3, H, W) in [-1, 1]; the text is not used."""
        return cast(Tensor, self.head(self.encoder(images)))

    def negative_log_likelihood(self, features: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Of each word over all its alignments, in nats: (B,).

        features: of the encoder, (B, 1 + R * C, D). tokens: (B, T). lengths: (B,), EOS included."""
        return ctc_negative_log_likelihood(self.head(features), tokens, lengths - 1)

    @torch.inference_mode()
    def greedy_decode_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest class of each frame, without repetitions and blanks, then EOS.

        features: of the encoder, (B, 1 + R * C, D).

        Returns tokens (B, F + 1) and probabilities (B, F + 1), whose first one is that of the
        whole path; the others are 1."""
        probabilities, classes = self.head(features).float().softmax(-1).max(-1)  # (B, F) each
        blank = self.head.classes - 1
        tokens = torch.full(
            (len(features), classes.shape[1] + 1), self.charset.eos, device=features.device
        )
        for row, path in enumerate(classes.tolist()):
            text = collapse(path, blank)
            tokens[row, : len(text)] = torch.tensor(text, dtype=tokens.dtype)
        of_path = torch.ones_like(tokens, dtype=probabilities.dtype)
        of_path[:, 0] = probabilities.prod(1)
        return tokens, of_path

    def beam_search_features(self, features: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """Raises UserError: CTC has no beam search here."""
        raise UserError(
            "evaluate.beams: a recognizer without decoder (CTC) decodes greedily; set 1"
        )


class JointRecognizer(Recognizer):
    """A recognizer with an auxiliary CTC head on its encoder, which only training uses.

    CTC aligns characters with columns from the first steps on, long before the attention decoder
    does (joint CTC and attention: arXiv 1609.06773).
    """

    def __init__(self, config: RecognizerModel) -> None:
        super().__init__(config)
        self.ctc = CTCHead(config.encoder, self.charset.classes)

    def forward(  # type: ignore[override]
        self, images: Tensor, tokens: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of the decoder (B, T, classes) and of the CTC head (B, F, K).

        images: (B, 3, H, W) in [-1, 1]. tokens: (B, T). lengths: (B,), EOS included."""
        features = self.encoder(images)  # (B, 1 + R * C, D)
        logits = self.decode_teacher_forced(features, tokens, lengths)
        return logits, self.ctc(features)


AnyRecognizer = Recognizer | CTCRecognizer


def make_recognizer(config: RecognizerModel) -> AnyRecognizer:
    """The recognizer of a config: with an attention decoder, or with CTC if it has none."""
    return CTCRecognizer(config) if config.decoder is None else Recognizer(config)
