"""Pictures of what was read."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.Image import Image

from analysis.style import GRAY, PAGE, RIGHT, WRONG, bare, figure_of, grid, plain, styled
from analysis.tables.score import Subsets, read_predictions
from core.data.word_images import WordImages, decode
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS, Protocol, Reading, is_correct
from results.store import Store

COLUMNS = 6
CHARACTERS = 16  # of a line below or above a picture; longer texts go on on the next
Item = TypeVar("Item")


@dataclass(frozen=True)
class Pictured:
    """A word image, or None where it is not to be had, with what stands above and below it, each a text and its color."""

    picture: Image | None
    above: tuple[str, str]
    below: tuple[str, str] = ("", GRAY)


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of some items, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(len(items), most), dtype=int)
    return [items[place] for place in np.unique(places)]


def choose(readings: Sequence[Reading], protocol: Protocol, most: int) -> list[Reading]:
    """At most `most` readings, evenly spaced through the subset: as many right ones as wrong ones, right ones first."""
    right = [is_correct(reading, protocol) for reading in readings]
    parts = (
        [one for one, known in zip(readings, right, strict=True) if known is wanted]
        for wanted in (True, False)
    )
    return [one for part in parts for one in evenly(part, most // 2)]


@styled()
def picture_grid(
    words: Sequence[Pictured | None], title: str, sides: Sequence[str] = ()
) -> list[Axes]:
    """Pictures, so many to a row as fit on a page, with what is said of each. None leaves a place empty.

    sides: what stands to the left of each row."""
    rows = max(math.ceil(len(words) / COLUMNS), 1)
    lines = [
        [_lines(word) for word in words[COLUMNS * row :][:COLUMNS] if word] for row in range(rows)
    ]
    height = sum(0.42 + 0.115 * max(row, default=1) for row in lines) + 0.35
    axes = list(grid(rows, COLUMNS, PAGE, height).flat)
    for number, place in enumerate(axes):
        bare(place)
        if number % COLUMNS == 0 and number // COLUMNS < len(sides):
            place.set_ylabel(plain(sides[number // COLUMNS]), rotation=0, ha="right", va="center")
    for place, word in zip(axes, words, strict=False):
        if word is None:
            continue
        if word.picture is not None:
            place.imshow(word.picture.resize((128, 32)))
        else:
            place.text(
                0.5,
                0.5,
                "no picture",
                ha="center",
                va="center",
                color=GRAY,
                transform=place.transAxes,
            )
        place.set_title(_wrapped(word.above[0]), color=word.above[1], pad=2, parse_math=False)
        place.set_xlabel(_wrapped(word.below[0]), color=word.below[1], labelpad=2, parse_math=False)
    figure_of(axes).suptitle(plain(title), fontsize=8)
    return axes


def _wrapped(text: str) -> str:
    return "\n".join("\n".join(textwrap.wrap(line, CHARACTERS)) for line in text.split("\n"))


def _lines(word: Pictured) -> int:
    return sum(len(_wrapped(text).split("\n")) for text, _ in (word.above, word.below) if text)


def word_grid(
    images: WordImages, readings: Sequence[Reading], protocol: Protocol, title: str
) -> Sequence[Axes]:
    """Images with what was read above what the label says; blue where it is right, vermilion where it is wrong."""
    words = []
    for reading in readings:
        raw = images.raw(reading.index)
        right = is_correct(reading, protocol)
        told = reading.prediction or "(nothing)"
        text = told if right and told == reading.label else f"{told}\n[{reading.label}]"
        words.append(
            Pictured(None if raw is None else decode(raw), (text, RIGHT if right else WRONG))
        )
    return picture_grid(words, title)


def run_grids(store: Store, run_id: str, most: int) -> dict[str, Figure]:
    """Subset -> grid of an evaluation's right and wrong readings. Raises UserError if the run or its data are not there."""
    run = store.run(run_id)
    record = run.record()
    if record["stage"] != "evaluate":
        raise UserError(f"{run_id}: a {record['stage']} run reads nothing; name an evaluate run")
    if record["metrics"].get("labels", "strict") != "strict":
        raise UserError(
            f"{run_id}: under policy released a row may stand for another image; name a run under strict"
        )
    protocol = PROTOCOLS[record["metrics"]["protocol"]]
    subsets: Subsets = read_predictions(run.folder / "predictions.csv")
    grids = {}
    for name, readings in subsets.items():
        images = WordImages([root["path"] for root in record["data"][name]])
        correct = sum(is_correct(reading, protocol) for reading in readings)
        title = f"{name}: {correct:,} of {len(readings):,} right ({protocol.name}); read, and [label] where it differs; {run_id}"
        grids[name] = figure_of(
            word_grid(images, choose(readings, protocol, most), protocol, title)
        )
    return grids


def write_grids(store: Store, run_id: str, out: Path, most: int) -> list[Path]:
    """One PNG for each subset below `out`; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in run_grids(store, run_id, most).items():
        paths.append(out / f"{run_id}.{name}.png")
        with styled():
            figure.savefig(paths[-1])
    return paths
