"""The recognizer: encoder with [cls], bridge, autoregressive text decoder; greedy and beam reading with cached keys and values.

Shapes: B images, W beams, T positions of text, M = 1 + N image features, H heads, K features per head.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import RecognizerModel, TextDecoder
from core.model.kernels.attention import attend
from core.model.kernels.dropout import Dropout
from core.model.vit import VisionTransformer, initialize
from core.text.charset import make_charset


def text_positions(length: int, width: int) -> Tensor:
    """Sinusoidal positions (1, length, width): sin on even, cos on odd dimensions, exponent 2 (j // 2) / width."""
    dimension = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (
        2 * (dimension // 2) / width
    )
    return torch.where(dimension % 2 == 0, angle.sin(), angle.cos())[None].float()


class Attention(nn.Module):
    """Multi-head attention without biases; keys and values can be made once and kept."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (1, self.heads, -1))  # (B, T, 1, H, K)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D) -> keys and values, each (B, S, 1, H, K)."""
        return self._split(self.key(source)), self._split(self.value(source))

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """(B, T, D) over keys and values (B, S, 1, H, K) -> (B, T, D). mask: true where a key may be seen."""
        dropout = self.dropout if self.training else 0.0
        return self.out(
            attend(self._split(self.query(queries)), keys, values, mask=mask, dropout=dropout)
        )


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

    def forward(
        self, text: Tensor, image: tuple[Tensor, Tensor], past: "Cache | None", mask: Tensor | None
    ) -> Tensor:
        """(B, T, D) text; image keys and values (B, M, 1, H, K). With `past`, T is 1, earlier positions come from it, and
        text may have several rows for an image (B * W, 1, D)."""
        normed = self.norms[0](text)
        keys, values = self.self_attention.keys_values(normed)
        if past is not None:
            keys, values = past.append(keys, values)
        text = text + self.dropout(self.self_attention(normed, keys, values, mask))
        queries = self.norms[1](text).reshape(len(image[0]), -1, text.shape[-1])
        text = text + self.dropout(self.cross_attention(queries, *image).reshape(text.shape))
        return text + self.dropout(self.feedforward(self.norms[2](text)))


class Cache:
    """Keys and values of the positions read so far, of one layer; a row for each text that is being read."""

    def __init__(self, like: Tensor, rows: int, length: int) -> None:
        """like: (_, _, 1, H, K), whose heads, width, type and device are taken."""
        _, _, _, heads, features = like.shape
        self.keys, self.values = (
            like.new_empty(rows, 1, heads, length, features).permute(0, 3, 1, 2, 4)
            for _ in range(2)
        )  # in memory head by head, as attention reads them
        self.filled = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add one position (rows, 1, 1, H, K); return all so far (rows, filled, 1, H, K)."""
        self.keys[:, self.filled] = keys[:, 0]
        self.values[:, self.filled] = values[:, 0]
        self.filled += 1
        return self.keys[:, : self.filled], self.values[:, : self.filled]

    def follow(self, rows: Tensor) -> None:
        """Let each row go on from what the row of the given number (rows,) has read."""
        for kept in (self.keys, self.values):
            kept[:, : self.filled] = kept[rows, : self.filled]


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
        self.register_buffer(
            "positions", text_positions(config.max_length, width), persistent=False
        )
        self.layers = nn.ModuleList(
            TextDecoderLayer(config.decoder) for _ in range(config.decoder.layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classify = nn.Linear(width, self.charset.classes)
        self.dropout = Dropout(config.decoder.dropout)
        for part in (self.bridge, self.layers, self.norm, self.classify):
            initialize(part)

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

    def _look(self, images: Tensor, beams: int) -> tuple[list[tuple[Tensor, Tensor]], list[Cache]]:
        """Each layer's keys and values of the images, and its empty cache."""
        image = self.bridge(self.encoder(images))
        sources = []
        for layer in self._stack():
            keys, values = layer.cross_attention.keys_values(image)
            sources.append((_head_by_head(keys), _head_by_head(values)))
        return sources, [
            Cache(keys, len(images) * beams, self.config.max_length) for keys, _ in sources
        ]

    def _next(
        self, token: Tensor, sources: list[tuple[Tensor, Tensor]], caches: list[Cache]
    ) -> Tensor:
        """Logits (rows, classes) of the position after `token` (rows,); computes that position alone."""
        text = (self.embedding(token) + self.positions[:, caches[0].filled]).unsqueeze(1)
        for layer, source, cache in zip(self._stack(), sources, caches, strict=True):
            text = layer(text, source, cache, None)
        return self.classify(self.norm(text))[:, 0].float()

    @torch.inference_mode()
    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy reading. (B, 3, H, W) -> tokens (B, T), their probabilities (B, T).

        T ends at max_length, or once every word of the batch has ended."""
        sources, caches = self._look(images, beams=1)
        token = torch.full((len(images),), self.charset.begin, device=images.device)
        ended = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        tokens, probabilities = [], []
        for _ in range(self.config.max_length):
            probability, token = self._next(token, sources, caches).softmax(-1).max(-1)
            tokens.append(token)
            probabilities.append(probability)
            ended |= token == self.charset.eos
            if bool(ended.all()):
                break
        return torch.stack(tokens, dim=1), torch.stack(probabilities, dim=1)

    @torch.inference_mode()
    def search(self, images: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """Beam search: of each image, the likeliest text among those that `beams` likeliest beginnings lead to; as `read`.

        A text's likelihood is the product of its probabilities, EOS included; what has ended is not gone on with."""
        batch, device = len(images), images.device
        sources, caches = self._look(images, beams)
        token = torch.full((batch * beams,), self.charset.begin, device=device)
        score = torch.full((batch, beams), -torch.inf, device=device)
        score[:, 0] = 0  # all beams begin alike: one is enough
        ended = torch.zeros(batch, beams, dtype=torch.bool, device=device)
        tokens = torch.empty(batch, beams, 0, dtype=torch.long, device=device)
        gains = torch.empty(batch, beams, 0, device=device)
        first = torch.arange(batch, device=device)[:, None] * beams
        stay = torch.full((self.charset.classes,), -torch.inf, device=device)
        stay[self.charset.eos] = 0  # the one way on for a text that has ended
        for _ in range(self.config.max_length):
            gain = self._next(token, sources, caches).log_softmax(-1).view(batch, beams, -1)
            gain = torch.where(ended[..., None], stay, gain)
            score, best = (
                (score[..., None] + gain).flatten(1).topk(beams)
            )  # (B, W), likeliest first
            parent, chosen = best // self.charset.classes, best % self.charset.classes
            token = chosen.flatten()
            for cache in caches:
                cache.follow((first + parent).flatten())
            tokens = torch.cat([_of(tokens, parent), chosen[..., None]], dim=-1)
            gains = torch.cat(
                [_of(gains, parent), gain.flatten(1).gather(1, best)[..., None]], dim=-1
            )
            ended = ended.gather(1, parent) | (chosen == self.charset.eos)
            if bool(ended[:, 0].all()):  # the others can only become less likely
                break
        return tokens[:, 0], gains[:, 0].exp()


def _head_by_head(projected: Tensor) -> Tensor:
    """The same (B, M, 1, H, K), laid out in memory as attention reads it; worth it where it is read many times."""
    return projected.permute(0, 2, 3, 1, 4).contiguous().permute(0, 3, 1, 2, 4)


def _of(beams: Tensor, parents: Tensor) -> Tensor:
    """(B, W, T), (B, W) -> (B, W, T): for each beam, what its parent holds."""
    return beams.gather(1, parents[..., None].expand(-1, -1, beams.shape[-1]))


def sequence_cross_entropy(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Cross-entropy summed over steps up to and including EOS, divided by the batch size; scalar.

    logits: (B, T, classes). tokens: (B, T). lengths: (B,) EOS included."""
    losses = functional.cross_entropy(logits.float().transpose(1, 2), tokens, reduction="none")
    counted = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return (losses * counted).sum() / len(tokens)
