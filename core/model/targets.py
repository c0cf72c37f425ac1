"""Targets of the reconstruction: pixels, random features, MAE features (Table 4), EMA features."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import (
    EmaFeatureTarget,
    Encoder,
    MaeFeatureTarget,
    PixelTarget,
    PretrainModel,
    RandomFeatureTarget,
)
from core.model.moving_average import AveragedTeacher
from core.model.vit import VisionTransformer, patchify, position_kind
from core.runtime import safetensors_io


class PixelPatches(nn.Module):
    """The pixels of each patch; `normalized`: zero mean, unit variance in it (MAE, eps 1e-6)."""

    def __init__(self, encoder: Encoder, normalized: bool) -> None:
        super().__init__()
        self.patch = encoder.patch
        self.normalized = normalized

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

    def load_teacher(self, weights: Mapping[str, Tensor], path: Path) -> None:
        """Replace the encoder by that of a teacher, with the teacher's position table.

        weights: tensors of the checkpoint file `path`. Raises UserError if sizes do not match."""
        config = teacher_encoder(self.encoder.config, weights)
        if config != self.encoder.config:
            self.encoder = VisionTransformer(config).requires_grad_(False)
        safetensors_io.load_into(self.encoder, weights, "encoder.", path)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, width)."""
        return normalized_features(self.encoder, images)


class EmaFeatures(AveragedTeacher):
    """As FrozenFeatures, of a moving average of the trained encoder (data2vec, DSHM)."""

    def __init__(self, target: EmaFeatureTarget, encoder: VisionTransformer) -> None:
        """encoder: the one that is trained. The moving average starts as its copy."""
        super().__init__(target, encoder)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, width)."""
        assert self.teacher is not None
        return normalized_features(self.teacher, images)


@torch.no_grad()
def normalized_features(encoder: VisionTransformer, images: Tensor) -> Tensor:
    """Patch features of whole images, normalized over features: (B, 3, H, W) -> (B, N, width)."""
    features = encoder(images)[:, 1:].float()  # [cls] is dropped
    return functional.layer_norm(features, features.shape[-1:])  # without affine parameters


def teacher_encoder(student: Encoder, weights: Mapping[str, Tensor]) -> Encoder:
    """The student's config with the kind of position table that the teacher's weights hold."""
    table = weights.get("encoder.positions")
    kind = None if table is None else position_kind(student, table)
    return student if kind is None else student.model_copy(update={"positions": kind})


def make_target(
    config: PretrainModel, encoder: VisionTransformer
) -> PixelPatches | FrozenFeatures | EmaFeatures:
    """The target that the config names. encoder: the one that is trained.

    Features of a frozen encoder start with random weights; `load_teacher` loads MAE features."""
    match config.target:
        case PixelTarget():
            return PixelPatches(config.encoder, config.target.normalized)
        case EmaFeatureTarget():
            return EmaFeatures(config.target, encoder)
        case RandomFeatureTarget() | MaeFeatureTarget():
            return FrozenFeatures(config.encoder)
    assert_never(config.target)
