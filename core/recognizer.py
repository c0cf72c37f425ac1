"""The recogniser: encoder with [cls], bridge, autoregressive text decoder; greedy reading with cached keys and values.

Shapes: B images, T positions of text, M = 1 + N image features, H heads, K features per head.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import RecognizerModel, TextDecoder
from core.dropout import Dropout, attention
from core.text import make_charset
from core.vit import VisionTransformer, initialise


def text_positions(length: int, width: int) -> Tensor:
    """Sinusoidal positions (1, length, width): sin on even, cos on odd dimensions, exponent 2 (j // 2) / width."""
    dimension = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (2 * (dimension // 2) / width)
    return torch.where(dimension % 2 == 0, angle.sin(), angle.cos())[None].float()


class Attention(nn.Module):
    """Multi-head attention without biases; keys and values can be made once and kept."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, K)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D) -> keys and values (B, H, S, K)."""
        return self._split(self.key(source)), self._split(self.value(source))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) over keys and values (B, H, S, K) -> (B, T, D). mask: true where a key may be seen."""
        dropout = self.dropout if self.training else 0.0
        mixed = attention(self._split(self.query(queries)), keys, values, mask, dropout)
        return self.out(mixed.transpose(1, 2).flatten(2))


class TextDecoderLayer(nn.Module):
    """Pre-norm layer: self-attention, cross-attention, feed-forward."""

    def __init__(self, config: TextDecoder) -> None:
        super().__init__()
        self.self_attention = Attention(config.width, config.heads, config.dropout)
        self.cross_attention = Attention(config.width, config.heads, config.dropout)
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            nn.GELU(),
            nn.Linear(config.feedforward, config.width),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3))
        self.dropout = Dropout(config.dropout)

    def forward(self, text: Tensor, image: tuple[Tensor, Tensor], past: "Cache | None", mask: Tensor | None) -> Tensor:
        """(B, T, D) text; image keys and values (B, H, M, K); with `past`, T is 1 and earlier positions come from it."""
        normed = self.norms[0](text)
        keys, values = self.self_attention.keys_values(normed)
        if past is not None:
            keys, values = past.append(keys, values)
        text = text + self.dropout(self.self_attention(normed, keys, values, mask))
        text = text + self.dropout(self.cross_attention(self.norms[1](text), *image))
        return text + self.dropout(self.feedforward(self.norms[2](text)))


class Cache:
    """Keys and values of the positions read so far, of one layer."""

    def __init__(self, like: Tensor, length: int) -> None:
        """like: (B, H, _, K), whose batch, heads, width, type and device are taken."""
        self.keys, self.values = (like.new_zeros(*like.shape[:2], length, like.shape[3]) for _ in range(2))
        self.filled = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add one position (B, H, 1, K); return all so far (B, H, filled, K)."""
        self.keys[:, :, self.filled] = keys[:, :, 0]
        self.values[:, :, self.filled] = values[:, :, 0]
        self.filled += 1
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]


class Recognizer(nn.Module):
    """ViT encoder -> bridge -> Transformer text decoder over characters."""

    positions: Tensor

    def __init__(self, config: RecognizerModel) -> None:
        super().__init__()
        self.config, self.charset = config, make_charset(config.charset)
        width = config.decoder.width
        self.encoder = VisionTransformer(config.encoder)
        self.bridge = nn.Sequential(nn.Linear(config.encoder.width, width), nn.LayerNorm(width))
        self.embedding = nn.Embedding(self.charset.classes + 1, width)
        self.register_buffer("positions", text_positions(config.max_length, width), persistent=False)
        self.layers = nn.ModuleList(TextDecoderLayer(config.decoder) for _ in range(config.decoder.layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classify = nn.Linear(width, self.charset.classes)
        self.dropout = Dropout(config.decoder.dropout)
        for part in (self.bridge, self.layers, self.norm, self.classify):
            initialise(part)

    def _stack(self) -> list[TextDecoderLayer]:
        return cast(list[TextDecoderLayer], list(self.layers))

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Teacher forcing: (B, 3, H, W), (B, T) tokens, (B,) lengths -> logits (B, T, classes).

        A step sees the tokens before it, but none from a word's EOS on."""
        begin = torch.full_like(tokens[:, :1], self.charset.begin)
        inputs = torch.cat([begin, tokens[:, :-1]], dim=1)
        text = self.dropout(self.embedding(inputs) + self.positions[:, : inputs.shape[1]])
        step = torch.arange(inputs.shape[1], device=inputs.device)
        mask = (step <= step[:, None]) & (step < lengths[:, None])[:, None, None]  # (B, 1, T, T)
        image = self.bridge(self.encoder(images))
        for layer in self._stack():
            text = layer(text, layer.cross_attention.keys_values(image), None, mask)
        return self.classify(self.norm(text))

    @torch.inference_mode()
    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy reading; each step computes one position. (B, 3, H, W) -> tokens (B, T), their probabilities (B, T).

        T ends at max_length, or once every word of the batch has ended."""
        image = self.bridge(self.encoder(images))
        sources = [layer.cross_attention.keys_values(image) for layer in self._stack()]
        caches = [Cache(keys, self.config.max_length) for keys, _ in sources]
        token = torch.full((len(images),), self.charset.begin, device=images.device)
        ended = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        tokens, probabilities = [], []
        for position in range(self.config.max_length):
            text = self.embedding(token)[:, None] + self.positions[:, position : position + 1]
            for layer, source, cache in zip(self._stack(), sources, caches, strict=True):
                text = layer(text, source, cache, None)
            probability, token = self.classify(self.norm(text))[:, 0].float().softmax(-1).max(-1)
            tokens.append(token)
            probabilities.append(probability)
            ended |= token == self.charset.eos
            if bool(ended.all()):
                break
        return torch.stack(tokens, dim=1), torch.stack(probabilities, dim=1)


def reading_loss(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Cross-entropy summed over steps up to and including EOS, divided by the batch size; scalar.

    logits: (B, T, classes). tokens: (B, T). lengths: (B,) EOS included."""
    losses = functional.cross_entropy(logits.float().transpose(1, 2), tokens, reduction="none")
    counted = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return (losses * counted).sum() / len(tokens)
