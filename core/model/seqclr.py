"""SeqCLR on the ViT, the paper's second baseline (Aberdam et al., CVPR 2021, arXiv 2012.10873).

Sequence contrastive learning. Shapes: B images, N patches, D features, W windows along the width,
P projected features; K = B * W instances of a view.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.config import Contrast, Encoder
from core.model.vit import VisionTransformer, initialize
from core.runtime.distributed import SINGLE_PROCESS, ProcessGroup


def window_features(features: Tensor, grid: tuple[int, int], windows: int) -> Tensor:
    """Window-to-instance mapping: (B, 1 + N, D) encoder features -> (B, W, D).

    [cls] is dropped. The rows of the grid are averaged. The columns are pooled into `windows`
    windows of nearly equal width."""
    patches = features[:, 1:]
    rows_first = patches.reshape(len(patches), *grid, patches.shape[-1])  # (B, rows, columns, D)
    columns = rows_first.mean(1).transpose(1, 2)  # (B, D, columns)
    return functional.adaptive_avg_pool1d(columns, windows).transpose(1, 2)


def nt_xent(
    first: Tensor, second: Tensor, temperature: float, local: Tensor | None = None
) -> Tensor:
    """Normalized temperature-scaled cross-entropy over instances of two views; a scalar, in nats.

    Each of the 2 K instances is to be matched with its other view among the 2 K - 1 others.

    first, second: (K, P); row k of both comes from the same window of the same image.
    temperature: divides the cosine similarities.
    local: rows of both views over which the mean is taken; None takes all.
    Raises ValueError if shapes differ or there are fewer than two instances."""
    if first.shape != second.shape or len(first) < 2:
        shapes = [tuple(first.shape), tuple(second.shape)]
        raise ValueError(f"two views of at least two instances each are needed, not {shapes}")
    count = len(first)
    with torch.autocast(first.device.type, enabled=False):  # bf16 cannot resolve the similarities
        instances = functional.normalize(torch.cat([first, second]).float(), dim=1)  # (2 K, P)
        numbers = torch.arange(2 * count, device=instances.device)
        rows = numbers if local is None else torch.cat([local, local + count])
        similarity = instances[rows] @ instances.T / temperature  # (rows, 2 K)
        similarity = similarity.masked_fill(rows[:, None] == numbers, -torch.inf)
        return functional.cross_entropy(similarity, numbers.roll(count)[rows])


@dataclass(frozen=True)
class SeqCLROutput:
    """One forward pass: the loss, and the share of instances nearest to their other view."""

    loss: Tensor
    matched: Tensor


class SeqCLR(nn.Module):
    """Encoder and projection head. The head is used in pre-training only."""

    def __init__(
        self, encoder: Encoder, contrast: Contrast, process_group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        super().__init__()
        self.contrast = contrast
        self.process_group = process_group
        self.encoder = VisionTransformer(encoder)
        self.head = nn.Sequential(
            nn.Linear(encoder.width, encoder.width),
            nn.GELU(),
            nn.Linear(encoder.width, contrast.projection),
        )
        initialize(self.head)

    def instances(self, views: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, W, P)."""
        grid = self.encoder.config.grid
        windows = window_features(self.encoder(views), grid, self.contrast.windows)
        projected: Tensor = self.head(windows)
        return projected

    def forward(self, first: Tensor, second: Tensor, positions: Tensor, batch: int) -> SeqCLROutput:
        """The loss of these images, compared with all images of the batch, of all processes.

        first, second: (B, 3, H, W) in [-1, 1], two views of the same images.
        positions: (B,) the images' positions in the batch.
        batch: images of the whole batch."""
        views = torch.stack([self.instances(first), self.instances(second)], dim=1).float()
        gathered, present = self._gather(views, positions, batch)
        # numbers of these images among the present ones
        images = (present.cumsum(0) - 1)[positions.to(present.device)]
        # (K, P) each: the windows of an image are neighbors
        all_first, all_second = gathered.transpose(0, 1).flatten(1, 2)
        windows = torch.arange(self.contrast.windows, device=images.device)
        rows = (images[:, None] * self.contrast.windows + windows).flatten()
        loss = nt_xent(all_first, all_second, self.contrast.temperature, rows)
        return SeqCLROutput(loss, _matched(all_first, all_second, rows))

    def _gather(self, views: Tensor, positions: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """(B, 2, W, P) -> (present images, 2, W, P) of all processes, and (batch,) bool: present.

        An image that no process could read is absent. A column of ones marks present rows."""
        marked = torch.cat([views, torch.ones_like(views[..., :1])], dim=-1)
        gathered = self.process_group.all_gather_rows(marked, positions, batch)
        present = gathered[:, 0, 0, -1].detach() > 0
        return gathered[present, ..., :-1], present


@torch.no_grad()
def _matched(first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
    """Share of the instances `rows` of (K, P) views whose nearest second view is their own."""
    queries = functional.normalize(first[rows], dim=1)
    similarity = queries @ functional.normalize(second, dim=1).T
    return (similarity.argmax(1) == rows).float().mean()
