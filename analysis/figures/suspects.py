"""Pictures of suspect labels with their images, to decide by eye which labels are wrong."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from analysis.figures.predictions import NO_TEXT, CaptionedImage, image_grid
from analysis.style import BLUE, VERMILION, figure_of, styled
from analysis.tables.suspects import Suspect, Suspects
from core.data.word_images import WordImages, decode_image
from core.runtime.files import atomic_path

IMAGES_OF_PAGE = 40


def suspect_grid(images: WordImages, suspects: Sequence[Suspect], title: str) -> Sequence[Axes]:
    """Images with number and label above (vermilion), prediction and confidence below (blue)."""
    items = []
    for suspect in suspects:
        raw = images.raw(suspect.index)
        picture = None if raw is None else decode_image(raw)
        above = f"{suspect.index}\n[{suspect.label}]"
        below = f"{suspect.prediction or NO_TEXT}\n{suspect.confidence:.3f}"
        items.append(CaptionedImage(picture, (above, VERMILION), (below, BLUE)))
    return image_grid(items, title)


def write_pages(images: WordImages, found: Suspects, count: int, folder: Path) -> list[Path]:
    """Write pages of IMAGES_OF_PAGE suspects each: suspects-1.png, ...; returns the files.

    images: of the root.
    found: its suspects.
    count: the largest number of images on all pages.
    folder: where the pages are written. Earlier pages in it are removed.
    """
    for earlier in folder.glob("suspects-*.png"):
        earlier.unlink()
    shown = found.suspects[:count]
    paths = []
    for number, start in enumerate(range(0, len(shown), IMAGES_OF_PAGE), 1):
        page = shown[start : start + IMAGES_OF_PAGE]
        name = f"{found.subset}, " if found.subset else ""
        place = f"{start + 1} to {start + len(page)} of {len(found.suspects):,}"
        title = f"{name}suspects {place}: [label] above, prediction and confidence below"
        figure = figure_of(suspect_grid(images, page, title))
        path = folder / f"suspects-{number}.png"
        with styled(), atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")
        paths.append(path)
    return paths
