"""Linguistics-aware Masked Image Modeling: section 3 of the paper (CVPR 2025, arXiv 2503.18746).

Shapes: B images, N patches, V visible patches, D features. Features carry [cls] first: (B, 1 + N, D).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from core.config import PretrainModel
from core.model.masking import hidden_patches
from core.model.reconstruction_decoder import GuidedDecoder
from core.model.targets import make_target
from core.model.vit import VisionTransformer


def reconstruction_loss(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Eq. 1. Mean squared error over hidden patches; scalar.

    prediction, target: (B, N, D). hidden: (B, N) bool. Raises ValueError if shapes differ or nothing is hidden."""
    if prediction.shape != target.shape or hidden.shape != target.shape[:2]:
        raise ValueError(
            f"prediction {tuple(prediction.shape)}, target {tuple(target.shape)}, hidden {tuple(hidden.shape)}"
        )
    if hidden.device.type == "cpu" and not hidden.any():  # elsewhere to look would stall the device
        raise ValueError("nothing is hidden: there is nothing to reconstruct")
    error = (prediction.float() - target.float()).square().mean(dim=-1)
    return (error * hidden).sum() / hidden.sum()


def alignment_loss(cls: Tensor, guidance_cls: Tensor) -> Tensor:
    """Eq. 3. Squared distance between the two branches' [cls] features, mean over batch and features; scalar.

    cls, guidance_cls: (B, D). Both receive gradient, as in the released code. Raises ValueError if shapes differ."""
    if cls.shape != guidance_cls.shape:
        raise ValueError(
            f"[cls] of the two branches differ in shape: {tuple(cls.shape)}, {tuple(guidance_cls.shape)}"
        )
    return (cls.float() - guidance_cls.float()).square().mean()


def apply_stop_gradient(
    cls: Tensor, guidance_cls: Tensor, stop_gradient: str
) -> tuple[Tensor, Tensor]:
    """The two branches' [cls] for Eq. 3, that of the branch named by `stop_gradient` as a constant (the paper: none)."""
    return (
        cls.detach() if stop_gradient == "masked" else cls,
        guidance_cls.detach() if stop_gradient == "guidance" else guidance_cls,
    )


def total_loss(reconstruction: Tensor, alignment: Tensor | None, weight: float) -> Tensor:
    """Eq. 2. L = L_recon + weight * L_align; the paper's weight is 1, and None stands for no alignment."""
    return reconstruction if alignment is None else reconstruction + weight * alignment


@dataclass(frozen=True)
class Output:
    """One forward pass: the losses, and what they were made of (for figures and tests)."""

    loss: Tensor
    reconstruction: Tensor
    alignment: Tensor | None
    features: Tensor  # (B, 1 + V, D) masked reconstruction branch
    guidance_features: Tensor | None  # (B, 1 + N, D) linguistic guidance branch
    target: Tensor  # (B, N, target values)
    prediction: Tensor  # (B, N, target values)


class LMIM(nn.Module):
    """Two branches, one encoder. Without guidance it is masked image modelling with a single branch."""

    def __init__(self, config: PretrainModel) -> None:
        super().__init__()
        self.config = config
        self.encoder = VisionTransformer(config.encoder)
        self.target = make_target(config)
        self.decoder = GuidedDecoder(config.encoder, config.decoder, self.target.values)

    def forward(self, images: Tensor, guidance_views: Tensor | None, visible: Tensor) -> Output:
        """images, guidance_views: (B, 3, H, W) in [-1, 1]. visible: (B, V) numbers of the patches not hidden."""
        features = self.encoder(images, visible)
        guidance = None if guidance_views is None else self.encoder(guidance_views)
        prediction = self.decoder(features, visible, guidance)
        target = self.target(images)
        hidden = hidden_patches(visible, target.shape[1])

        reconstruction = reconstruction_loss(prediction, target, hidden)
        alignment, weight = None, 0.0
        if self.config.alignment is not None and guidance is not None:
            both = apply_stop_gradient(
                features[:, 0], guidance[:, 0], self.config.alignment.stop_gradient
            )
            alignment, weight = alignment_loss(*both), self.config.alignment.weight
        loss = total_loss(reconstruction, alignment, weight)
        return Output(loss, reconstruction, alignment, features, guidance, target, prediction)
