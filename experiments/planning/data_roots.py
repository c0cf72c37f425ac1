"""Roots of a recipe as LMDB folders: their paths, their contents, and why they are absent."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from core.data.lmdb_folder import (
    boxes_fingerprint,
    find_roots,
    fingerprint,
    root_irregularity,
)
from core.runtime.errors import UserError
from core.synthetic.config import LANGUAGE_SPLITS, Synthetic, language_sizes, split_sizes
from core.synthetic.dataset import dataset_fingerprint
from experiments.planning.registry import (
    BuiltFrom,
    boxes_file,
    built_from,
    describe_absence,
    expand,
    locate,
    registry,
    unset_variable,
)
from experiments.planning.schema import Recipe
from experiments.planning.substitution import SYNTHETIC_PREFIXES
from results.store import Store


@dataclass(frozen=True)
class BoxedWords:
    """What a root with boxes is made from: the arguments of `add_boxes`.

    words: an LMDB folder.
    file: the file of boxes.
    split: the words of the file that these are.
    """

    words: str
    file: str
    split: str


@dataclass(frozen=True)
class Root:
    """One LMDB root.

    name: the root as the recipe names it.
    path: its folder.
    fingerprint: a hash of its content; part of the ids of the runs that use it.
    images: the number of images; the expected number if the root is absent.
    synthetic: the settings of the synthetic words, if the root is one of their splits.
    unmet: why the root cannot be used here; empty if it can.
    note: what is unusual about the folder.
    boxes: a hash of the characters' boxes; only for a run that reads them. Empty if there are none,
        or if they follow from `synthetic`.
    made_from: what a run makes the folder from if it is absent. The fingerprint and the number of
        images are then those of the words.
    """

    name: str
    path: str
    fingerprint: str
    images: int
    synthetic: Synthetic | None = None
    unmet: str = ""
    note: str = ""
    boxes: str = ""
    made_from: BoxedWords | None = None

    @property
    def is_absent(self) -> bool:
        """Whether a run has to make the folder first."""
        can_be_made = self.synthetic is not None or self.made_from is not None
        return can_be_made and not Path(self.path).is_dir()

    @property
    def images_path(self) -> str:
        """An LMDB folder with the root's images, which need not exist if they are rendered."""
        if self.made_from is not None and self.is_absent:
            return self.made_from.words
        return self.path

    @property
    def content(self) -> str:
        """What the root adds to the id of a run: its fingerprint, and that of its boxes."""
        return f"{self.fingerprint}+{self.boxes}" if self.boxes else self.fingerprint

    def as_json(self) -> dict[str, str | int]:
        """The part of the root that a run's record keeps."""
        values: dict[str, str | int] = {
            "root": self.name,
            "path": self.path,
            "fingerprint": self.fingerprint,
            "images": self.images,
        }
        return values | ({"boxes": self.boxes} if self.boxes else {})


def resolve_root(name: str, recipe: Recipe, store: Store) -> tuple[Root, ...]:
    """The LMDB roots that a root of a recipe names: several if it is a folder of LMDBs.

    Raises UserError if it names a synthetic split that does not exist.
    """
    for section, prefix in SYNTHETIC_PREFIXES.items():
        if name.startswith(prefix):
            settings: Synthetic | None = getattr(recipe, section)
            return (_synthetic_root(name, name.removeprefix(prefix), settings, store),)
    return _real_roots(name, store)


def _synthetic_root(name: str, split: str, settings: Synthetic | None, store: Store) -> Root:
    sizes = split_sizes(settings) | language_sizes(settings) if settings else {}
    if split in LANGUAGE_SPLITS and split not in sizes:
        unmet = f"{name}: this scale renders no plain English words for tests; set synthetic.test"
        return Root(name, "", f"unknown:{name}", 0, unmet=unmet)
    if settings is None or split not in sizes:
        choices = f"choose from {', '.join(sizes)}" if sizes else "this scale has none"
        raise UserError(f"{name}: unknown synthetic split {split!r}; {choices}")
    try:
        folder = dataset_fingerprint(settings)
    except UserError as error:  # no font has the characters
        return Root(name, "", f"unknown:{name}", sizes[split], unmet=str(error))
    path = str(store.data(folder) / split)
    return Root(name, path, f"{folder}/{split}", sizes[split], synthetic=settings)


def _real_roots(name: str, store: Store) -> tuple[Root, ...]:
    named = name in registry()
    path = locate(name) if named else expand(name)
    if not unset_variable(path) and Path(path).is_dir():
        return tuple(replace(root, name=name) for root in _roots_below(path))
    if named and (source := built_from(name)):
        return (_boxed_root(name, path, source, store),)
    if named:
        expected = registry()[name].expected_images
        return (Root(name, path, f"unknown:{name}", expected, unmet=describe_absence(name)),)
    variable = unset_variable(path)
    unmet = f"{path}: no LMDB here (data.mdb is missing)"
    if variable:
        unmet = f"{name}: the environment variable {variable} is not set"
    return (Root(name, path, f"unknown:{name}", 0, unmet=unmet),)


def _boxed_root(name: str, folder: str, source: BuiltFrom, store: Store) -> Root:
    """A data set that a run makes.

    name: of the data set. folder: where it could be, and is not. source: what it is made from."""
    file = boxes_file(source)
    words, *others = _real_roots(source.words, store)
    unmet = ""
    if words.unmet or file is None:
        unmet = describe_absence(name)
    elif others:
        unmet = (
            f"{name}: {source.words} has {1 + len(others)} LMDB folders, and the boxes are of one; "
            f"set LMIM_ROOT_{source.words.upper()} to it"
        )
    root = replace(words, name=name, path=folder, unmet=unmet)
    if unmet or file is None:
        return root
    parts = [words.fingerprint, _file_hash(file), source.split]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    path = store.data(f"boxes-{digest}") / source.split
    return replace(root, path=str(path), made_from=BoxedWords(words.path, file, source.split))


@cache
def _file_hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _roots_below(path: str) -> tuple[Root, ...]:
    return tuple(
        Root("", folder, *fingerprint(folder), note=root_irregularity(folder))
        for folder in find_roots(path)
    )


def with_boxes(root: Root) -> Root:
    """A root as a run uses it that reads the boxes of the characters.

    It is unmet if its boxes have to be made and cannot be."""
    if root.unmet or root.synthetic is not None:
        return root
    if root.made_from is not None and root.is_absent:
        return _with_expected_boxes(root, root.made_from)
    return replace(root, boxes=_boxes_of(root.path))


@cache
def _with_expected_boxes(root: Root, source: BoxedWords) -> Root:
    # needs torch, whose import takes seconds; most plans do without
    from core.data_tools.add_boxes import expected_boxes_fingerprint

    try:
        boxes = expected_boxes_fingerprint(source.words, Path(source.file), source.split)
    except UserError as error:
        return replace(root, unmet=str(error))
    return replace(root, boxes=boxes)


@cache
def _boxes_of(folder: str) -> str:
    return boxes_fingerprint(folder)


def recorded_folder(entry: Mapping[str, Any], store: Store) -> str:
    """A folder with the images of a root in a record: where they were, else where they are now.

    A named data set may have moved, or its folder may have been made by the run.

    entry: as `Root.as_json` makes it. store: the results folder."""
    path = expand(entry["path"])
    name = entry.get("root")
    if (Path(path) / "data.mdb").is_file() or name not in registry():
        return path
    same = [
        root.images_path
        for root in _real_roots(name, store)
        if root.fingerprint == entry["fingerprint"]
    ]
    return same[0] if same else path


def size_deviation(name: str, images: int) -> str:
    """How the size of a named data set differs from the paper's, or an empty text.

    name: a data set, or any other root, of which no size is known.
    images: the number of images that it has here.
    """
    if name not in registry():
        return ""
    data_set = registry()[name]
    if data_set.images and images != data_set.images[0]:
        return f"{name} has {images:,} images, not {data_set.images[0]:,}"
    approximate = data_set.approximate_images
    if approximate and not 0.75 * approximate < images < 1.25 * approximate:
        return f"{name} has {images:,} images, not about {approximate:,}"
    return ""
