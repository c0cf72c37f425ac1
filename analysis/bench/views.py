"""Guidance views to look at: made in a batch (`core/views/guidance.py`) beside those made image by image."""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from torch import Tensor

from analysis.bench.measure import Row
from analysis.bench.per_image import per_image_view
from analysis.bench.work import Work
from analysis.style import PAGE, bare, styled
from core.data.word_images import decode, resize
from core.runtime.files import atomic_path
from core.runtime.seeds import generator
from core.views.guidance import STRENGTHS, draw_view, guidance_view

SIZE = (32, 128)
EACH = 4  # views of a word, made either way


def show_views(work: Work, path: Path) -> list[Row]:
    """Draw the grid of the first eight images; nothing is measured."""
    images = work.images()
    pictures = [
        picture for number in range(8) if (picture := decode(images.raw(number) or b"")) is not None
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    view_grid(pictures, 0, path)
    print(
        f"{path}: guidance views made in a batch beside those made image by image", file=sys.stderr
    )
    return []


@styled()
def view_grid(images: list[Image.Image], seed: int, path: Path) -> None:
    """A row for each word: the word as the model gets it, views made in a batch, views made image by image."""
    clean = torch.stack([resize(image, SIZE) for image in images]) / 255
    numbers, random = generator(seed, "views"), np.random.default_rng(seed)
    batched = [
        guidance_view(clean, draw_view(STRENGTHS["medium"], len(images), SIZE, generator=numbers))
        for _ in range(EACH)
    ]
    one_by_one = [
        torch.stack([per_image_view(image, SIZE, random) for image in images]) for _ in range(EACH)
    ]
    groups = {
        "clean": [clean],
        "batched, at model size": batched,
        "image by image, at source size": one_by_one,
    }
    shares = [len(columns) for columns in groups.values()]
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.015, wspace=0.03, hspace=0.03)
    figure = Figure(figsize=(PAGE, PAGE / sum(shares) / 3.7 * len(images) + 0.2), layout=layout)
    parts = figure.subfigures(1, len(groups), squeeze=False, width_ratios=shares)[0]
    for part, (heading, columns) in zip(parts, groups.items(), strict=True):
        part.suptitle(heading, fontsize=8)
        _draw_columns(part.subplots(len(images), len(columns), squeeze=False), columns)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])


def _draw_columns(places: np.ndarray, columns: list[Tensor]) -> None:
    """places: axes (B, columns); columns: (B, 3, H, W) each."""
    for row in range(len(places)):
        for axes, column in zip(places[row], columns, strict=True):
            bare(axes)
            axes.imshow(column[row].permute(1, 2, 0).numpy(), vmin=0, vmax=1)
