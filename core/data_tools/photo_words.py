"""Words in photos, as TextOCR's, COCO-Text's and SynthText's annotations have them.

TextOCR's and COCO-Text's JSON files have `imgs` (id -> file_name, set) and `anns` (id -> image_id,
utf8_string, bbox, and a polygon x1, y1, x2, y2, ...). In TextOCR the polygon is `points`, clockwise
from the top left corner of the text, and the text "." marks an illegible word. In COCO-Text 2
the polygon is `mask`, in any order, and there are `legibility`, `language` and `class`.
Sources: textvqa.org/textocr/dataset; github.com/andreasveit/coco-text, coco_text.py.

SynthText's `gt.mat` has for each photo `imnames`, `wordBB` (2, 4, words), clockwise from the top
left corner, and `txt`, lines of words between white space. Source: the data set's readme.txt at
robots.ox.ac.uk/~vgg/data/scenetext.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core.data_tools.annotations import Annotation, Polygon, some_names
from core.data_tools.crops import Points, box_corners, photo_word, word_corners
from core.data_tools.reading import Margin, Reading
from core.runtime.errors import UserError

ILLEGIBLE = "word is illegible"
UNEQUAL = "photo has another number of words than of boxes"
MAT_FILE = b"MATLAB 5.0 MAT-file"
NEW_MAT_FILE = b"MATLAB 7.3 MAT-file"


# TextOCR, COCO-Text


def has_photo_words(content: Any) -> bool:
    """Whether a JSON document is one of TextOCR or COCO-Text."""
    return isinstance(content, dict) and all(
        isinstance(content.get(key), dict) for key in ("imgs", "anns")
    )


def photo_words(file: Path, content: Any, reading: Reading) -> Iterator[Annotation]:
    """The words of a JSON document of TextOCR or COCO-Text, photo by photo.

    Raises UserError if it is none, or has no photo of the wanted split.
    """
    if not has_photo_words(content):
        raise UserError(
            f"{file}: no objects `imgs` and `anns`, which TextOCR's and COCO-Text's JSON have; "
            "name another format with --format"
        )
    photos = content["imgs"]
    words: dict[str, list[Any]] = {name: [] for name in photos}
    lost = []
    for name, word in content["anns"].items():
        image = str(word.get("image_id")) if isinstance(word, dict) else ""
        words[image].append(word) if image in words else lost.append(name)
    splits = {name: _split(photo) for name, photo in photos.items()}
    if reading.split is not None and reading.split not in splits.values():
        known = ", ".join(sorted(set(splits.values()) - {""})) or "none"
        raise UserError(f"--split {reading.split}: {file} has no such photo; its sets are {known}")
    for name, photo in photos.items():
        if reading.split in (None, splits[name]):
            for word in words[name]:
                yield _photo_word(photo, word, reading.margin)
    if reading.split is None:
        for name in lost:
            yield Annotation(f"annotation {name}", "", "image_id is none of imgs")


def _split(photo: Any) -> str:
    return str(photo.get("set", "")) if isinstance(photo, dict) else ""


def _photo_word(photo: Any, word: dict[str, Any], margin: Margin | None) -> Annotation:
    image = photo.get("file_name") if isinstance(photo, dict) else None
    if not isinstance(image, str):
        return Annotation(f"image {word['image_id']}", "", "no file_name in imgs")
    text = word.get("utf8_string")
    is_coco_text = "legibility" in word
    illegible = word.get("legibility") == "illegible" if is_coco_text else text == "."
    if illegible:
        return Annotation(image, "", ILLEGIBLE)
    if not isinstance(text, str):
        return Annotation(image, "", "no utf8_string")
    corners = _annotated_corners(word, margin, ordered=not is_coco_text)
    return photo_word(image, text, corners)


def _annotated_corners(
    word: dict[str, Any], margin: Margin | None, ordered: bool
) -> Polygon | None:
    for key in ("points", "mask", "polygon"):
        points = as_points(word.get(key))
        if points:
            return word_corners(points, margin, ordered)
    box = as_points(word.get("bbox"))
    if len(box) != 2:
        return None
    (left, top), (width, height) = box
    return word_corners(box_corners(left, top, left + width, top + height), margin)


def as_points(values: Any) -> Points:
    """(x, y) of a list x1, y1, x2, y2, ..., or of a list of pairs; () if it is neither."""
    if isinstance(values, list) and len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    try:
        numbers = np.array(values, dtype=float)
    except (TypeError, ValueError):
        return ()
    if numbers.ndim == 1 and numbers.size % 2 == 0:
        numbers = numbers.reshape(-1, 2)
    if numbers.ndim != 2 or numbers.shape[1] != 2:
        return ()
    return [(x, y) for x, y in numbers.tolist()]


# SynthText


def synthtext_words(file: Path, reading: Reading) -> Iterator[Annotation]:
    """The words of SynthText's gt.mat, photo by photo. SciPy reads it and runs no code of it.

    Raises UserError if it is not such a file.
    """
    names, boxes, texts = _load_mat(file)
    if not len(names) == len(boxes) == len(texts):
        raise UserError(
            f"{file}: {len(names)} imnames, {len(boxes)} wordBB and {len(texts)} txt; "
            "download the file again"
        )
    for name, box, text in zip(names, boxes, texts, strict=True):
        image = str(np.ravel(name)[0]) if np.size(name) else ""
        words = " ".join(map(str, np.ravel(text))).split()
        yield from _synthtext_photo(image, words, box, reading.margin)


def _synthtext_photo(
    image: str, words: list[str], boxes: Any, margin: Margin | None
) -> Iterable[Annotation]:
    """The words of one photo. boxes: (2, 4, words) in pixels, or (2, 4) of a single word."""
    try:
        corners = np.array(boxes, dtype=float).reshape(2, 4, -1)
    except (TypeError, ValueError):
        corners = np.empty((2, 4, 0))
    if corners.shape[2] != len(words):
        return [Annotation(image, word, UNEQUAL) for word in words]
    annotations = []
    for number, word in enumerate(words):
        points = [(x, y) for x, y in corners[:, :, number].T.tolist()]
        polygon = word_corners(points, margin)
        annotations.append(photo_word(image, word, polygon))
    return annotations


def _load_mat(file: Path) -> list[Any]:
    """`imnames`, `wordBB` and `txt`, each with one entry for each photo."""
    from scipy.io import loadmat

    keys = ["imnames", "wordBB", "txt"]
    try:
        with file.open("rb") as stream:
            if stream.read(len(NEW_MAT_FILE)) == NEW_MAT_FILE:
                raise UserError(f"{file}: saved in MATLAB's format 7.3; save it again with -v7")
        content = loadmat(file, variable_names=keys)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # SciPy raises anything for a damaged file
        raise UserError(
            f"{file}: not a complete MAT file ({error}); download the file again"
        ) from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(
            f"{file}: no {some_names(missing)}; SynthText's gt.mat has {', '.join(keys)}"
        )
    return [np.ravel(content[key]) for key in keys]
