"""How figures look, and what is kept of them: one style, colors that all tell apart, captions that say what made them."""

import base64
import html
import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from core.runtime.errors import UserError
from core.runtime.files import atomic_path, write_text
from core.synthetic.fonts import cjk_faces

COLUMN, PAGE = 3.35, 6.9  # inches: one column of a paper with two, and both
ON_SCREEN = 1.8  # so many times as large
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GRAY = (
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
    "savefig.dpi": 250,
}


@contextmanager
def styled() -> Iterator[None]:
    """What is drawn inside has the suite's style; `@styled()` makes it a function's. No window is opened."""
    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE | {"font.family": ["DejaVu Sans", *_cjk_families()]}):
        yield


@cache
def _cjk_families() -> list[str]:
    """The families of this system's fonts with Chinese characters, told to matplotlib; none where there is none."""
    try:
        paths = cjk_faces("中文")
    except UserError:
        return []
    for path in paths:
        font_manager.fontManager.addfont(path)
    return list(dict.fromkeys(font_manager.get_font(path).family_name for path in paths))


def plain(text: str, width: int = 0) -> str:
    """A name as figures take it: its dollar signs are no formula, a first underscore hides it from no legend.

    width: characters of a line, where it is to be broken."""
    lines = textwrap.wrap(text, width) if width else [text]
    told = "\n".join(lines).replace("$", r"\$")
    return f"\u200b{told}" if told.startswith("_") else told


def monospace() -> list[str]:
    """Families that tell l, I and 1 apart, and those of this system that have Chinese characters."""
    return ["DejaVu Sans Mono", *_cjk_families()]


def bare(axes: Axes) -> None:
    """No ticks, no frame: a picture."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def grid(rows: int, columns: int, width: float, height: float, **options: Any) -> np.ndarray:
    """Axes (rows, columns) of a new figure of so many inches; `options` as `Figure.subplots` takes them."""
    return Figure(figsize=(width, height), layout="constrained").subplots(
        rows, columns, squeeze=False, **options
    )


def palette(count: int) -> list[str]:
    """So many colors, which come again where there are more than can be told apart."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def legend_below(axes: Axes, columns: int) -> None:
    """The legend of `axes` below the figure's other parts."""
    handles, labels = axes.get_legend_handles_labels()
    figure_of(axes).legend(handles, labels, loc="outside lower center", ncols=columns)


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


def as_html_table(frame: pd.DataFrame) -> Html:
    """A table of texts and numbers, with nothing in it taken for HTML; an index that has a name is a column."""
    shown = frame.reset_index() if frame.index.name else frame
    return Html(
        shown.to_html(index=False, border=0, escape=True, float_format=lambda value: f"{value:.3g}")
    )


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, as notebooks and the report show it; `files` hold it for a paper."""

    png: bytes
    inches: float  # of its width
    caption: str
    files: tuple[Path, ...]

    def _repr_html_(self) -> str:
        image, caption = base64.b64encode(self.png).decode(), html.escape(self.caption)
        width = f"width:{ON_SCREEN * self.inches:.2f}in;max-width:100%"
        shown = f'<img alt="{caption}" src="data:image/png;base64,{image}" style="{width}">'
        return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class FigureWriter:
    """The figures of one results folder at one scale: each kept as PDF, PNG and caption below `folder`."""

    folder: Path
    scale: str

    def show(
        self,
        axes: Axes | Sequence[Axes] | np.ndarray,
        name: str,
        caption: str,
        runs: Sequence[str],
        seeds: Sequence[int],
    ) -> Picture:
        """Keep a figure as NAME.SCALE.pdf, .png and .txt; its caption ends with scale, seeds and runs."""
        name = f"{name}.{self.scale}"
        told = f"seed{'s' if len(seeds) != 1 else ''} {', '.join(map(str, seeds))}"
        caption = f"{caption} Scale {self.scale}, {told}; runs {', '.join(dict.fromkeys(runs))}."
        figure, drawn = figure_of(axes), io.BytesIO()
        with styled():
            figure.savefig(drawn, format="png", bbox_inches="tight")
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.folder / f"{name}.pdf") as temporary:
                figure.savefig(
                    temporary, format="pdf", bbox_inches="tight", metadata={"CreationDate": None}
                )
        with atomic_path(self.folder / f"{name}.png") as temporary:
            temporary.write_bytes(drawn.getvalue())
        write_text(self.folder / f"{name}.txt", caption + "\n")
        inches = Image.open(drawn).width / STYLE["savefig.dpi"]
        return Picture(
            drawn.getvalue(),
            inches,
            caption,
            tuple(self.folder / f"{name}.{kind}" for kind in ("pdf", "png", "txt")),
        )
