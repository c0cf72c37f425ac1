"""The recognizer: ViT encoder, bridge, autoregressive text decoder; greedy decoding, beam search.

Shapes: B images, T positions of text, D width of the decoder, M = 1 + N image features, H heads,
K features per head, W beams.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import RecognizerModel, TextDecoder
from core.model.kernels.attention import scaled_dot_product
from core.model.kernels.dropout import Dropout, SeededModule
from core.model.kernels.kv_cache import KVCache, head_by_head
from core.model.vit import VisionTransformer, initialize
from core.text.charset import make_charset

KeysValues = tuple[Tensor, Tensor]  # each (B, S, 1, H, K)


def text_positions(length: int, width: int) -> Tensor:
    """Sinusoidal positions (1, length, width): sin on even dimensions j, cos on odd ones.

    The angle is position / 10000^(2 (j // 2) / width)."""
    dimension = torch.arange(width, dtype=torch.float64)
    position = torch.arange(length, dtype=torch.float64)[:, None]
    angle = position / 10000 ** (2 * (dimension // 2) / width)
    return torch.where(dimension % 2 == 0, angle.sin(), angle.cos())[None].float()


class TextAttention(SeededModule):
    """Multi-head attention without biases, whose keys and values can be computed once and kept."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def split_heads(self, features: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 1, H, K)."""
        return features.view(*features.shape[:-1], 1, self.heads, -1)

    def keys_values(self, source: Tensor) -> KeysValues:
        """(B, S, D) -> keys and values, each (B, S, 1, H, K)."""
        return self.split_heads(self.key(source)), self.split_heads(self.value(source))

    def forward(
        self, text: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Queries of `text` (B, T, D) over keys and values (B, S, 1, H, K) -> (B, T, D).

        mask: (B, 1, T, S), true where a key may be attended to; None allows all keys."""
        queries = self.split_heads(self.query(text))
        dropout = self.dropout if self.training else 0.0
        seeds = self.next_seeds(len(queries), dropout)
        mixed = scaled_dot_product(queries, keys, values, mask=mask, dropout=dropout, seeds=seeds)
        output: Tensor = self.out(mixed)
        return output


class TextDecoderLayer(nn.Module):
    """Pre-norm layer: self-attention, cross-attention, feed-forward."""

    def __init__(self, config: TextDecoder) -> None:
        super().__init__()
        self.self_attention = TextAttention(config.width, config.heads, config.dropout)
        self.cross_attention = TextAttention(config.width, config.heads, config.dropout)
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            nn.GELU(),
            nn.Linear(config.feedforward, config.width),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3))
        self.dropout = Dropout(config.dropout)

    def forward(
        self, text: Tensor, image: KeysValues, cache: KVCache | None, mask: Tensor | None
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); with W beams (B * W, 1, D) -> (B * W, 1, D).

        text: features of the text positions.
        image: keys and values of the image features, (B, M, 1, H, K) each.
        cache: earlier positions; `text` is then one position. None computes all positions.
        mask: (B, 1, T, T), true where a position may be attended to; None allows all."""
        normed = self.norms[0](text)
        keys, values = self.self_attention.keys_values(normed)
        if cache is not None:
            keys, values = cache.append(keys, values)
        text = text + self.dropout(self.self_attention(normed, keys, values, mask))

        queries = self.norms[1](text).reshape(len(image[0]), -1, text.shape[-1])  # (B, T or W, D)
        crossed = self.cross_attention(queries, *image).reshape(text.shape)
        text = text + self.dropout(crossed)

        return text + cast(Tensor, self.dropout(self.feedforward(self.norms[2](text))))


class Recognizer(nn.Module):
    """ViT encoder -> bridge -> Transformer text decoder over characters."""

    positions: Tensor

    def __init__(self, config: RecognizerModel) -> None:
        super().__init__()
        if config.decoder is None:
            raise ValueError("this recognizer needs a decoder; CTCRecognizer has none")
        self.config = config
        self.charset = make_charset(config.charset)
        width = config.decoder.width
        self.encoder = VisionTransformer(config.encoder)
        self.bridge = nn.Sequential(nn.Linear(config.encoder.width, width), nn.LayerNorm(width))
        self.embedding = nn.Embedding(self.charset.classes + 1, width)
        table = text_positions(config.max_length, width)
        self.register_buffer("positions", table, persistent=False)  # (1, max_length, D)
        self.layers = nn.ModuleList(
            TextDecoderLayer(config.decoder) for _ in range(config.decoder.layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classify = nn.Linear(width, self.charset.classes)
        self.dropout = Dropout(config.decoder.dropout)
        for part in (self.bridge, self.layers, self.norm, self.classify):
            initialize(part)

    @property
    def decoder_layers(self) -> list[TextDecoderLayer]:
        """The layers with their type."""
        return cast(list[TextDecoderLayer], list(self.layers))

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Teacher forcing -> logits (B, T, classes).

        A position attends to the tokens before it, except to a word's EOS and what follows it.

        images: (B, 3, H, W) in [-1, 1]. tokens: (B, T). lengths: (B,), EOS included."""
        return self.decode_teacher_forced(self.encoder(images), tokens, lengths)

    def decode_teacher_forced(self, features: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """As `forward`, from the encoder's features (B, M, encoder width)."""
        bos = torch.full_like(tokens[:, :1], self.charset.bos)
        inputs = torch.cat([bos, tokens[:, :-1]], dim=1)
        text = self.dropout(self.embedding(inputs) + self.positions[:, : inputs.shape[1]])
        step = torch.arange(inputs.shape[1], device=inputs.device)
        causal = step <= step[:, None]  # (T, T)
        inside = (step < lengths[:, None])[:, None, None]  # (B, 1, 1, T)
        mask = causal & inside  # (B, 1, T, T)
        image = self.bridge(features)  # (B, M, D)
        for layer in self.decoder_layers:
            text = layer(text, layer.cross_attention.keys_values(image), None, mask)
        logits: Tensor = self.classify(self.norm(text))
        return logits

    def negative_log_likelihood(self, features: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Of each word under teacher forcing, EOS included, in nats: (B,).

        features: of the encoder, (B, M, encoder width). tokens: (B, T). lengths: (B,)."""
        logits = self.decode_teacher_forced(features, tokens, lengths)
        return token_cross_entropies(logits, tokens, lengths).sum(1)

    def image_sources(self, features: Tensor) -> list[KeysValues]:
        """Features of the encoder -> keys and values for each layer, (B, M, 1, H, K) each."""
        image = self.bridge(features)
        sources = []
        for layer in self.decoder_layers:
            keys, values = layer.cross_attention.keys_values(image)
            sources.append((head_by_head(keys), head_by_head(values)))
        return sources

    def decode_step(
        self, token: Tensor, sources: list[KeysValues], caches: list[KVCache]
    ) -> Tensor:
        """Logits (rows, classes) of the position after `token` (rows,), in fp32.

        sources: keys and values of the images, per layer (`encode_image`).
        caches: earlier positions, per layer; this one is added."""
        text = (self.embedding(token) + self.positions[:, caches[0].filled]).unsqueeze(1)
        for layer, source, cache in zip(self.decoder_layers, sources, caches, strict=True):
            text = layer(text, source, cache, None)
        logits: Tensor = self.classify(self.norm(text))[:, 0].float()
        return logits

    @torch.inference_mode()
    def greedy_decode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> the likeliest token of each position (B, T), its probability (B, T).

        T is at most max_length; decoding ends early once every word of the batch has its EOS."""
        return self.greedy_decode_features(self.encoder(images))

    @torch.inference_mode()
    def greedy_decode_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """As `greedy_decode`, from the encoder's features (B, M, encoder width)."""
        sources = self.image_sources(features)
        batch = len(features)
        caches = [KVCache(keys, batch, self.config.max_length) for keys, _ in sources]
        token = torch.full((batch,), self.charset.bos, device=features.device)
        ended = torch.zeros(batch, dtype=torch.bool, device=features.device)
        tokens = []
        probabilities = []
        for _ in range(self.config.max_length):
            logits = self.decode_step(token, sources, caches)
            probability, token = logits.softmax(-1).max(-1)
            tokens.append(token)
            probabilities.append(probability)
            ended |= token == self.charset.eos
            if bool(ended.all()):
                break
        return torch.stack(tokens, dim=1), torch.stack(probabilities, dim=1)

    @torch.inference_mode()
    def beam_search(self, images: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> tokens (B, T) of the best text, their probabilities (B, T).

        A text's score is the product of its probabilities, EOS included. Each step keeps the
        `beams` best prefixes of an image; a text that has its EOS keeps its score."""
        return self.beam_search_features(self.encoder(images), beams)

    @torch.inference_mode()
    def beam_search_features(self, features: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """As `beam_search`, from the encoder's features (B, M, encoder width)."""
        batch = len(features)
        classes = self.charset.classes
        device = features.device
        sources = self.image_sources(features)
        caches = [KVCache(keys, batch * beams, self.config.max_length) for keys, _ in sources]
        token = torch.full((batch * beams,), self.charset.bos, device=device)
        score = torch.full((batch, beams), -torch.inf, device=device)  # log-probability
        score[:, 0] = 0  # all beams start equal, so only the first one counts
        ended = torch.zeros(batch, beams, dtype=torch.bool, device=device)
        tokens = torch.empty(batch, beams, 0, dtype=torch.long, device=device)
        gains = torch.empty(batch, beams, 0, device=device)  # log-probability of each token
        first_row = torch.arange(batch, device=device)[:, None] * beams
        after_eos = torch.full((classes,), -torch.inf, device=device)
        after_eos[self.charset.eos] = 0  # the only continuation of a text that has its EOS
        for _ in range(self.config.max_length):
            logits = self.decode_step(token, sources, caches)
            gain = logits.log_softmax(-1).view(batch, beams, classes)
            gain = torch.where(ended[..., None], after_eos, gain)
            score, best = (score[..., None] + gain).flatten(1).topk(beams)  # (B, W), best first
            parent = best // classes
            chosen = best % classes
            token = chosen.flatten()
            for cache in caches:
                cache.reorder((first_row + parent).flatten())
            chosen_gain = gain.flatten(1).gather(1, best)
            tokens = torch.cat([_of_parents(tokens, parent), chosen[..., None]], dim=-1)
            gains = torch.cat([_of_parents(gains, parent), chosen_gain[..., None]], dim=-1)
            ended = ended.gather(1, parent) | (chosen == self.charset.eos)
            if bool(ended[:, 0].all()):  # the other beams can only lose score
                break
        return tokens[:, 0], gains[:, 0].exp()


def _of_parents(values: Tensor, parents: Tensor) -> Tensor:
    """(B, W, T) values, (B, W) parent beams -> (B, W, T): each beam's values of its parent."""
    return values.gather(1, parents[..., None].expand(-1, -1, values.shape[-1]))


def sequence_cross_entropy(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Cross-entropy summed over positions up to and including EOS, per image; a scalar.

    logits: (B, T, classes). tokens: (B, T). lengths: (B,), EOS included."""
    return token_cross_entropies(logits, tokens, lengths).sum() / len(tokens)


def token_cross_entropies(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Cross-entropy of each position up to and including EOS, 0 after it: (B, T).

    The arguments are those of `sequence_cross_entropy`."""
    losses = functional.cross_entropy(logits.float().transpose(1, 2), tokens, reduction="none")
    counted = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    return losses * counted
