"""Roots of a recipe as LMDB folders: their paths, their contents, and why they are absent."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

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
    """

    name: str
    path: str
    fingerprint: str
    images: int
    synthetic: Synthetic | None = None
    unmet: str = ""
    note: str = ""
    boxes: str = ""

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
    return _real_roots(name)


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


def _real_roots(name: str) -> tuple[Root, ...]:
    named = name in registry()
    path = locate(name) if named else expand(name)
    if not unset_variable(path) and Path(path).is_dir():
        return tuple(replace(root, name=name) for root in _roots_below(path))
    if named:
        expected = registry()[name].expected_images
        return (Root(name, path, f"unknown:{name}", expected, unmet=describe_absence(name)),)
    variable = unset_variable(path)
    unmet = f"{path}: no LMDB here (data.mdb is missing)"
    if variable:
        unmet = f"{name}: the environment variable {variable} is not set"
    return (Root(name, path, f"unknown:{name}", 0, unmet=unmet),)


@cache
def _roots_below(path: str) -> tuple[Root, ...]:
    return tuple(
        Root("", folder, *fingerprint(folder), note=root_irregularity(folder))
        for folder in find_roots(path)
    )


def with_boxes(root: Root) -> Root:
    """A root as a run uses it that reads the boxes of the characters."""
    if root.unmet or root.synthetic is not None:
        return root
    return replace(root, boxes=_boxes_of(root.path))


@cache
def _boxes_of(folder: str) -> str:
    return boxes_fingerprint(folder)


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
