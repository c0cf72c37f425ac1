"""The linguistics-guided reconstruction decoder (section 3, Eq. 4)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Encoder, ReconstructionDecoder
from core.model.kernels.attention import attend
from core.model.kernels.dropout import Dropout
from core.model.vit import initialize, position_table, table_columns


class DecoderBlock(nn.Module):
    """Post-norm Transformer block; `order` names its sub-layers, e.g. SA-CA-FFN.

    SA is self-attention over the sequence F, CA cross-attention from F to the guidance features, FFN a feed-forward net."""

    def __init__(self, config: ReconstructionDecoder) -> None:
        super().__init__()

        def attention() -> nn.MultiheadAttention:
            return nn.MultiheadAttention(
                config.width, config.heads, dropout=config.dropout, batch_first=True
            )

        self.order = config.order.split("-")
        self.self_attention = attention()
        self.cross_attention = attention() if "CA" in self.order else None
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.feedforward, config.width),
        )
        self.dropout = Dropout(config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width, eps=1e-6) for _ in self.order)

    def forward(self, sequence: Tensor, guidance: Tensor | None) -> Tensor:
        """(B, 1 + N, D), (B, 1 + N, D) or None -> (B, 1 + N, D)."""
        for step, norm in zip(self.order, self.norms, strict=True):
            sequence = norm(sequence + self.dropout(self._sublayer(step, sequence, guidance)))
        return sequence

    def _sublayer(self, step: str, sequence: Tensor, guidance: Tensor | None) -> Tensor:
        if step == "FFN":
            return self.feedforward(sequence)
        if step == "SA":
            return mix(self.self_attention, sequence, sequence)
        if self.cross_attention is None or guidance is None:
            raise ValueError("a block with cross-attention needs guidance features")
        return mix(self.cross_attention, sequence, guidance)


def mix(attention: nn.MultiheadAttention, queries: Tensor, source: Tensor) -> Tensor:
    """Multi-head attention (B, T, D) over (B, S, D) -> (B, T, D): PyTorch's module, computed by core/model/kernels/attention.py."""
    width, dropout = attention.embed_dim, attention.dropout if attention.training else 0.0
    weight, bias, heads = attention.in_proj_weight, attention.in_proj_bias, attention.num_heads
    if queries is source:
        projected = [functional.linear(source, weight, bias)]
    else:
        projected = [
            functional.linear(queries, weight[:width], bias[:width]),
            functional.linear(source, weight[width:], bias[width:]),
        ]
    split = [one.unflatten(-1, (-1, heads, width // heads)) for one in projected]
    return attention.out_proj(attend(*split, dropout=dropout))


class GuidedDecoder(nn.Module):
    """Predicts the target at every patch from the visible features, led by the guidance features where there are any."""

    positions: Tensor

    def __init__(self, encoder: Encoder, config: ReconstructionDecoder, target_values: int) -> None:
        super().__init__()
        self.embed_visible = nn.Linear(encoder.width, config.width)
        self.embed_guidance = (
            nn.Linear(encoder.width, config.width) if "CA" in config.order else None
        )
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.width))
        table = position_table(config.width, encoder.patches, table_columns(encoder))
        self.register_buffer("positions", table, persistent=False)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.predict = nn.Linear(config.width, target_values)
        initialize(self)

    def forward(self, features: Tensor, visible: Tensor, guidance: Tensor | None) -> Tensor:
        """Features of [cls] and the visible patches (B, 1 + V, D), their numbers (B, V), guidance features
        (B, 1 + N, D) -> prediction (B, N, target_values)."""
        embedded = self.embed_visible(features)
        patches = self.mask_token.to(embedded.dtype).expand(
            len(features), self.positions.shape[1] - 1, -1
        )
        index = visible[..., None].expand(-1, -1, embedded.shape[-1])
        patches = patches.scatter(1, index, embedded[:, 1:])
        sequence = (
            torch.cat([embedded[:, :1], patches], dim=1) + self.positions
        )  # F: (B, 1 + N, width)
        if self.embed_guidance is not None and guidance is not None:
            guidance = self.embed_guidance(guidance)  # F^: (B, 1 + N, width), its [cls] included
        for block in self.blocks:
            sequence = block(sequence, guidance)
        return self.predict(self.norm(sequence))[:, 1:]
