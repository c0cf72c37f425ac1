"""SeqCLR: sequence contrastive learning (Aberdam et al., CVPR 2021, arXiv 2012.10873), the paper's second baseline, on the ViT.

Shapes: B images, N patches, D features, W windows along the width, P projected features; K = B * W instances of a view.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Contrast, Encoder
from core.model.vit import VisionTransformer, initialize
from core.runtime.distributed import SINGLE_PROCESS, ProcessGroup


def window_features(features: Tensor, grid: tuple[int, int], windows: int) -> Tensor:
    """Encoder features to a few windows along the width (window-to-instance): (B, 1 + N, D) -> (B, W, D).

    [cls] is left out; the rows of the grid are averaged, then columns pooled into `windows` of nearly equal width."""
    columns = features[:, 1:].unflatten(1, grid).mean(1)  # (B, columns, D)
    return functional.adaptive_avg_pool1d(columns.transpose(1, 2), windows).transpose(1, 2)


def nt_xent(first: Tensor, second: Tensor, temperature: float, own: Tensor | None = None) -> Tensor:
    """Normalized, temperature-scaled cross-entropy over the instances of two views; scalar, in nats.

    first, second: (K, P), row k of both from the same window of the same image. Each of the 2 K instances must find its other
    view among the 2 K - 1 others; the mean is over all of them, or over the rows `own` of both views. Raises ValueError if
    shapes differ or there is nothing to tell apart."""
    if first.shape != second.shape or len(first) < 2:
        raise ValueError(
            f"two views of at least two instances each are needed, not {tuple(first.shape)}, {tuple(second.shape)}"
        )
    with torch.autocast(
        first.device.type, enabled=False
    ):  # similarities as near as these need all their digits
        instances = functional.normalize(torch.cat([first, second]).float(), dim=1)
        numbers = torch.arange(len(instances), device=instances.device)
        rows = numbers if own is None else torch.cat([own, own + len(first)])
        similarity = instances[rows] @ instances.T / temperature  # (2 K, 2 K), or those rows of it
        similarity = similarity.masked_fill(rows[:, None] == numbers, -torch.inf)
        return functional.cross_entropy(similarity, numbers.roll(len(first))[rows])


@dataclass(frozen=True)
class Output:
    """One forward pass: the loss, and how often an instance is nearest to its other view."""

    loss: Tensor
    matched: Tensor


class SeqCLR(nn.Module):
    """Encoder and projection head. The head serves pre-training only."""

    def __init__(
        self, encoder: Encoder, contrast: Contrast, team: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        super().__init__()
        self.contrast, self.process_group = contrast, team
        self.encoder = VisionTransformer(encoder)
        self.head = nn.Sequential(
            nn.Linear(encoder.width, encoder.width),
            nn.GELU(),
            nn.Linear(encoder.width, contrast.projection),
        )
        initialize(self.head)

    def instances(self, views: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, W, P)."""
        return self.head(
            window_features(self.encoder(views), self.encoder.config.grid, self.contrast.windows)
        )

    def forward(self, first: Tensor, second: Tensor, places: Tensor, batch: int) -> Output:
        """Two views (B, 3, H, W) of the same images, in [-1, 1], and the images' places in a batch of so many.

        The loss is these images' own; they are compared with all images of the batch, whichever process has them."""
        both = torch.stack(
            [self.instances(first), self.instances(second)], dim=1
        ).float()  # (B, 2, W, P)
        marked = torch.cat(
            [both, torch.ones_like(both[..., :1])], dim=-1
        )  # to tell rows that are there
        whole = self.process_group.gather_rows(marked, places, batch)
        there = whole[:, 0, 0, -1].detach() > 0  # (batch,)
        own = (there.cumsum(0) - 1)[places.to(there.device)]  # of the images that are there, these
        one, other = (
            whole[there, ..., :-1].transpose(0, 1).flatten(1, 2)
        )  # (K, P) each, an image's windows one after another
        windows = torch.arange(self.contrast.windows, device=own.device)
        rows = (own[:, None] * self.contrast.windows + windows).flatten()
        with torch.no_grad():
            similarity = (
                functional.normalize(one[rows], dim=1) @ functional.normalize(other, dim=1).T
            )
            matched = (similarity.argmax(1) == rows).float().mean()
        return Output(nt_xent(one, other, self.contrast.temperature, rows), matched)
