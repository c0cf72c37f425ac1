"""A strip of images that shows one pre-training step on several words, one word per row."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.feature_visualizer import FeatureVisualizer
from analysis.figures.models import PretrainedModel
from analysis.figures.probe_words import ProbeWords
from analysis.figures.reconstruction import reconstruct
from analysis.figures.reconstruction_figures import draw_image, reconstruction_images
from analysis.style import GRAY, styled

# Sizes in inches.
WIDTH = 10.0
TITLE_HEIGHT = 0.62
MARGIN = 0.1
COLUMN_GAP = 0.12
BAND_GAP = 0.03  # between an image and the colors below it
BAND_HEIGHT = 0.12
ROW_GAP = 0.17
TITLES = {
    "image": "image",
    "hidden": "hidden patches",
    "guidance view": "guidance view",
    "target": "target",
    "prediction": "prediction",
}
FEATURES = ("target", "prediction")
NOTE = "features of a frozen encoder, shown as pixels and as colors"


@styled()
def overview_strip(
    model: PretrainedModel, visualizer: FeatureVisualizer, words: ProbeWords, seed: int = 0
) -> Figure:
    """Image, hidden patches, guidance view, target and prediction of each word.

    Target and prediction are features. They are shown as pixels, by the linear read-out, and as
    colors in a band below. Visible patches of a prediction show the true target.

    Args:
        model: a model with a decoder.
        visualizer: fitted for this model on other words.
        words: the words of the strip.
        seed: of masks and guidance views."""
    reconstruction = reconstruct(model, words, seed)
    height, width = model.config.encoder.image
    cell_width = (WIDTH - 2 * MARGIN - COLUMN_GAP * (len(TITLES) - 1)) / len(TITLES)
    cell_height = cell_width * height / width
    row_height = cell_height + BAND_GAP + BAND_HEIGHT + ROW_GAP
    figure = Figure(figsize=(WIDTH, TITLE_HEIGHT + len(words) * row_height))
    left = [MARGIN + column * (cell_width + COLUMN_GAP) for column in range(len(TITLES))]
    for row in range(len(words)):
        images = reconstruction_images(reconstruction, visualizer, words, row)
        top = figure.get_figheight() - TITLE_HEIGHT - row * row_height
        bottom = top - cell_height
        for x, name in zip(left, TITLES, strict=True):
            image = images[f"{name}, read out" if name in FEATURES else name]
            axes = _add_axes(figure, x, bottom, cell_width, cell_height)
            draw_image(axes, image, (height, width))
            if name in FEATURES:
                bottom_of_band = bottom - BAND_GAP - BAND_HEIGHT
                band = _add_axes(figure, x, bottom_of_band, cell_width, BAND_HEIGHT)
                draw_image(band, images[name], (height, width))
                band.set_aspect("auto")
    for x, title in zip(left, TITLES.values(), strict=True):
        _add_text(figure, x + cell_width / 2, 0.2, title, size=14)
    middle_of_features = (left[3] + left[4] + cell_width) / 2
    _add_text(figure, middle_of_features, 0.47, NOTE, size=9.5, color=GRAY)
    return figure


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a position in inches."""
    total = figure.get_figheight()
    return figure.add_axes((left / WIDTH, bottom / total, width / WIDTH, height / total))


def _add_text(
    figure: Figure, x: float, below_top: float, text: str, size: float, color: str = "black"
) -> None:
    """Centered text. x: inches from the left. below_top: inches from the top. size: in points."""
    y = 1 - below_top / figure.get_figheight()
    figure.text(x / WIDTH, y, text, ha="center", va="center", fontsize=size, color=color)
