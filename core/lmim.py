"""Linguistics-aware Masked Image Modeling: section 3 of the paper (CVPR 2025, arXiv 2503.18746).

Equations 1 to 3 are pure functions, and equation 4 is `GuidedDecoder`; `LMIM.forward` composes
them. Shapes: B images, N patches, V visible patches, D encoder features. Features hold [cls] first:
(B, 1 + N, D).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from core.config import PretrainModel
from core.model.alignment_repair import BatchPlace, make_repair
from core.model.masking import hidden_patches
from core.model.reconstruction_decoder import GuidedDecoder
from core.model.targets import make_target
from core.model.vit import VisionTransformer


def reconstruction_loss(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Eq. 1: L_recon, the mean squared error over hidden patches; a scalar.

    prediction, target: (B, N, values of the target). hidden: (B, N) bool.
    Raises ValueError if shapes differ or, on a CPU, if no patch is hidden."""
    if prediction.shape != target.shape or hidden.shape != target.shape[:2]:
        shapes = [tuple(tensor.shape) for tensor in (prediction, target, hidden)]
        raise ValueError(f"shapes of prediction, target and hidden do not match: {shapes}")
    if hidden.device.type == "cpu" and not hidden.any():  # on a GPU the check would wait for it
        raise ValueError("no patch is hidden")
    error = (prediction.float() - target.float()).square().mean(dim=-1)  # (B, N)
    return (error * hidden).sum() / hidden.sum()


def total_loss(reconstruction: Tensor, alignment: Tensor | None, weight: float) -> Tensor:
    """Eq. 2: L = L_recon + weight * L_align; a scalar.

    alignment: None without alignment. weight: 1 in the paper."""
    if alignment is None:
        return reconstruction
    return reconstruction + weight * alignment


def alignment_loss(cls: Tensor, guidance_cls: Tensor) -> Tensor:
    """Eq. 3: L_align, the squared distance of the two branches' [cls] features; a scalar.

    cls, guidance_cls: (B, D). The mean is over batch and features. Both branches receive its
    gradient, as in the released code. Raises ValueError if shapes differ."""
    if cls.shape != guidance_cls.shape:
        shapes = [tuple(cls.shape), tuple(guidance_cls.shape)]
        raise ValueError(f"[cls] features of the two branches differ in shape: {shapes}")
    return (cls.float() - guidance_cls.float()).square().mean()


def apply_stop_gradient(
    cls: Tensor, guidance_cls: Tensor, stop_gradient: str
) -> tuple[Tensor, Tensor]:
    """Detach the [cls] features of the branch that `stop_gradient` names.

    cls, guidance_cls: (B, D). stop_gradient: none (the paper), masked or guidance."""
    if stop_gradient == "masked":
        return cls.detach(), guidance_cls
    if stop_gradient == "guidance":
        return cls, guidance_cls.detach()
    return cls, guidance_cls


@dataclass(frozen=True)
class LMIMOutput:
    """Losses of one forward pass, and the tensors they follow from."""

    loss: Tensor  # Eq. 2
    reconstruction: Tensor  # Eq. 1
    alignment: Tensor | None  # Eq. 3, or a repair of it
    features: Tensor  # (B, 1 + V, D) masked reconstruction branch
    guidance_features: Tensor | None  # (B, 1 + N, D) linguistic guidance branch
    target: Tensor  # (B, N, values of the target)
    prediction: Tensor  # (B, N, values of the target)


class LMIM(nn.Module):
    """Two branches that share one encoder. Without guidance: masked image modeling, one branch."""

    def __init__(self, config: PretrainModel) -> None:
        super().__init__()
        self.config = config
        self.encoder = VisionTransformer(config.encoder)
        self.target = make_target(config, self.encoder)
        self.decoder = GuidedDecoder(config.encoder, config.decoder, config.target_values)
        self.repair = make_repair(config.alignment, self.encoder)  # None: Eq. 3 as it is

    def forward(
        self,
        images: Tensor,
        guidance_views: Tensor | None,
        visible: Tensor,
        target: Tensor | None = None,
        place: BatchPlace | None = None,
    ) -> LMIMOutput:
        """Features of both branches, prediction, target and losses.

        images: (B, 3, H, W) in [-1, 1].
        guidance_views: the same words in another look, like `images`; None for a single branch.
        visible: (B, V) numbers of the visible patches.
        target: (B, N, values of the target) of these images, if it is known.
        place: of these images in their batch, for repairs of Eq. 3; None: they are the batch."""
        features = self.encoder(images, visible)  # (B, 1 + V, D)
        guidance = None if guidance_views is None else self.encoder(guidance_views)
        prediction = self.decoder(features, visible, guidance)  # (B, N, values), Eq. 4
        if target is None:
            target = self.target(images)  # (B, N, values)

        hidden = hidden_patches(visible, target.shape[1])  # (B, N)
        reconstruction = reconstruction_loss(prediction, target, hidden)  # Eq. 1
        alignment = None
        weight = 0.0
        if self.config.alignment is not None and guidance is not None:
            weight = self.config.alignment.weight
            cls, guidance_cls = apply_stop_gradient(
                features[:, 0], guidance[:, 0], self.config.alignment.stop_gradient
            )
            if self.repair is None:
                alignment = alignment_loss(cls, guidance_cls)  # Eq. 3
            else:
                alignment = self.repair(cls, guidance_cls, guidance_views, place)
        loss = total_loss(reconstruction, alignment, weight)  # Eq. 2
        return LMIMOutput(loss, reconstruction, alignment, features, guidance, target, prediction)
