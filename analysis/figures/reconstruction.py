"""What is reconstructed: hidden patches, guidance view, target and prediction as pictures, and the error as a number.

A feature is no picture. It is shown in two ways: as colors, the first three principal components of the targets (the same for
target and prediction), and as pixels, by a linear read-out fitted on other words' targets.
Shapes: B images, N patches, D target values, P pixel values of a patch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.figures.models import Pretrained
from analysis.figures.probe_words import Words
from analysis.style import COLUMN, GRAY, bare, grid, plain, styled
from analysis.tables.intervals import mean_value
from core.config import Encoder, Pretrain
from core.data.batches import to_unit
from core.model.masking import draw_visible, hidden_patches
from core.model.vit import patchify
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.views.guidance import draw_view, guidance_view, strength_of

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Reconstruction:
    """A model's reconstructions of B words."""

    hidden: Tensor  # (B, N) bool
    view: Tensor | None  # (B, 3, h, w) guidance views in [0, 1], or none
    target: Tensor  # (B, N, D)
    prediction: Tensor  # (B, N, D)

    @property
    def errors(self) -> np.ndarray:
        """Each word's reconstruction loss (Eq. 1): (B,)."""
        apart = (self.prediction - self.target).square().mean(-1)
        return ((apart * self.hidden).sum(1) / self.hidden.sum(1)).numpy()


@torch.inference_mode()
def reconstruct(
    model: Pretrained, words: Words, seed: int = 0, *, guided_by: str = "own"
) -> Reconstruction:
    """Reconstruct words as in pre-training, with the model's own mask and strength of guidance, drawn from `seed`.

    guided_by: the guidance view is of the word itself (`own`), or of the word before it in the batch (`other`), which tells how
    much of the reconstruction is read off the view. Raises UserError for a model that reconstructs nothing."""
    lmim, config = model.lmim, model.config
    assert isinstance(config, Pretrain)
    unit, count = to_unit(words.images, CPU), len(words)
    places = torch.arange(count)
    visible = draw_visible(
        config.mask,
        config.encoder,
        words.images,
        places,
        count,
        generator=generator(seed, "analysis", "mask"),
    )
    view = None
    if config.guidance is not None:
        drawn = draw_view(
            strength_of(config.guidance.strength),
            count,
            config.encoder.image,
            generator=generator(seed, "analysis", "view"),
        )
        view = guidance_view(unit.roll(1, 0) if guided_by == "other" else unit, drawn)
    output = lmim(words.inputs, None if view is None else view * 2 - 1, visible)
    return Reconstruction(
        hidden_patches(visible, config.encoder.patches), view, output.target, output.prediction
    )


def as_pictures(patches: Tensor, config: Encoder) -> np.ndarray:
    """Patches' values in (color, row, column) order, (B, N, P), as pictures (B, h, w, 3)."""
    (rows, columns), (height, width) = config.grid, config.patch
    cells = patches.reshape(len(patches), rows, columns, 3, height, width)
    return (
        cells.permute(0, 1, 4, 2, 5, 3)
        .reshape(len(patches), rows * height, columns * width, 3)
        .numpy()
    )


@dataclass(frozen=True)
class FeatureVisualizer:
    """How target values are looked at; fitted on other words' targets."""

    config: Encoder
    mean: Tensor  # (D,)
    at: Tensor  # (N, D) mean at each place
    components: Tensor  # (D, 3)
    low: Tensor  # (3,) of the fitted words' components
    high: Tensor  # (3,)
    read_out: (
        Tensor | None
    )  # (D + 1, P), to pixels in [0, 1]; None where the target is the pixels themselves

    def colors(self, values: Tensor) -> np.ndarray:
        """(B, N, D) -> (B, rows, columns, 3) in [0, 1]."""
        scaled = ((values - self.mean) @ self.components - self.low) / (self.high - self.low)
        return scaled.clamp(0, 1).unflatten(1, self.config.grid).numpy()

    def pixels(self, values: Tensor, images: Tensor) -> np.ndarray:
        """(B, N, D) -> (B, h, w, 3) in [0, 1]. Normalized pixels get mean and spread of their own patch, as in MAE."""
        if self.read_out is not None:
            whole = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1) @ self.read_out
        else:
            own = patchify(to_unit(images, CPU), self.config.patch)
            whole = values * (own.var(-1, keepdim=True) + 1e-6).sqrt() + own.mean(-1, keepdim=True)
        return as_pictures(whole.clamp(0, 1), self.config)


@torch.inference_mode()
def fit_lens(model: Pretrained, words: Words, ridge: float = 1e-3) -> FeatureVisualizer:
    """Fit colors and the linear read-out on `words`, which must not be those looked at. ridge: the penalty, for each patch."""
    target = model.lmim.target(words.inputs).float()  # (B, N, D)
    flat = target.flatten(0, 1)
    mean = flat.mean(0)
    _, _, directions = torch.linalg.svd(flat - mean, full_matrices=False)
    components = directions[:3].T
    projected = (flat - mean) @ components
    low, high = (torch.quantile(projected[:100_000], share, dim=0) for share in (0.02, 0.98))
    read_out = None
    config = model.config
    assert isinstance(config, Pretrain)
    if config.target.kind != "pixel":
        inputs = torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1).double()
        pixels = patchify(to_unit(words.images, CPU), config.encoder.patch).flatten(0, 1).double()
        gram = inputs.T @ inputs
        penalty = ridge * len(inputs) * torch.eye(len(gram), dtype=gram.dtype)
        read_out = torch.linalg.solve(gram + penalty, inputs.T @ pixels).float()
    return FeatureVisualizer(config.encoder, mean, target.mean(0), components, low, high, read_out)


def explained(lens: FeatureVisualizer, reconstruction: Reconstruction, words: Words) -> float:
    """Share of the pixels' variance that the read-out of the true targets explains (R squared): what pictures can show. It is 1
    where the target is the pixels."""
    pixels = words.images.permute(0, 2, 3, 1).numpy() / 255
    shown = lens.pixels(reconstruction.target, words.images)
    return 1 - float(((pixels - shown) ** 2).sum() / ((pixels - pixels.mean(0)) ** 2).sum())


COLUMNS = (
    "image",
    "hidden",
    "guidance view",
    "error",
    "target",
    "prediction",
    "target, read out",
    "prediction, read out",
)


@styled()
def panel(
    models: Sequence[Pretrained],
    lenses: Mapping[str, FeatureVisualizer],
    words: Words,
    number: int,
    seed: int = 0,
) -> np.ndarray:
    """One word under each model, in two bands of four columns: the image, what is hidden, the guidance view and each hidden
    patch's squared error (black: none; white: that of the mean target at its place); target and prediction as colors and as
    pixels. Returns axes (models, 8). lenses: by run."""
    bands = grid(2 * len(models), 4, COLUMN, 0.5 + 0.5 * len(models))
    axes = np.concatenate([bands[: len(models)], bands[len(models) :]], axis=1)
    for row, model in zip(axes, models, strict=True):
        made, lens = reconstruct(model, words, seed), lenses[model.run]
        image = words.images[number].permute(1, 2, 0).numpy() / 255
        for place, shown in zip(row, [image, *_pictures(made, lens, words, number)], strict=True):
            bare(place)
            extent = (0, image.shape[1], image.shape[0], 0)
            place.imshow(
                np.ones_like(image) if shown is None else shown,
                cmap="gray",
                vmin=0,
                vmax=1,
                extent=extent,
            )
            if shown is None:
                place.text(
                    0.5,
                    0.5,
                    "none",
                    ha="center",
                    va="center",
                    transform=place.transAxes,
                    color=GRAY,
                    fontsize=7,
                )
        for place in row[[0, 4]]:
            place.set_ylabel(plain(model.name, 22), rotation=0, ha="right", va="center", fontsize=6)
    for place, title in zip(axes[0], COLUMNS, strict=True):
        place.set_title(title.replace(", ", ",\n"), fontsize=7)
    return axes


def _pictures(
    made: Reconstruction, lens: FeatureVisualizer, words: Words, number: int
) -> list[np.ndarray | None]:
    """Of one word: all columns but the first. Visible patches show the truth in predictions, as nothing was predicted there."""
    config, one = lens.config, slice(number, number + 1)
    cover = np.kron(made.hidden[number].reshape(config.grid).numpy(), np.ones(config.patch))[
        ..., None
    ]
    image = words.images[number].permute(1, 2, 0).numpy() / 255
    prediction = torch.where(made.hidden[..., None], made.prediction, made.target)[one]
    error = (made.prediction - made.target)[number].square().mean(-1) * made.hidden[number]
    of_mean = (made.target - lens.at).square().mean((0, 2))  # (N,)
    return [
        np.where(cover > 0, 0.55, image),
        None if made.view is None else made.view[number].permute(1, 2, 0).numpy(),
        (error / of_mean).reshape(config.grid).clamp(max=1).numpy(),
        lens.colors(made.target[one])[0],
        lens.colors(prediction)[0],
        lens.pixels(made.target[one], words.images[one])[0],
        lens.pixels(prediction, words.images[one])[0],
    ]


LOSSES = (
    "own view, or none (%)",
    "another word's view (%)",
    "lost by the wrong view",
    "read-out of the target: R²",
)


def losses(
    models: Sequence[Pretrained],
    lenses: Mapping[str, FeatureVisualizer],
    words: Words,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each model reconstructs words it has not seen, over hidden patches, relative to predicting the mean target at
    each place of the lens's words (100 %): with the word's own guidance view, with another word's, and the paired difference.
    Intervals cover words. The column on the read-out is `explained`. lenses: by run."""
    lines: dict[str, dict[str, str]] = {}
    for model in models:
        lens, own = lenses[model.run], reconstruct(model, words, seed)
        plain_errors = Reconstruction(
            own.hidden, None, own.target, lens.at.expand_as(own.target)
        ).errors.mean()
        line = {LOSSES[0]: mean_value(100 * own.errors / plain_errors).told()}
        if own.view is not None:
            other = reconstruct(model, words, seed, guided_by="other")
            line[LOSSES[1]] = mean_value(100 * other.errors / plain_errors).told()
            line[LOSSES[2]] = mean_value(100 * (other.errors - own.errors) / plain_errors).told(
                sign="+"
            )
        pixels = lens.read_out is None
        lines[model.name] = line | {
            LOSSES[3]: "1, by definition" if pixels else f"{explained(lens, own, words):.2f}"
        }
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=list(LOSSES))
    return frame.fillna("–").rename_axis("row").reset_index()


def that_reconstruct(models: Sequence[Pretrained]) -> list[Pretrained]:
    """The models that reconstruct something. Raises UserError if none does."""
    found = [model for model in models if isinstance(model.config, Pretrain)]
    if not found:
        raise UserError(
            "none of these rows reconstructs anything whose weights are here; choose others"
        )
    return found
