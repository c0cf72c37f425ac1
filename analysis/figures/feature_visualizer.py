"""Shows target values as images, in two ways: as colors and as pixels.

Colors are the first three principal components of the targets. Pixels are a linear read-out that is
fitted on the targets of other words.
Shapes: B words, N patches, D target values of a patch, P pixel values of a patch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords
from analysis.figures.reconstruction import Reconstruction
from core.config import Encoder, Pretrain
from core.data.batches import to_unit
from core.model.vit import patchify

CPU = torch.device("cpu")
MAX_FITTED_PATCHES = 100_000  # limits time and memory of the quantiles


def unpatchify(patches: Tensor, config: Encoder) -> np.ndarray:
    """Inverse of `patchify`: (B, N, P) in (color, row, column) order -> images (B, h, w, 3)."""
    rows, columns = config.grid
    height, width = config.patch
    cells = patches.reshape(len(patches), rows, columns, 3, height, width)
    images = cells.permute(0, 1, 4, 2, 5, 3)
    return images.reshape(len(patches), rows * height, columns * width, 3).numpy()


@dataclass(frozen=True)
class FeatureVisualizer:
    """Shows target values as colors and as pixels.

    `fit_visualizer` fits it on words that are not shown."""

    config: Encoder
    mean: Tensor  # (D,)
    patch_means: Tensor  # (N, D) mean target of each patch
    components: Tensor  # (D, 3) principal components
    low: Tensor  # (3,) component values that are shown as 0
    high: Tensor  # (3,) component values that are shown as 1
    read_out: Tensor | None  # (D + 1, P) to pixels in [0, 1]; None if the target is pixels

    def colors(self, values: Tensor) -> np.ndarray:
        """(B, N, D) -> (B, rows, columns, 3) in [0, 1]."""
        scaled = ((values - self.mean) @ self.components - self.low) / (self.high - self.low)
        colors: np.ndarray = scaled.clamp(0, 1).numpy()
        return colors.reshape(len(colors), *self.config.grid, 3)

    def pixels(self, values: Tensor, images: Tensor) -> np.ndarray:
        """(B, N, D) -> (B, h, w, 3) in [0, 1].

        Normalized pixels get the mean and the standard deviation of the true patch, as in MAE.
        images: (B, 3, h, w)."""
        if self.read_out is not None:
            ones = torch.ones_like(values[..., :1])
            pixels = torch.cat([values, ones], dim=-1) @ self.read_out
        else:
            patches = patchify(to_unit(images, CPU), self.config.patch)
            deviation = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
            pixels = values * deviation + patches.mean(-1, keepdim=True)
        return unpatchify(pixels.clamp(0, 1), self.config)


@torch.inference_mode()
def fit_visualizer(
    model: PretrainedModel, words: ProbeWords, ridge: float = 1e-3
) -> FeatureVisualizer:
    """Fit colors and the linear read-out of a model's targets.

    Args:
        model: a model with a decoder.
        words: words that are not shown.
        ridge: penalty of the linear read-out, per patch."""
    target = model.lmim.target(words.inputs).float()  # (B, N, D)
    flat = target.flatten(0, 1)
    mean = flat.mean(0)
    _, _, directions = torch.linalg.svd(flat - mean, full_matrices=False)
    components = directions[:3].T
    projected = ((flat - mean) @ components)[:MAX_FITTED_PATCHES]
    low = torch.quantile(projected, 0.02, dim=0)
    high = torch.quantile(projected, 0.98, dim=0)
    config = model.config
    assert isinstance(config, Pretrain)
    read_out = None
    if config.target.kind != "pixel":
        read_out = _fit_read_out(flat, words, config.encoder, ridge)
    return FeatureVisualizer(config.encoder, mean, target.mean(0), components, low, high, read_out)


def _fit_read_out(flat: Tensor, words: ProbeWords, config: Encoder, ridge: float) -> Tensor:
    """Ridge regression from target values (B * N, D) to pixels: (D + 1, P)."""
    inputs = torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1).double()
    pixels = patchify(to_unit(words.images, CPU), config.patch).flatten(0, 1).double()
    gram = inputs.T @ inputs
    penalty = ridge * len(inputs) * torch.eye(len(gram), dtype=gram.dtype)
    weights: Tensor = torch.linalg.solve(gram + penalty, inputs.T @ pixels)
    return weights.float()


def explained_variance(
    visualizer: FeatureVisualizer, reconstruction: Reconstruction, words: ProbeWords
) -> float:
    """R squared of the pixels that are read out of the true targets.

    It limits what the images of a target can show.
    It is 1 for pixel targets."""
    pixels = words.images.permute(0, 2, 3, 1).numpy() / 255
    shown = visualizer.pixels(reconstruction.target, words.images)
    return 1 - float(((pixels - shown) ** 2).sum() / ((pixels - pixels.mean(0)) ** 2).sum())
