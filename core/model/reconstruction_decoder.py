"""The linguistics-guided reconstruction decoder (section 3, Eq. 4).

Shapes: B images, N patches, V visible patches, D encoder features, W decoder width.
"""

import torch
from torch import Tensor, nn

from core.config import Encoder, ReconstructionDecoder
from core.model.kernels.dropout import Dropout
from core.model.kernels.layers import MultiHeadAttention
from core.model.vit import initialize, position_table, table_columns


class DecoderBlock(nn.Module):
    """Post-norm Transformer block; `order` names its sub-layers, e.g. SA-CA-FFN.

    SA: self-attention over the sequence F. CA: cross-attention from F to the guidance features F^.
    FFN: feed-forward network."""

    def __init__(self, config: ReconstructionDecoder) -> None:
        super().__init__()
        self.order = config.order.split("-")
        self.self_attention = MultiHeadAttention(config.width, config.heads, config.dropout)
        self.cross_attention = (
            MultiHeadAttention(config.width, config.heads, config.dropout)
            if "CA" in self.order
            else None
        )
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.feedforward, config.width),
        )
        self.dropout = Dropout(config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width, eps=1e-6) for _ in self.order)

    def forward(self, sequence: Tensor, guidance: Tensor | None) -> Tensor:
        """F (B, 1 + N, W), F^ (B, 1 + N, W) or None -> (B, 1 + N, W)."""
        for name, norm in zip(self.order, self.norms, strict=True):
            sequence = norm(sequence + self.dropout(self._sublayer(name, sequence, guidance)))
        return sequence

    def _sublayer(self, name: str, sequence: Tensor, guidance: Tensor | None) -> Tensor:
        output: Tensor
        if name == "FFN":
            output = self.feedforward(sequence)
        elif name == "SA":
            output = self.self_attention(sequence, sequence)
        elif self.cross_attention is None or guidance is None:
            raise ValueError("a block with cross-attention (CA) needs guidance features")
        else:
            output = self.cross_attention(sequence, guidance)
        return output


class GuidedDecoder(nn.Module):
    """Predicts the target of every patch from the visible features and the guidance features."""

    positions: Tensor

    def __init__(self, encoder: Encoder, config: ReconstructionDecoder, target_values: int) -> None:
        super().__init__()
        self.embed_visible = nn.Linear(encoder.width, config.width)
        self.embed_guidance = (
            nn.Linear(encoder.width, config.width) if "CA" in config.order else None
        )
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.width))
        table = position_table(config.width, encoder.patches, table_columns(encoder))
        self.register_buffer("positions", table, persistent=False)  # (1, 1 + N, W)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.predict = nn.Linear(config.width, target_values)
        initialize(self)

    def forward(self, features: Tensor, visible: Tensor, guidance: Tensor | None) -> Tensor:
        """Eq. 4: prediction of the target, (B, N, target_values).

        features: (B, 1 + V, D) of [cls] and the visible patches.
        visible: (B, V) numbers of the visible patches.
        guidance: (B, 1 + N, D) of the guidance view, [cls] included, or None."""
        embedded = self.embed_visible(features)  # (B, 1 + V, W)
        patches = self.positions.shape[1] - 1
        masked = self.mask_token.to(embedded.dtype).expand(len(features), patches, -1)
        index = visible[..., None].expand(-1, -1, embedded.shape[-1])
        filled = masked.scatter(1, index, embedded[:, 1:])  # (B, N, W)
        sequence = torch.cat([embedded[:, :1], filled], dim=1) + self.positions  # F: (B, 1 + N, W)
        if self.embed_guidance is not None and guidance is not None:
            guidance = self.embed_guidance(guidance)  # F^: (B, 1 + N, W)
        for block in self.blocks:
            sequence = block(sequence, guidance)
        prediction: Tensor = self.predict(self.norm(sequence))[:, 1:]
        return prediction
