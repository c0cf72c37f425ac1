"""Reconstructions of pre-trained models.

Shapes: B words, N patches, D target values of a patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords
from core.config import Pretrain
from core.data.batches import to_unit
from core.model.masking import hidden_patches, sample_visible
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.views.guidance import apply_view, sample_view, strength_of

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Reconstruction:
    """A model's reconstructions of B words."""

    hidden: Tensor  # (B, N) bool
    view: Tensor | None  # (B, 3, h, w) guidance views in [0, 1]; None without guidance
    target: Tensor  # (B, N, D)
    prediction: Tensor  # (B, N, D)

    @property
    def errors(self) -> np.ndarray:
        """Reconstruction loss (Eq. 1) of each word: (B,)."""
        squared = (self.prediction - self.target).square().mean(-1)
        return ((squared * self.hidden).sum(1) / self.hidden.sum(1)).numpy()


@torch.inference_mode()
def reconstruct(
    model: PretrainedModel, words: ProbeWords, seed: int = 0, *, swap_views: bool = False
) -> Reconstruction:
    """Reconstruct words with the masks and guidance views of the model's pre-training.

    Args:
        model: a model with a decoder.
        words: B words.
        seed: of masks and guidance views.
        swap_views: give each word the guidance view of the previous word. The increase of the error
            shows how much the prediction depends on the view.

    Raises UserError for a contrastive model, which has no decoder, and for an EMA target."""
    lmim = model.lmim
    config = model.config
    assert isinstance(config, Pretrain)
    count = len(words)
    visible = sample_visible(
        config.mask,
        config.encoder,
        words.images,
        torch.arange(count),
        count,
        generator=generator(seed, "analysis", "mask"),
    )
    view = None
    if config.guidance is not None:
        drawn = sample_view(
            strength_of(config.guidance.strength),
            count,
            config.encoder.image,
            generator=generator(seed, "analysis", "view"),
        )
        images = to_unit(words.images, CPU)
        view = apply_view(images.roll(1, 0) if swap_views else images, drawn)
    output = lmim(words.inputs, None if view is None else view * 2 - 1, visible)
    hidden = hidden_patches(visible, config.encoder.patches)
    return Reconstruction(hidden, view, output.target, output.prediction)


def with_decoder(models: Sequence[PretrainedModel]) -> list[PretrainedModel]:
    """The models with a decoder and a target that can be computed. UserError if there are none."""
    selected = [model for model in models if model.has_target]
    if not selected:
        raise UserError(
            "no row with available weights has a decoder and a target that is not a moving average;"
            " add weights with `run.py unbundle`, or choose other experiments"
        )
    return selected
