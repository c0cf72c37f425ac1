"""Figures of reconstructions: hidden patches, views, targets, predictions and errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from analysis.figures.feature_visualizer import FeatureVisualizer
from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords
from analysis.figures.reconstruction import Reconstruction, reconstruct
from analysis.style import COLUMN, GRAY, grid, hide_axes, plain_label, styled

HIDDEN_GRAY = 0.55
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
def reconstruction_figure(
    models: Sequence[PretrainedModel],
    visualizers: Mapping[str, FeatureVisualizer],
    words: ProbeWords,
    number: int,
    seed: int = 0,
) -> np.ndarray:
    """Reconstructions of one word, one row of COLUMNS per model, in two blocks of four columns.

    `error` is the squared error of each hidden patch: black is 0, white is the error of the patch's
    mean target.

    Args:
        models: models with a decoder.
        visualizers: by pre-training run.
        words: the words of the batch.
        number: index of the word.
        seed: of masks and guidance views.

    Returns axes (models, 8)."""
    blocks = grid(2 * len(models), 4, COLUMN, 0.5 + 0.5 * len(models))
    axes = np.concatenate([blocks[: len(models)], blocks[len(models) :]], axis=1)
    for row, model in zip(axes, models, strict=True):
        reconstruction = reconstruct(model, words, seed)
        images = reconstruction_images(reconstruction, visualizers[model.run], words, number)
        for cell, title in zip(row, COLUMNS, strict=True):
            draw_image(cell, images[title], model.config.encoder.image)
        for cell in row[[0, 4]]:
            label = plain_label(model.name, 22)
            cell.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=6)
    for cell, title in zip(axes[0], COLUMNS, strict=True):
        cell.set_title(title.replace(", ", ",\n"), fontsize=7)
    return axes


def draw_image(axes: Axes, image: np.ndarray | None, size: tuple[int, int]) -> None:
    """Draw an image in [0, 1], stretched to `size` (height, width); `none` if it is None."""
    hide_axes(axes)
    height, width = size
    pixels = np.ones((height, width, 3)) if image is None else image
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    if image is None:
        centered: Any = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "none", color=GRAY, fontsize=7, **centered)


def reconstruction_images(
    reconstruction: Reconstruction,
    visualizer: FeatureVisualizer,
    words: ProbeWords,
    number: int,
) -> dict[str, np.ndarray | None]:
    """Column of COLUMNS -> image of one word, in [0, 1].

    The guidance view is None for a model without guidance.
    Predictions show the true target at visible patches, where the model predicts nothing.

    Args:
        reconstruction: of all words.
        visualizer: fitted for the same model.
        words: the same words.
        number: index of the word."""
    config = visualizer.config
    word = slice(number, number + 1)
    hidden = reconstruction.hidden[number]
    cover = np.kron(hidden.reshape(config.grid).numpy(), np.ones(config.patch))[..., None]
    image = words.images[number].permute(1, 2, 0).numpy() / 255
    view = None
    if reconstruction.view is not None:
        view = reconstruction.view[number].permute(1, 2, 0).numpy()
    target = reconstruction.target[word]
    prediction = torch.where(hidden[None, :, None], reconstruction.prediction[word], target)
    difference = reconstruction.prediction - reconstruction.target
    error = difference[number].square().mean(-1) * hidden
    mean_error = (reconstruction.target - visualizer.patch_means).square().mean((0, 2))  # (N,)
    return {
        "image": image,
        "hidden": np.where(cover > 0, HIDDEN_GRAY, image),
        "guidance view": view,
        "error": (error / mean_error).reshape(config.grid).clamp(max=1).numpy(),
        "target": visualizer.colors(target)[0],
        "prediction": visualizer.colors(prediction)[0],
        "target, read out": visualizer.pixels(target, words.images[word])[0],
        "prediction, read out": visualizer.pixels(prediction, words.images[word])[0],
    }
