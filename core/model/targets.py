"""What is reconstructed at the hidden patches (Table 4): pixels, random features or MAE features of the whole image."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Encoder, PretrainModel
from core.model.vit import VisionTransformer, patchify, position_kind
from core.runtime import safetensors_io


class PixelPatches(nn.Module):
    """The patch's own pixels; `normalized` to zero mean and unit variance within each patch (MAE, eps 1e-6)."""

    def __init__(self, encoder: Encoder, normalized: bool) -> None:
        super().__init__()
        self.patch, self.normalized, self.values = encoder.patch, normalized, encoder.patch_values

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, patch values)."""
        patches = patchify(images, self.patch)
        if not self.normalized:
            return patches
        return (patches - patches.mean(-1, keepdim=True)) / (
            patches.var(-1, keepdim=True) + 1e-6
        ).sqrt()


class FrozenFeatures(nn.Module):
    """Patch features of a frozen encoder that sees the whole image, normalized over the feature dimension (no affine)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = VisionTransformer(encoder).requires_grad_(False)
        self.values = encoder.width

    def take(self, weights: Mapping[str, Tensor], path: Path) -> None:
        """Become the teacher in the file `path`, with its own position table. Raises UserError unless its sizes fit."""
        config = teacher_encoder(self.encoder.config, weights)
        if config != self.encoder.config:
            self.encoder = VisionTransformer(config).requires_grad_(False)
        safetensors_io.load_into(self.encoder, weights, "encoder.", path)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, width)."""
        features = self.encoder(images)[:, 1:].float()
        return functional.layer_norm(features, features.shape[-1:])


def teacher_encoder(student: Encoder, weights: Mapping[str, Tensor]) -> Encoder:
    """The student's sizes with the kind of position table that the teacher's file holds, where it holds one."""
    table = weights.get("encoder.positions")
    kind = None if table is None else position_kind(student, table)
    return student if kind is None else student.model_copy(update={"positions": kind})


def make_target(config: PretrainModel) -> PixelPatches | FrozenFeatures:
    """The target the config names. A feature target's encoder starts at random; for MAE features its weights are loaded."""
    if config.target.kind == "pixel":
        return PixelPatches(config.encoder, config.target.normalized)
    return FrozenFeatures(config.encoder)
