"""A picture of guidance views: made for a batch (`core/views/guidance.py`) and image by image."""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from torch import Tensor

from analysis.bench.measure import Timing
from analysis.bench.per_image import per_image_view
from analysis.bench.setup import BenchSetup
from analysis.style import PAGE, hide_axes, styled
from core.data.word_images import decode_image, resize_image
from core.runtime.files import atomic_path
from core.runtime.seeds import generator
from core.views.guidance import STRENGTHS, apply_view, sample_view

SIZE = (32, 128)  # (height, width) of a view, in pixels
WORDS = 8
VIEWS_PER_WORD = 4  # made in each way


def write_view_grid(setup: BenchSetup, path: Path) -> list[Timing]:
    """Write the picture for the first eight images. Nothing is measured."""
    images = setup.images()
    decoded = [decode_image(images.raw(number) or b"") for number in range(WORDS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_view_grid([picture for picture in decoded if picture is not None], 0, path)
    print(f"{path}: guidance views made for a batch, and image by image", file=sys.stderr)
    return []


@styled()
def draw_view_grid(images: list[Image.Image], seed: int, path: Path) -> None:
    """A row for each word: the clean view, views made for a batch, views made image by image.

    images: of any size. seed: of the views. path: of the picture; its suffix is the format."""
    groups = _views(images, seed)
    widths = [len(columns) for columns in groups.values()]
    height = PAGE / sum(widths) / 3.7 * len(images) + 0.2  # inches
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.015, wspace=0.03, hspace=0.03)
    figure = Figure(figsize=(PAGE, height), layout=layout)
    subfigures = figure.subfigures(1, len(groups), squeeze=False, width_ratios=widths)[0]
    for subfigure, (heading, columns) in zip(subfigures, groups.items(), strict=True):
        subfigure.suptitle(heading, fontsize=8)
        _draw_columns(subfigure.subplots(len(images), len(columns), squeeze=False), columns)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])


def _views(images: list[Image.Image], seed: int) -> dict[str, list[Tensor]]:
    """Heading -> columns, each (B, 3, H, W) in [0, 1]."""
    clean = torch.stack([resize_image(image, SIZE) for image in images]) / 255
    source = generator(seed, "views")
    random = np.random.default_rng(seed)
    batched = []
    image_by_image = []
    for _ in range(VIEWS_PER_WORD):
        view = sample_view(STRENGTHS["medium"], len(images), SIZE, generator=source)
        batched.append(apply_view(clean, view))
        views = [per_image_view(image, SIZE, random) for image in images]
        image_by_image.append(torch.stack(views))
    return {
        "clean": [clean],
        "batched, at model size": batched,
        "image by image, at source size": image_by_image,
    }


def _draw_columns(axes: np.ndarray, columns: list[Tensor]) -> None:
    """axes: (B, columns). columns: each (B, 3, H, W)."""
    for row_axes, row in zip(axes, range(len(axes)), strict=True):
        for cell, column in zip(row_axes, columns, strict=True):
            hide_axes(cell)
            cell.imshow(column[row].permute(1, 2, 0).numpy(), vmin=0, vmax=1)
