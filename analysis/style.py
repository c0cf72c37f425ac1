"""The look of all figures, and the writer that saves figures with their captions."""

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
from core.synthetic.cjk_fonts import cjk_faces

COLUMN = 3.35  # inches: width of one column of a two-column paper
PAGE = 6.9  # inches: width of both columns
SCREEN_SCALE = 1.8  # figures are this much larger on a screen than on paper

# The colors of Okabe and Ito (2008), which color-blind readers can distinguish.
BLUE = "#0072b2"
VERMILION = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
SKY = "#56b4e9"
PURPLE = "#cc79a7"
GRAY = "#666666"
COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
CORRECT_COLOR = BLUE
WRONG_COLOR = VERMILION

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
    "axes.prop_cycle": cycler(color=COLORS),
    "image.interpolation": "nearest",
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # embeds fonts as TrueType, so that text in a PDF can be selected
    "savefig.dpi": 250,
}
FIGURE_SUFFIXES = ("pdf", "png", "txt")


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style to what is drawn inside; also a decorator. No window is opened."""
    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE | {"font.family": ["DejaVu Sans", *_cjk_families()]}):
        yield


@cache
def _cjk_families() -> list[str]:
    """Register this system's Chinese fonts in matplotlib. Returns their families."""
    try:
        paths = cjk_faces("中文")
    except UserError:
        return []
    for path in paths:
        font_manager.fontManager.addfont(path)
    return list(dict.fromkeys(font_manager.get_font(path).family_name for path in paths))


def plain_label(text: str, width: int = 0) -> str:
    """Escape a name for matplotlib, so that it is shown as it is written.

    A dollar sign starts no formula, and a leading underscore does not hide the name from a legend.
    width: break lines after this many characters (0: no line breaks)."""
    lines = textwrap.wrap(text, width) if width else [text]
    escaped = "\n".join(lines).replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped


def monospace() -> list[str]:
    """Font families in which l, I and 1 look different, then this system's Chinese families."""
    return ["DejaVu Sans Mono", *_cjk_families()]


def hide_axes(axes: Axes) -> None:
    """Remove ticks and frame, for axes that show an image."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def grid(rows: int, columns: int, width: float, height: float, **options: Any) -> np.ndarray:
    """Axes (rows, columns) of a new figure.

    Args:
        rows, columns: the number of axes.
        width, height: size of the figure in inches.
        options: keyword arguments of `Figure.subplots`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: np.ndarray = figure.subplots(rows, columns, squeeze=False, **options)
    return axes


def palette(count: int) -> list[str]:
    """`count` colors. They repeat after the sixth."""
    return [COLORS[number % len(COLORS)] for number in range(count)]


def legend_below(axes: Axes, columns: int) -> None:
    """Put the legend of `axes` below the rest of its figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure_of(axes).legend(handles, labels, loc="outside lower center", ncols=columns)


def figure_of(axes: Axes | Sequence[Axes] | np.ndarray) -> Figure:
    """The figure that contains `axes`."""
    first = axes if isinstance(axes, Axes) else next(iter(np.asarray(axes, dtype=object).flat))
    figure = first.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


@dataclass(frozen=True)
class Html:
    """A fragment of HTML that notebooks display."""

    text: str

    def _repr_html_(self) -> str:
        return self.text


def as_html_table(frame: pd.DataFrame) -> Html:
    """An HTML table with three significant digits. Texts are escaped.

    An index that has a name becomes the first column."""
    with_index = frame.reset_index() if frame.index.name else frame
    return Html(
        with_index.to_html(
            index=False, border=0, escape=True, float_format=lambda value: f"{value:.3g}"
        )
    )


@dataclass(frozen=True)
class SavedFigure:
    """A figure with its caption, which notebooks display. `files` are its PDF, PNG and caption."""

    png: bytes
    width: float  # inches
    caption: str
    files: tuple[Path, ...]

    def _repr_html_(self) -> str:
        image = base64.b64encode(self.png).decode()
        caption = html.escape(self.caption)
        style = f"width:{SCREEN_SCALE * self.width:.2f}in;max-width:100%"
        tag = f'<img alt="{caption}" src="data:image/png;base64,{image}" style="{style}">'
        return f"<figure>{tag}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class FigureWriter:
    """Saves figures of results at one scale as PDF, PNG and caption in `folder`."""

    folder: Path
    scale: str

    def save(
        self,
        axes: Axes | Sequence[Axes] | np.ndarray,
        name: str,
        caption: str,
        runs: Sequence[str],
        seeds: Sequence[int],
    ) -> SavedFigure:
        """Write NAME.SCALE.pdf, NAME.SCALE.png and NAME.SCALE.txt (the caption).

        Args:
            axes: any axes of the figure.
            name: first part of the file names.
            caption: one or more sentences. Scale, seeds and runs are appended.
            runs: ids of the runs that the figure shows.
            seeds: the seeds of these runs."""
        name = f"{name}.{self.scale}"
        seed_text = f"seed{'s' if len(seeds) != 1 else ''} {', '.join(map(str, seeds))}"
        run_text = ", ".join(dict.fromkeys(runs))
        caption = f"{caption} Scale {self.scale}, {seed_text}; runs {run_text}."
        figure = figure_of(axes)
        png = io.BytesIO()
        pdf_options: Any = {"bbox_inches": "tight", "metadata": {"CreationDate": None}}
        with styled():
            figure.savefig(png, format="png", bbox_inches="tight")
            with atomic_path(self.folder / f"{name}.pdf") as temporary:
                figure.savefig(temporary, format="pdf", **pdf_options)
        with atomic_path(self.folder / f"{name}.png") as temporary:
            temporary.write_bytes(png.getvalue())
        write_text(self.folder / f"{name}.txt", caption + "\n")
        width = Image.open(png).width / STYLE["savefig.dpi"]
        files = tuple(self.folder / f"{name}.{suffix}" for suffix in FIGURE_SUFFIXES)
        return SavedFigure(png.getvalue(), width, caption, files)
