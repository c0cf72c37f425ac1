"""Pictures of what was read."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.score import Subsets, read_predictions
from core.data import WordImages, decode
from core.errors import UserError
from core.metrics import PROTOCOLS, Protocol, Reading, is_correct
from results.store import Store

matplotlib.use("Agg")  # files, never windows
RIGHT, WRONG = "#0072b2", "#d55e00"  # blue and vermilion: told apart by everyone (Okabe and Ito)
COLUMNS = 6


def choose(readings: Sequence[Reading], protocol: Protocol, most: int) -> list[Reading]:
    """At most `most` readings, evenly spaced through the subset: as many right ones as wrong ones, right ones first."""
    chosen: list[Reading] = []
    for wanted in (True, False):
        those = [reading for reading in readings if is_correct(reading, protocol) is wanted]
        places = np.unique(np.linspace(0, len(those) - 1, min(len(those), most // 2), dtype=int))
        chosen += [those[place] for place in places]
    return chosen


def word_grid(images: WordImages, readings: Sequence[Reading], protocol: Protocol, title: str) -> Sequence[Axes]:
    """Images with what was read above what the label says; blue where it is right, vermilion where it is wrong."""
    rows = max(math.ceil(len(readings) / COLUMNS), 1)
    figure = Figure(figsize=(2.1 * COLUMNS, 1.15 * rows + 0.5), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, COLUMNS)).flat)
    for place in axes:
        place.axis("off")
    for place, reading in zip(axes, readings, strict=False):
        raw = images.raw(reading.index)
        picture = None if raw is None else decode(raw)
        if picture is not None:
            place.imshow(picture.resize((128, 32)))
        right = is_correct(reading, protocol)
        told = reading.prediction or "(nothing)"
        text = told if right and told == reading.label else f"{told}\n[{reading.label}]"
        place.set_title(text.replace("$", r"\$"), fontsize=8, color=RIGHT if right else WRONG)
    figure.suptitle(title, fontsize=9)
    return axes


def run_grids(store: Store, run_id: str, most: int) -> dict[str, Figure]:
    """Subset -> grid of an evaluation's right and wrong readings. Raises UserError if the run or its data are not there."""
    run = store.run(run_id)
    record = run.record()
    if record["stage"] != "evaluate":
        raise UserError(f"{run_id}: a {record['stage']} run reads nothing; name an evaluate run")
    if record["metrics"].get("labels", "strict") != "strict":
        raise UserError(f"{run_id}: under policy released a row may stand for another image; name a run under strict")
    protocol = PROTOCOLS[record["metrics"]["protocol"]]
    subsets: Subsets = read_predictions(run.folder / "predictions.csv")
    grids = {}
    for name, readings in subsets.items():
        images = WordImages([root["path"] for root in record["data"][name]])
        correct = sum(is_correct(reading, protocol) for reading in readings)
        title = (
            f"{name}: {correct:,} of {len(readings):,} right ({protocol.name}); read, and [label] where it differs; {run_id}"
        )
        figure = word_grid(images, choose(readings, protocol, most), protocol, title)[0].figure
        assert isinstance(figure, Figure)
        grids[name] = figure
    return grids


def write_grids(store: Store, run_id: str, out: Path, most: int) -> list[Path]:
    """One PNG for each subset below `out`; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in run_grids(store, run_id, most).items():
        paths.append(out / f"{run_id}.{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths
