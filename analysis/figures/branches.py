"""A sketch of LMIM: two branches, shared encoder, decoder, and the losses (Eq. 1 to 4)."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from analysis.style import BLUE, GRAY, VERMILION, grid, styled

WIDTH = 9.0  # inches
HEIGHT = 4.4  # inches; the axes have one unit per inch
PALE_BLUE = "#e3f0f9"
PALE_ORANGE = "#fbe6da"
PALE_GRAY = "#f0f0f0"
TEXT_SIZE = 10.5
UPPER = 3.05  # y of the masked reconstruction branch
LOWER = 0.95  # y of the linguistic guidance branch


@dataclass(frozen=True)
class Box:
    """A labeled box with its center and size, in units of the axes."""

    text: str
    x: float
    y: float
    width: float
    height: float
    face: str = PALE_GRAY
    edge: str = GRAY

    @property
    def left(self) -> tuple[float, float]:
        return (self.x - self.width / 2, self.y)

    @property
    def right(self) -> tuple[float, float]:
        return (self.x + self.width / 2, self.y)

    @property
    def top(self) -> tuple[float, float]:
        return (self.x, self.y + self.height / 2)

    @property
    def bottom(self) -> tuple[float, float]:
        return (self.x, self.y - self.height / 2)


MASKED = Box("visible patches\nof the image", 0.95, UPPER, 1.6, 0.8, PALE_BLUE, BLUE)
VIEW = Box("guidance view\n(no patch hidden)", 0.95, LOWER, 1.6, 0.8, PALE_ORANGE, VERMILION)
ENCODER = Box("shared\nencoder", 2.75, (UPPER + LOWER) / 2, 1.0, UPPER - LOWER + 0.8)
FEATURES = Box("[cls] + visible\nfeatures", 4.35, UPPER, 1.4, 0.8, PALE_BLUE, BLUE)
GUIDANCE = Box("[cls] + all\nfeatures", 4.35, LOWER, 1.4, 0.8, PALE_ORANGE, VERMILION)
DECODER = Box("decoder\n(Eq. 4)", 6.1, UPPER, 1.0, 0.8)
PREDICTION = Box("prediction", 7.95, UPPER, 1.2, 0.6, PALE_BLUE, BLUE)
TARGET = Box("target: features\nof the whole image\n(frozen teacher)", 7.95, LOWER, 1.6, 0.95)
BOXES = (MASKED, VIEW, ENCODER, FEATURES, GUIDANCE, DECODER, PREDICTION, TARGET)


@styled()
def branches_figure() -> Axes:
    """Draw the sketch. Boxes are data or modules, arrows are data flow or (double) losses."""
    axes: Axes = grid(1, 1, WIDTH, HEIGHT)[0, 0]
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT), aspect="equal")
    for box in BOXES:
        _draw_box(axes, box)
    encoder_left = ENCODER.left[0]
    encoder_right = ENCODER.right[0]
    _arrow(axes, MASKED.right, (encoder_left, UPPER))
    _arrow(axes, VIEW.right, (encoder_left, LOWER))
    _arrow(axes, (encoder_right, UPPER), FEATURES.left)
    _arrow(axes, (encoder_right, LOWER), GUIDANCE.left)
    _arrow(axes, FEATURES.right, DECODER.left)
    _arrow(axes, DECODER.right, PREDICTION.left)
    _arrow(axes, GUIDANCE.right, DECODER.bottom, bend="angle,angleA=0,angleB=90")
    _text(axes, 6.2, 1.6, "cross-\nattention", ha="left")
    _arrow(axes, FEATURES.bottom, GUIDANCE.top, style="<|-|>", color=BLUE)
    _text(axes, 4.45, 2.0, r"$L_{\mathrm{align}}$ of [cls]" + "\n(Eq. 3)", ha="left", color=BLUE)
    _arrow(axes, PREDICTION.bottom, TARGET.top, style="<|-|>", color=BLUE)
    loss = r"$L_{\mathrm{recon}}$ at" + "\nhidden patches\n(Eq. 1)"
    _text(axes, 7.85, 2.08, loss, ha="right", color=BLUE)
    _heading(axes, 4.05, "Masked reconstruction branch", BLUE)
    _heading(axes, 0.2, "Linguistic guidance branch", VERMILION)
    total = r"Eq. 2:  $L = L_{\mathrm{recon}} + L_{\mathrm{align}}$"
    _text(axes, WIDTH - 0.2, 4.05, total, ha="right", color=BLUE)
    return axes


def _draw_box(axes: Axes, box: Box) -> None:
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    style = "round,pad=0,rounding_size=0.1"
    axes.add_patch(
        FancyBboxPatch(
            corner,
            box.width,
            box.height,
            boxstyle=style,
            facecolor=box.face,
            edgecolor=box.edge,
            linewidth=1.2,
        )
    )
    _text(axes, box.x, box.y, box.text)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    style: str = "-|>",
    color: str = "black",
    bend: str = "arc3",
) -> None:
    """Draw an arrow.

    Args:
        axes: where to draw.
        start, end: in units of the axes.
        style: matplotlib's arrow style.
        color: of the arrow.
        bend: matplotlib's connection style."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            connectionstyle=bend,
            color=color,
            mutation_scale=12,
            linewidth=1.2,
            shrinkA=0,
            shrinkB=0,
        )
    )


def _text(
    axes: Axes, x: float, y: float, text: str, ha: str = "center", color: str = "black"
) -> None:
    axes.text(x, y, text, ha=ha, va="center", fontsize=TEXT_SIZE, color=color, linespacing=1.25)


def _heading(axes: Axes, y: float, text: str, color: str) -> None:
    look: Any = {"family": "DejaVu Sans", "weight": "bold"}  # other families have no bold face
    axes.text(0.2, y, text, va="center", fontsize=12, color=color, **look)
