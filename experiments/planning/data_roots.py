"""What a recipe names as a root -> the LMDB folders it stands for, what is in them, and why they are not there."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from core.data.lmdb_folder import find_roots, fingerprint, irregular
from core.runtime.errors import UserError
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered
from experiments.planning.recipe import RENDERED
from experiments.planning.registry import absent, expand, locate, registry, unset_variable
from experiments.planning.schema import Recipe
from results.store import Store


@dataclass(frozen=True)
class Root:
    """One LMDB root: where it lies, what is in it. `missing` says why it is not there; `images` is then what is expected."""

    name: str  # as the recipe has it
    path: str
    fingerprint: str
    images: int
    rendered: Rendered | None = None
    missing: str = ""
    note: str = ""  # what is odd about it


def resolve_root(root: str, recipe: Recipe, store: Store) -> tuple[Root, ...]:
    """Where a root lies and what is in it; several where it is a folder of LMDBs.

    Raises UserError if it names a rendered split that is not made, or nothing that could be a folder."""
    for section, prefix in RENDERED.items():
        if root.startswith(prefix):
            return (
                _rendered_root(root, root.removeprefix(prefix), getattr(recipe, section), store),
            )
    return _real_roots(root)


def _rendered_root(root: str, split: str, rendered: Rendered | None, store: Store) -> Root:
    sizes = synthetic.splits(rendered) if rendered else {}
    if rendered is None or split not in sizes:
        raise UserError(
            f"{root}: no such rendered split; there are {', '.join(sizes) or 'none in this scale profile'}"
        )
    try:
        found = synthetic.fingerprint(rendered)
    except UserError as error:  # no font for these words
        return Root(root, "", f"unknown:{root}", sizes[split], missing=str(error))
    return Root(root, str(store.data(found) / split), f"{found}/{split}", sizes[split], rendered)


def _real_roots(root: str) -> tuple[Root, ...]:
    named = root in registry()
    path = locate(root) if named else expand(root)
    missing = ""
    if variable := unset_variable(path):
        missing = f"{root}: the environment variable {variable} is not set"
    elif not Path(path).is_dir():
        missing = f"{path}: no LMDB here (data.mdb is missing)"
    if missing:
        expected = registry()[root].expected if named else 0
        return (
            Root(
                root, path, f"unknown:{root}", expected, missing=absent(root) if named else missing
            ),
        )
    return tuple(replace(one, name=root) for one in _opened(path))


@cache
def _opened(path: str) -> tuple[Root, ...]:
    return tuple(
        Root("", place, *fingerprint(place), note=irregular(place)) for place in find_roots(path)
    )


def different_size(name: str, images: int) -> str:
    """How the size of a named training set differs from the paper's, or nothing. Names of no data set say nothing."""
    known, about = (
        (registry()[name].images, registry()[name].about) if name in registry() else ((), 0)
    )
    if known and images != known[0]:
        return f"{name} has {images:,} images, not {known[0]:,}"
    if about and not 0.75 * about < images < 1.25 * about:
        return f"{name} has {images:,} images, not about {about:,}"
    return ""
