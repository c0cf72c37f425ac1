"""How figures look, and what is kept of them: one style, colours that all tell apart, captions that say what made them."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.files import atomic_path, write_text

COLUMN, PAGE = 3.35, 6.9  # inches: one column of a paper with two, and both
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GREY = (
    *("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"),  # Okabe and Ito, 2008
    "#666666",
)
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
RIGHT, WRONG = BLUE, VERMILION
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "image.interpolation": "nearest",
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 200,
}


@contextmanager
def styled() -> Iterator[None]:
    """What is drawn inside has the suite's style; `@styled()` makes it a function's. No window is opened."""
    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        yield


def grid(rows: int, columns: int, width: float, height: float, **options: Any) -> np.ndarray:
    """Axes (rows, columns) of a new figure of so many inches; `options` as `Figure.subplots` takes them."""
    return Figure(figsize=(width, height), layout="constrained").subplots(rows, columns, squeeze=False, **options)


def palette(count: int) -> list[str]:
    """So many colours, which come again where there are more than can be told apart."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def legend_below(axes: Axes, columns: int) -> None:
    """The legend of `axes` below the figure's other parts."""
    figure_of(axes).legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def figure_of(axes: Axes | Sequence[Axes] | np.ndarray) -> Figure:
    """The figure that axes are in."""
    first = axes if isinstance(axes, Axes) else next(iter(np.asarray(axes, dtype=object).flat))
    figure = first.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


@dataclass(frozen=True)
class Html:
    """A part of a page, as notebooks show it."""

    text: str

    def _repr_html_(self) -> str:
        return self.text


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, as notebooks and the report show it; `files` hold it for a paper."""

    png: bytes
    caption: str
    files: tuple[Path, ...]

    def _repr_html_(self) -> str:
        image, caption = base64.b64encode(self.png).decode(), html.escape(self.caption)
        shown = f'<img alt="{caption}" src="data:image/png;base64,{image}" style="max-width:100%">'
        return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class Album:
    """The figures of one results folder at one scale: each kept as PDF, PNG and caption below `folder`."""

    folder: Path
    scale: str

    def show(
        self, axes: Axes | Sequence[Axes] | np.ndarray, name: str, caption: str, runs: Sequence[str], seeds: Sequence[int]
    ) -> Picture:
        """Keep a figure as NAME.pdf, NAME.png and NAME.txt; its caption ends with scale, seeds and runs."""
        told = f"seed{'s' if len(seeds) != 1 else ''} {', '.join(map(str, seeds))}"
        caption = f"{caption} Scale {self.scale}, {told}; runs {', '.join(dict.fromkeys(runs))}."
        figure, drawn = figure_of(axes), io.BytesIO()
        with styled():
            figure.savefig(drawn, format="png", bbox_inches="tight")
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.folder / f"{name}.pdf") as temporary:
                figure.savefig(temporary, format="pdf", bbox_inches="tight", metadata={"CreationDate": None})
        with atomic_path(self.folder / f"{name}.png") as temporary:
            temporary.write_bytes(drawn.getvalue())
        write_text(self.folder / f"{name}.txt", caption + "\n")
        return Picture(drawn.getvalue(), caption, tuple(self.folder / f"{name}.{kind}" for kind in ("pdf", "png", "txt")))
