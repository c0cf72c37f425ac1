"""Targets of the reconstruction (Table 4): pixels, random features or MAE features."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Encoder, PretrainModel
from core.model.vit import VisionTransformer, patchify, position_kind
from core.runtime import safetensors_io


class PixelPatches(nn.Module):
    """The pixels of each patch; `normalized`: zero mean, unit variance in it (MAE, eps 1e-6)."""

    def __init__(self, encoder: Encoder, normalized: bool) -> None:
        super().__init__()
        self.patch = encoder.patch
        self.normalized = normalized
        self.values = encoder.patch_values

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, patch values)."""
        patches = patchify(images, self.patch)
        if not self.normalized:
            return patches
        mean = patches.mean(-1, keepdim=True)
        variance = patches.var(-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()


class FrozenFeatures(nn.Module):
    """Patch features of a frozen encoder that sees the whole image, normalized over features."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = VisionTransformer(encoder).requires_grad_(False)
        self.values = encoder.width

    def load_teacher(self, weights: Mapping[str, Tensor], path: Path) -> None:
        """Replace the encoder by that of a teacher, with the teacher's position table.

        weights: tensors of the checkpoint file `path`. Raises UserError if sizes do not match."""
        config = teacher_encoder(self.encoder.config, weights)
        if config != self.encoder.config:
            self.encoder = VisionTransformer(config).requires_grad_(False)
        safetensors_io.load_into(self.encoder, weights, "encoder.", path)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, width)."""
        features = self.encoder(images)[:, 1:].float()  # [cls] is dropped
        return functional.layer_norm(features, features.shape[-1:])  # without affine parameters


def teacher_encoder(student: Encoder, weights: Mapping[str, Tensor]) -> Encoder:
    """The student's config with the kind of position table that the teacher's weights hold."""
    table = weights.get("encoder.positions")
    kind = None if table is None else position_kind(student, table)
    return student if kind is None else student.model_copy(update={"positions": kind})


def make_target(config: PretrainModel) -> PixelPatches | FrozenFeatures:
    """The target that the config names.

    A feature target starts with random weights; `load_teacher` loads those of MAE features."""
    if config.target.kind == "pixel":
        return PixelPatches(config.encoder, config.target.normalized)
    assert config.target.kind in ("random_feature", "mae_feature"), config.target.kind
    return FrozenFeatures(config.encoder)
