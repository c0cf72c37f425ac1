"""Drawn photos with words as colored areas, for tests of crops; roots that name their photos."""

import io
from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core.data.key_layout import PHOTO, STANDARD
from core.data_tools.build import read_sample
from core.data_tools.reading import AS_FOUND, Reading
from core.data_tools.sources import find_source

Pixels = NDArray[np.uint8]
RED = (200, 30, 30)
GREEN = (20, 180, 40)
BLUE = (30, 40, 210)
SIZE = (200, 100)  # of a photo
BOX = ((20, 30), (80, 30), (80, 50), (20, 50))  # a word of 60 x 20 pixels
# The same word around the point (120, 60), turned clockwise by an angle whose tangent is 3/4.
TURNED = ((102, 34), (150, 70), (138, 86), (90, 50))


def draw_photo(path: Path, words: Sequence[Sequence[tuple[float, float]]] = (BOX,)) -> None:
    """A red photo with words: the left half of each is green, the right half blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    photo = Image.new("RGB", SIZE, RED)
    draw = ImageDraw.Draw(photo)
    for corners in words:
        top = _middle(corners[0], corners[1])
        bottom = _middle(corners[3], corners[2])
        _fill(draw, (corners[0], top, bottom, corners[3]), GREEN)
        _fill(draw, (top, corners[1], corners[2], bottom), BLUE)
    photo.save(path)


def _middle(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2


def _fill(
    draw: ImageDraw.ImageDraw, corners: Sequence[tuple[float, float]], color: tuple[int, int, int]
) -> None:
    """Fill a polygon up to the edges of its pixels: (20, 30) to (80, 50) has 60 x 20 pixels."""
    x = [corner[0] for corner in corners]
    y = [corner[1] for corner in corners]
    if len(set(x)) == len(set(y)) == 2:
        draw.rectangle((min(x), min(y), max(x) - 1, max(y) - 1), fill=color)
    else:
        draw.polygon(list(corners), fill=color)


def pixels_of(raw: bytes) -> Pixels:
    """(H, W, 3) of an image file."""
    return np.array(Image.open(io.BytesIO(raw)).convert("RGB"))


def is_color(pixel: object, color: tuple[int, int, int]) -> bool:
    """Whether a pixel has about this color."""
    difference = np.abs(np.asarray(pixel, dtype=int) - np.array(color))
    return bool(difference.max() < 40)


def read_source(path: Path, reading: Reading = AS_FOUND) -> list[tuple[bytes, str | None] | str]:
    """The samples of a source, or the reasons why they are skipped."""
    source = find_source(path, reading)
    return [read_sample(annotation, str(source.folder)) for annotation in source.annotations()]


def crops_of(path: Path, reading: Reading = AS_FOUND) -> list[Pixels]:
    """(H, W, 3) of each sample of a source, none of which is skipped."""
    samples = read_source(path, reading)
    reasons = [sample for sample in samples if isinstance(sample, str)]
    assert not reasons
    return [pixels_of(sample[0]) for sample in samples if not isinstance(sample, str)]


def labels_and_reasons(
    path: Path, reading: Reading = AS_FOUND
) -> tuple[list[str | None], list[str]]:
    """The labels of usable samples, and the reasons of the skipped ones."""
    samples = read_source(path, reading)
    labels = [sample[1] for sample in samples if not isinstance(sample, str)]
    return labels, [sample for sample in samples if isinstance(sample, str)]


def name_photos(root: str, photos: Sequence[str]) -> str:
    """Store the photo of each word in an LMDB folder; returns the folder."""
    with (
        lmdb.open(root, map_size=1 << 26) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, name in enumerate(photos):
            transaction.put(STANDARD.key(PHOTO, index).encode(), name.encode())
    return root
