"""SeqCLR: sequence contrastive learning (Aberdam et al., CVPR 2021, arXiv 2012.10873), the paper's second baseline, on the ViT.

Shapes: B images, N patches, D features, W windows along the width, P projected features; K = B * W instances of a view.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Contrast, Encoder
from core.vit import VisionTransformer, initialise


def window_features(features: Tensor, grid: tuple[int, int], windows: int) -> Tensor:
    """Encoder features to a few windows along the width (window-to-instance): (B, 1 + N, D) -> (B, W, D).

    [cls] is left out; the rows of the grid are averaged, then columns pooled into `windows` of nearly equal width."""
    columns = features[:, 1:].unflatten(1, grid).mean(1)  # (B, columns, D)
    return functional.adaptive_avg_pool1d(columns.transpose(1, 2), windows).transpose(1, 2)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised, temperature-scaled cross-entropy over the instances of two views; scalar, in nats.

    first, second: (K, P), row k of both from the same window of the same image. Each of the 2 K instances must find its other
    view among the 2 K - 1 others. Raises ValueError if shapes differ or there is nothing to tell apart."""
    if first.shape != second.shape or len(first) < 2:
        raise ValueError(
            f"two views of at least two instances each are needed, not {tuple(first.shape)}, {tuple(second.shape)}"
        )
    with torch.autocast(first.device.type, enabled=False):  # similarities as near as these need all their digits
        instances = functional.normalize(torch.cat([first, second]).float(), dim=1)
        similarity = instances @ instances.T / temperature  # (2 K, 2 K)
        similarity = similarity.masked_fill(torch.eye(len(instances), dtype=torch.bool, device=similarity.device), -torch.inf)
        partner = torch.arange(len(instances), device=similarity.device).roll(len(first))
        return functional.cross_entropy(similarity, partner)


@dataclass(frozen=True)
class Output:
    """One forward pass: the loss, and how often an instance is nearest to its other view."""

    loss: Tensor
    matched: Tensor


class SeqCLR(nn.Module):
    """Encoder and projection head. The head serves pre-training only."""

    def __init__(self, encoder: Encoder, contrast: Contrast) -> None:
        super().__init__()
        self.contrast = contrast
        self.encoder = VisionTransformer(encoder)
        self.head = nn.Sequential(
            nn.Linear(encoder.width, encoder.width), nn.GELU(), nn.Linear(encoder.width, contrast.projection)
        )
        initialise(self.head)

    def instances(self, views: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (K, P), an image's windows one after another."""
        windows = window_features(self.encoder(views), self.encoder.config.grid, self.contrast.windows)
        return self.head(windows).flatten(0, 1)

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Two views (B, 3, H, W) of the same images, in [-1, 1]."""
        one, other = self.instances(first), self.instances(second)
        with torch.no_grad():
            similarity = functional.normalize(one.float(), dim=1) @ functional.normalize(other.float(), dim=1).T
            matched = (similarity.argmax(1) == torch.arange(len(one), device=one.device)).float().mean()
        return Output(nt_xent(one, other, self.contrast.temperature), matched)
