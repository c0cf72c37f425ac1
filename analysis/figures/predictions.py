"""Grids of word images with the predictions of one evaluation run."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.Image import Image

from analysis.style import (
    CORRECT_COLOR,
    GRAY,
    PAGE,
    WRONG_COLOR,
    figure_of,
    grid,
    hide_axes,
    plain_label,
    styled,
)
from analysis.tables.prediction_files import Subsets, read_predictions
from core.data.word_images import WordImages, decode_image
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS, Prediction, Protocol, is_correct
from experiments.planning.data_roots import recorded_folder
from results.store import Store

COLUMNS = 6  # images in a row of a grid
LINE_WIDTH = 16  # characters; longer texts are wrapped
LINE_HEIGHT = 0.115  # inches
IMAGE_SIZE = (128, 32)  # pixels
NO_TEXT = "(nothing)"  # shown for an empty prediction
Item = TypeVar("Item")


@dataclass(frozen=True)
class CaptionedImage:
    """A word image with a text and its color above and below.

    `image` is None if it is not available."""

    image: Image | None
    above: tuple[str, str]
    below: tuple[str, str] = ("", GRAY)

    @property
    def text_lines(self) -> int:
        """Lines that both texts need together."""
        return sum(_wrap(text).count("\n") + 1 for text, _ in (self.above, self.below) if text)


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items at equal distances, including the first and the last."""
    positions = np.linspace(0, len(items) - 1, min(len(items), count), dtype=int)
    return [items[position] for position in np.unique(positions)]


def choose_examples(
    predictions: Sequence[Prediction], protocol: Protocol, count: int
) -> list[Prediction]:
    """Up to `count // 2` correct, then up to `count // 2` wrong predictions, evenly spaced."""
    correct = [item for item in predictions if is_correct(item, protocol)]
    wrong = [item for item in predictions if not is_correct(item, protocol)]
    return [item for part in (correct, wrong) for item in evenly_spaced(part, count // 2)]


@styled()
def image_grid(
    images: Sequence[CaptionedImage | None], title: str, row_labels: Sequence[str] = ()
) -> list[Axes]:
    """Captioned images, COLUMNS in a row; None leaves a cell empty.

    row_labels: texts left of the rows."""
    rows = max(math.ceil(len(images) / COLUMNS), 1)
    height = 0.35
    for start in range(0, rows * COLUMNS, COLUMNS):
        lines = [item.text_lines for item in images[start : start + COLUMNS] if item]
        height += 0.42 + LINE_HEIGHT * max(lines, default=1)
    axes = list(grid(rows, COLUMNS, PAGE, height).flat)
    for cell in axes:
        hide_axes(cell)
    for cell, label in zip(axes[::COLUMNS], row_labels, strict=False):
        cell.set_ylabel(plain_label(label), rotation=0, ha="right", va="center")
    for cell, item in zip(axes, images, strict=False):
        if item is not None:
            _draw_image(cell, item)
    figure_of(axes).suptitle(plain_label(title), fontsize=8)
    return axes


def _draw_image(axes: Axes, item: CaptionedImage) -> None:
    if item.image is not None:
        axes.imshow(item.image.resize(IMAGE_SIZE))
    else:
        centered: Any = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no image", color=GRAY, **centered)
    above, color = item.above
    axes.set_title(_wrap(above), color=color, pad=2, parse_math=False)
    below, color = item.below
    axes.set_xlabel(_wrap(below), color=color, labelpad=2, parse_math=False)


def _wrap(text: str) -> str:
    return "\n".join("\n".join(textwrap.wrap(line, LINE_WIDTH)) for line in text.split("\n"))


def prediction_grid(
    images: WordImages, predictions: Sequence[Prediction], protocol: Protocol, title: str
) -> Sequence[Axes]:
    """Images with their predictions: blue if correct, vermilion if wrong.

    A label that differs from the prediction is added in brackets.

    Args:
        images: the images of the subset.
        predictions: those to show.
        protocol: decides which predictions are correct.
        title: of the figure."""
    items = []
    for prediction in predictions:
        raw = images.raw(prediction.index)
        correct = is_correct(prediction, protocol)
        text = prediction.prediction or NO_TEXT
        if not correct or text != prediction.label:
            text = f"{text}\n[{prediction.label}]"
        color = CORRECT_COLOR if correct else WRONG_COLOR
        items.append(CaptionedImage(None if raw is None else decode_image(raw), (text, color)))
    return image_grid(items, title)


def figures_of_run(store: Store, run_id: str, count: int) -> dict[str, Figure]:
    """Subset -> grid of correct and wrong predictions of an evaluation run.

    count: the largest number of images in a grid.
    Raises UserError if the run or its data are not available."""
    run = store.run(run_id)
    if Path(run_id).name != run_id or not run.folder.is_dir():
        runs = store.run("evaluate").folder.parent
        known = ", ".join(sorted(path.name for path in runs.glob("evaluate-*")))
        raise UserError(
            f"{run_id}: no run below {runs}; name an evaluate run by its id"
            f" ({known or 'there is none yet'}), not a file"
        )
    record = run.record()
    if record["stage"] != "evaluate":
        raise UserError(
            f"{run_id}: a {record['stage']} run has no predictions; choose an evaluate run"
        )
    if record["metrics"].get("labels", "strict") != "strict":
        raise UserError(
            f"{run_id}: under label policy `released` a row may belong to another image; "
            "choose a run under `strict`"
        )
    protocol = PROTOCOLS[record["metrics"]["protocol"]]
    subsets: Subsets = read_predictions(run.folder / "predictions.csv")
    figures = {}
    for name, predictions in subsets.items():
        images = WordImages([recorded_folder(root, store) for root in record["data"][name]])
        correct = sum(is_correct(prediction, protocol) for prediction in predictions)
        title = (
            f"{name}: {correct:,} of {len(predictions):,} correct ({protocol.name}); "
            f"prediction, and [label] if it differs; {run_id}"
        )
        chosen = choose_examples(predictions, protocol, count)
        figures[name] = figure_of(prediction_grid(images, chosen, protocol, title))
    return figures


def write_grids(store: Store, run_id: str, out: Path, count: int) -> list[Path]:
    """Write one PNG per subset of an evaluation run.

    Args:
        store: the results folder.
        run_id: an evaluate run.
        out: folder of the PNG files, created if it does not exist.
        count: the largest number of images in a grid.

    Returns the paths of the files."""
    figures = figures_of_run(store, run_id, count)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = out / f"{run_id}.{name}.png"
        with styled():
            figure.savefig(path)
        paths.append(path)
    return paths
