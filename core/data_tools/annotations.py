"""Annotations: the image file and the label of each word, as all annotation formats give them."""

from collections.abc import Sequence
from dataclasses import dataclass

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
# Names of columns and keys.
IMAGE_NAMES = ("filename", "file_name", "img_path", "image", "path", "name")
LABEL_NAMES = ("text", "label", "transcription", "words")
EXCERPT = 80  # characters of an unusable line that are shown
SHOWN_NAMES = 3


# Corners of a word in a photo: (x, y) in pixels from the top left corner. The first one is the top
# left corner of the text, and the others follow clockwise.
Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class TableCell:
    """Where an image is stored in a Parquet file.

    file: its path. column: the column of images. group: number of the row group, from 0.
    row: number of the row in its group, from 0.
    """

    file: str
    column: str
    group: int
    row: int


@dataclass(frozen=True)
class Annotation:
    """One image of a source.

    image: its name in the source, or the start of an unusable line.
    label: its text; None if the source has no labels.
    problem: why the line is unusable.
    polygon: four corners of the word in the image; () if the image shows the word only.
    cell: where the image is stored, if it is no file.
    """

    image: str
    label: str | None
    problem: str = ""
    polygon: Polygon = ()
    cell: TableCell | None = None


def unusable(line: str, problem: str) -> Annotation:
    """The annotation for a line that gives no image and label."""
    return Annotation(" ".join(line.split())[:EXCERPT], "", problem)


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's, in upper or lower case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def some_names(names: Sequence[str]) -> str:
    """The first names of a list, and the number of the others."""
    rest = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")
