"""Sources of `run.py data build`: an annotation file, a folder with one, or a folder of images.

Parquet files are a source too: one file, a folder of shards, or a pattern with `*`.
In a folder of images each image may have its label in a text file beside it.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from core.data_tools.annotation_formats import find_format, read_annotations
from core.data_tools.annotations import Annotation, is_image_name, some_names
from core.data_tools.parquet_files import (
    choose_shards,
    find_shards,
    has_text_column,
    parquet_words,
)
from core.data_tools.reading import AS_FOUND, IMAGES, Reading
from core.data_tools.text_encoding import detect_encoding
from core.runtime.errors import UserError

ANNOTATION_SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".txt")
ANNOTATION_FILES = (
    "gt.txt",
    "labels.txt",
    "label.txt",
    "gt.tsv",
    "labels.tsv",
    "gt.csv",
    "labels.csv",
    "annotation.json",
    "gt.mat",
)
# Names of text files that describe a data set.
_DESCRIPTION = re.compile(
    r"(read[-_ ]?me|licen[cs]e|copying|notice|notes?|change(s|log)|citation|requirements|authors"
    r"|version|todo|about|info|classes|lexicon|charset|dict|alphabet|vocab|characters)([^a-z].*)?"
)
# Names of an image's label file: `word_1.png` has its label in `word_1.txt`, for example.
LABEL_FILES = ("{stem}.txt", "gt_{stem}.txt", "{stem}.gt.txt", "{image}.txt")
# Corners of a box before the word, as ICDAR's files for text detection have them.
_BOX = re.compile(r'(-?\d+\s*,\s*){8}|(-?\d+\s*,\s*){4}"')
SAMPLE = 50  # annotations that show whether a file has image names
MAX_CANDIDATES = 20  # text files that are looked into


@dataclass(frozen=True)
class Source:
    """Where images and labels come from."""

    folder: Path  # of the images
    annotations: Callable[[], Iterator[Annotation]]
    labeled: bool
    format: str = IMAGES  # or a name in FORMATS
    notes: tuple[str, ...] = ()  # sentences about files that are not used


class ImageFile(NamedTuple):
    """An image below a folder, and the text file with its label, both relative to the folder."""

    name: str
    label_file: str | None


def image_files(folder: Path) -> Iterator[str]:
    """Names of the image files below a folder, relative to it, in a fixed order.

    Hidden folders, `__MACOSX` and files `._*` are left out.
    """
    return (image.name for image in _images_with_labels(folder))


def _images_with_labels(folder: Path) -> Iterator[ImageFile]:
    for parent, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and name != "__MACOSX"
        )
        texts = {name.lower(): name for name in files if name.lower().endswith(".txt")}
        for name in sorted(files):
            if is_image_name(name) and not name.startswith("._"):
                text = _label_file(name, texts) if texts else None
                path = os.path.relpath(os.path.join(parent, name), folder)
                beside = os.path.join(os.path.dirname(path), text) if text else None
                yield ImageFile(path, beside)


def _label_file(image: str, texts: dict[str, str]) -> str | None:
    """The text file of an image, or None. texts: lower-case name -> name, in its folder."""
    stem = os.path.splitext(image)[0]
    names = (pattern.format(stem=stem, image=image).lower() for pattern in LABEL_FILES)
    return next((texts[name] for name in names if name in texts), None)


def find_source(path: Path, reading: Reading = AS_FOUND) -> Source:
    """The images and labels of a source.

    path: a file, a folder, or a pattern of Parquet files.
    reading: how it is read, where its content does not say so.

    Raises UserError if the source is missing, has several annotation files, or an option of
    `reading` has no effect on it.
    """
    source = _find_source(path, reading)
    reading.refuse_unused(str(path), source.format)
    return source


def _find_source(path: Path, reading: Reading) -> Source:
    if not path.exists() and (shards := find_shards(path)):
        return _parquet(path, choose_shards(path, shards, reading.split), reading)
    if not path.exists():
        raise UserError(
            f"{path}: no such file or folder; name an annotation file or a folder of images"
        )
    if path.is_file():
        return _annotated(path, reading)
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    usual = [file for file in files if file.name.lower() in ANNOTATION_FILES and file.is_file()]
    if usual:
        return _annotated(_only(path, usual), reading)
    if reading.format in (None, "parquet") and (shards := find_shards(path)):
        return _parquet(path, choose_shards(path, shards, reading.split), reading)
    candidates = [
        file
        for file in files
        if file.suffix.lower() in ANNOTATION_SUFFIXES
        and not _DESCRIPTION.fullmatch(file.stem.lower())
        and file.is_file()
    ]
    label_files = {image.label_file for image in _images_with_labels(path)}
    if label_files - {None}:
        return _labels_beside_images(
            path, [file for file in candidates if file.name not in label_files]
        )
    return _from_candidates(path, candidates, bool(label_files), reading)


def _parquet(path: Path, shards: list[Path], reading: Reading) -> Source:
    """The source of Parquet files."""
    return Source(
        Path(os.path.commonpath([shard.parent for shard in shards])),
        lambda: parquet_words(shards, reading),
        labeled=has_text_column(shards[0], reading),
        format="parquet",
    )


def _from_candidates(
    path: Path, candidates: list[Path], has_images: bool, reading: Reading
) -> Source:
    """The source in a folder without usual names and without label files of images.

    path: the folder. candidates: its text files. has_images: whether there are images below it.
    reading: how an annotation file is read.
    """
    if len(candidates) > MAX_CANDIDATES:
        raise _several(path, candidates)
    named = [file for file in candidates if _has_image_names(file)]
    if not named and not has_images:
        named = candidates  # the images may be in another folder
    if named:
        return _annotated(_only(path, named), reading)
    return Source(
        path,
        lambda: (Annotation(name, None) for name in image_files(path)),
        labeled=False,
        notes=_unused(path, candidates, "no image names in it"),
    )


def _annotated(file: Path, reading: Reading) -> Source:
    name = reading.format or find_format(file)
    if name == "parquet":
        return _parquet(file, choose_shards(file, [file], reading.split), reading)
    return Source(file.parent, lambda: read_annotations(file, reading), labeled=True, format=name)


def _only(path: Path, files: list[Path]) -> Path:
    if len(files) > 1:
        raise _several(path, files)
    return files[0]


def _several(path: Path, files: list[Path]) -> UserError:
    names = some_names([file.name for file in files])
    return UserError(
        f"{path}: several annotation files ({names}); name the one to use, or put the label file "
        "of each image beside it"
    )


def _unused(path: Path, files: list[Path], reason: str) -> tuple[str, ...]:
    if not files:
        return ()
    names = some_names([file.name for file in files])
    return (f"{path}: {names}: {reason}, so not used for labels; name a file to use it",)


def _has_image_names(file: Path) -> bool:
    """Whether one of the first annotations in a file names an image.

    Raises UserError if the file is not text.
    """
    first = islice(read_annotations(file), SAMPLE)
    return any(
        not annotation.problem
        and (is_image_name(annotation.image) or _is_file(file.parent, annotation.image))
        for annotation in first
    )


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):  # no valid file name
        return False


def _labels_beside_images(path: Path, others: list[Path]) -> Source:
    """The source of a folder in which images have text files. others: further text files."""
    if len(others) <= MAX_CANDIDATES:
        lists = [file for file in others if _has_image_names(file)]
        if lists:
            raise UserError(
                f"{path}: labels in text files beside the images, and in "
                f"{some_names([file.name for file in lists])}; name the file to use it"
            )
    return Source(
        path,
        lambda: (_beside(path, image) for image in _images_with_labels(path)),
        labeled=True,
        notes=_unused(path, others, "no image of that name"),
    )


def _beside(folder: Path, image: ImageFile) -> Annotation:
    """The annotation of an image from the text file beside it."""
    if image.label_file is None:
        return Annotation(image.name, "", "no label file beside the image")
    try:
        raw = (folder / image.label_file).read_bytes()
        text = raw.decode(detect_encoding(raw))
    except OSError as error:
        return Annotation(image.name, "", f"label file cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        return Annotation(image.name, "", "label file is not UTF-8")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return Annotation(image.name, "", "label file has several lines; a word image has one")
    if lines and _BOX.match(lines[0]):
        return Annotation(image.name, "", "label file has boxes; cut the words out first")
    return Annotation(image.name, lines[0] if lines else "")
