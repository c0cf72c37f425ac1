"""Crops of words from photos.

A quadrangle is rectified by a perspective transformation, so that its text is level. The bounding
box is cut out of a polygon with more or fewer corners, and of a quadrangle that is not convex. Text
that runs downwards is not turned.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.data_tools.annotations import Annotation, Polygon
from core.data_tools.reading import Margin

MIN_INSIDE = 0.5  # share of a word's bounding box that must be in the photo
MIN_SIDE = 2  # pixels
OUTSIDE = "word is outside of the photo, or most of it"
TOO_SMALL = f"word has fewer than {MIN_SIDE} pixels in width or height"
NO_POLYGON = "no polygon and no box of numbers"

Points = Sequence[tuple[float, float]]


def photo_word(image: str, text: str, corners: Polygon | None) -> Annotation:
    """A word of a photo. corners: of the word; None if the photo's annotation has none."""
    return Annotation(image, text, "" if corners else NO_POLYGON, corners or ())


def box_corners(left: float, top: float, right: float, bottom: float) -> Polygon:
    """The corners of an upright box, clockwise from its top left one."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def word_corners(points: Points, margin: Margin | None, ordered: bool = True) -> Polygon | None:
    """The four corners of a crop; None if the points are no polygon of finite numbers.

    Args:
        points: (x, y) of the annotated polygon, at least three. Its first point is the top left
            corner of the text.
        margin: What is added on each side.
        ordered: False: the order of the points says nothing, and the text is taken as upright: its
            first corner is the one that is nearest to the photo's top left corner.
    """
    is_finite = all(math.isfinite(x) and math.isfinite(y) for x, y in points)
    if len(points) < 3 or not is_finite:
        return None
    corners = tuple(points)
    if len(corners) == 4 and _area(corners) < 0:  # counterclockwise: it would be a mirror image
        corners = (corners[0], *corners[:0:-1])
    if len(corners) != 4 or not _is_convex(corners):
        corners = box_corners(*_bounding_box(corners))
    elif not ordered:
        start = min(range(4), key=lambda number: sum(corners[number]))
        corners = corners[start:] + corners[:start]
    return corners if margin is None else _widened(corners, margin)


def _area(corners: Points) -> float:
    """The area of a polygon in square pixels; negative if its corners are counterclockwise."""
    following = [*corners[1:], corners[0]]
    return sum(x * v - u * y for (x, y), (u, v) in zip(corners, following, strict=True)) / 2


def _is_convex(corners: Points) -> bool:
    """Whether a clockwise polygon turns right at each of its corners."""
    turns = [
        _area((corners[number - 2], corners[number - 1], corners[number]))
        for number in range(len(corners))
    ]
    return all(turn > 0 for turn in turns)


def _bounding_box(corners: Points) -> tuple[float, float, float, float]:
    """Left, top, right and bottom."""
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def _widened(corners: Polygon, margin: Margin) -> Polygon:
    """Corners that are moved outwards along both of their sides."""
    top_left, top_right, bottom_right, bottom_left = corners
    height = (math.dist(top_left, bottom_left) + math.dist(top_right, bottom_right)) / 2
    distance = margin.size * (height if margin.unit == "height" else 1)
    return tuple(
        _moved(corners[number], (corners[number - 1], corners[(number + 1) % 4]), distance)
        for number in range(4)
    )


def _moved(corner: tuple[float, float], neighbors: Points, distance: float) -> tuple[float, float]:
    """A corner moved away from each of its neighbors. distance: in pixels."""
    x, y = corner
    for neighbor in neighbors:
        side = math.dist(corner, neighbor)
        if side:
            x += distance * (corner[0] - neighbor[0]) / side
            y += distance * (corner[1] - neighbor[1]) / side
    return x, y


def cut_out(photo: Image.Image, corners: Polygon) -> Image.Image | str:
    """The crop of a word, or the reason why there is none.

    photo: RGB.
    corners: of the word, four, as `word_corners` returns them.
    """
    left, top, right, bottom = _bounding_box(corners)
    area = (right - left) * (bottom - top)
    inside = max(min(right, photo.width) - max(left, 0), 0.0)
    inside *= max(min(bottom, photo.height) - max(top, 0), 0.0)
    if area > 0 and inside < MIN_INSIDE * area:
        return OUTSIDE
    if corners != box_corners(left, top, right, bottom):
        return _rectified(photo, corners)
    box = (
        max(math.floor(left), 0),
        max(math.floor(top), 0),
        min(math.ceil(right), photo.width),
        min(math.ceil(bottom), photo.height),
    )
    if box[2] - box[0] < MIN_SIDE or box[3] - box[1] < MIN_SIDE:
        return TOO_SMALL
    return photo.crop(box)


def _rectified(photo: Image.Image, corners: Polygon) -> Image.Image | str:
    """The word inside four corners, as a level rectangle.

    Its sides are as long as the longer one of two opposite sides. Beyond the photo, the pixels of
    its border repeat.
    """
    top_left, top_right, bottom_right, bottom_left = corners
    width = round(max(math.dist(top_left, top_right), math.dist(bottom_left, bottom_right)))
    height = round(max(math.dist(top_left, bottom_left), math.dist(top_right, bottom_right)))
    if width < MIN_SIDE or height < MIN_SIDE:
        return TOO_SMALL
    left, top, right, bottom = _bounding_box(corners)
    columns = np.arange(math.floor(left) - 1, math.ceil(right) + 1)
    rows = np.arange(math.floor(top) - 1, math.ceil(bottom) + 1)
    pixels = np.asarray(photo)
    patch = pixels[np.clip(rows, 0, photo.height - 1)][:, np.clip(columns, 0, photo.width - 1)]
    inside = [(x - columns[0], y - rows[0]) for x, y in corners]
    return Image.fromarray(patch).transform(
        (width, height),
        Image.Transform.PERSPECTIVE,
        _perspective(width, height, inside).tolist(),
        Image.Resampling.BICUBIC,
    )


def _perspective(width: int, height: int, corners: Points) -> NDArray[np.float64]:
    """(8,) coefficients a to h of the transformation from a rectangle to four corners.

    It takes (u, v) to ((a u + b v + c) / (g u + h v + 1), (d u + e v + f) / (g u + h v + 1)), as
    Pillow's `Image.transform` expects.
    """
    rectangle = box_corners(0, 0, width, height)
    rows = []
    for (u, v), (x, y) in zip(rectangle, corners, strict=True):
        rows.append([u, v, 1, 0, 0, 0, -u * x, -v * x])
        rows.append([0, 0, 0, u, v, 1, -u * y, -v * y])
    return np.linalg.solve(np.array(rows, dtype=float), np.array(corners, dtype=float).ravel())


def encode_crop(crop: Image.Image) -> bytes:
    """A crop as a PNG file, so that its pixels stay as they are."""
    stream = io.BytesIO()
    crop.save(stream, "PNG")
    return stream.getvalue()
