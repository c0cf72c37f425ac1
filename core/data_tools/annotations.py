"""Annotations: the image file and the label of each word, as all annotation formats give them."""

from collections.abc import Sequence
from dataclasses import dataclass

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
# Names of columns and keys.
IMAGE_NAMES = ("filename", "file_name", "img_path", "image", "path", "name")
LABEL_NAMES = ("text", "label", "transcription", "words")
EXCERPT = 80  # characters of an unusable line that are shown
SHOWN_NAMES = 3


@dataclass(frozen=True)
class Annotation:
    """One image of a source."""

    image: str  # its name in the source, or the start of an unusable line
    label: str | None  # None: the source has no labels
    problem: str = ""  # why the line is unusable


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
