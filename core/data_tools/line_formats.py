"""Label files of MJSynth and PaddleOCR: one line for each image or photo.

MJSynth: `./2425/1/115_Lube_45484.jpg 45484`. The label is in the name of the image, and the number
at the end is that of the word in the lexicon. `imlist.txt` has the names only.
Source: robots.ox.ac.uk/~vgg/data/text.

PaddleOCR, recognition: `path<TAB>label`, or a JSON list of paths, whose images show the same text.
Detection: `path<TAB>[{"transcription": "MASA", "points": [[310, 104], ...]}, ...]`, with corners
clockwise from the top left one; the text "###" marks an illegible word.
Source: PaddleOCR, docs/datasets/ocr_datasets.md and ppocr/data/imaug/label_ops.py.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from core.data_tools.annotations import Annotation, unusable
from core.data_tools.crops import photo_word, word_corners
from core.data_tools.photo_words import ILLEGIBLE, as_points
from core.data_tools.reading import Margin, Reading

SAMPLE = 50  # lines that show the format
MJSYNTH = re.compile(r"(\S*?[^/\\_\s]*_([^/\\\s]+)_(\d+)\.jpe?g)(?:\s+(\d+))?\s*", re.IGNORECASE)
ILLEGIBLE_TEXTS = ("###", "*")
NO_WORDS = "photo has no words"
NO_LIST = "not PaddleOCR's list of words with transcription and points"


# MJSynth


def is_mjsynth(lines: Iterable[str]) -> bool:
    """Whether the first lines end with the number that is in the name of their image."""
    first = list(islice((line for line in lines if line.strip()), SAMPLE))
    matches = [MJSYNTH.fullmatch(line.strip()) for line in first]
    return bool(first) and all(match and match[3] == match[4] for match in matches)


def mjsynth_words(lines: Iterable[str]) -> Iterator[Annotation]:
    """The images of MJSynth's lists, with the labels in their names."""
    for line in lines:
        if not line.strip():
            continue
        match = MJSYNTH.fullmatch(line.strip())
        if match is None:
            yield unusable(line, "no image name such as 115_Lube_45484.jpg")
        else:
            yield Annotation(match[1], match[2])


# PaddleOCR


def is_paddleocr(lines: Iterable[str]) -> bool:
    """Whether one of the first lines has a JSON list of paths, or one of words in a photo."""
    first = islice((line for line in lines if "\t" in line), SAMPLE)
    parts = (line.partition("\t") for line in first)
    return any(_paths(image) or _photo_entries(label) for image, _, label in parts)


def paddleocr_words(lines: Iterable[str], reading: Reading) -> Iterator[Annotation]:
    """The images and words of PaddleOCR's label files."""
    for line in lines:
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        image, tab, label = text.partition("\t")
        if not tab:
            yield unusable(text, "no label")
            continue
        for path in _paths(image) or [image.strip()]:
            yield from _labeled(path, label.strip(), reading.margin)


def _labeled(image: str, label: str, margin: Margin | None) -> Iterator[Annotation]:
    """The words of one image: its label, or the entries of a list."""
    entries = _photo_entries(label)
    if entries:
        for entry in entries:
            yield _photo_entry(image, entry, margin)
    elif label == "[]":
        yield Annotation(image, "", NO_WORDS)
    elif label.startswith("[{"):
        yield Annotation(image, "", NO_LIST)
    else:
        yield Annotation(image, label)


def _photo_entry(image: str, entry: dict[str, Any], margin: Margin | None) -> Annotation:
    text = entry["transcription"]
    if text in ILLEGIBLE_TEXTS:
        return Annotation(image, "", ILLEGIBLE)
    corners = word_corners(as_points(entry["points"]), margin)
    return photo_word(image, text, corners)


def _paths(text: str) -> list[str]:
    """The paths of a JSON list; [] if the text is none."""
    paths = _json_list(text)
    return paths if all(isinstance(path, str) for path in paths) else []


def _photo_entries(text: str) -> list[dict[str, Any]]:
    """The words of a photo in a JSON list; [] if the text is none."""
    entries = _json_list(text)
    has_words = all(
        isinstance(entry, dict)
        and isinstance(entry.get("transcription"), str)
        and isinstance(entry.get("points"), list)
        for entry in entries
    )
    return entries if has_words else []


def _json_list(text: str) -> list[Any]:
    if not text.lstrip().startswith("["):
        return []
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return values if isinstance(values, list) else []
