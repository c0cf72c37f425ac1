"""Named data sets and their folders: `experiments/settings/data.yaml`, a user's file, variables."""

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.former_keys import current_root
from core.runtime.number_types import PositiveInt
from core.runtime.yaml import read_yaml
from experiments.planning.diagnostics import Layer, explain
from experiments.planning.schema import HERE

REGISTRY = HERE / "settings" / "data.yaml"
USER_FILE = HERE / "settings" / "data.local.yaml"


class DataSet(FrozenModel):
    """A named data set.

    root: its folder, or folders where it can be; variables are not filled in.
    title: what the data set is.
    published: who publishes it.
    synthetic_substitute: the synthetic root that replaces it where a scale says so.
    images: each size under which it is known, the paper's first.
    approximate_images: roughly how many images it has, if no exact size is known.
    characters: the number of different characters in its labels.
    folder_names: other names of its folder.
    """

    root: str | Annotated[tuple[str, ...], Field(min_length=1)]
    title: str
    published: str
    synthetic_substitute: Annotated[str, AfterValidator(current_root)] = ""
    images: tuple[PositiveInt, ...] = ()
    approximate_images: PositiveInt | None = None
    characters: PositiveInt | None = None
    folder_names: tuple[str, ...] = ()

    @property
    def expected_images(self) -> int:
        """The number of images to plan with if the data set is absent; 0 if none is known."""
        return self.images[0] if self.images else self.approximate_images or 0

    @property
    def roots(self) -> tuple[str, ...]:
        return (self.root,) if isinstance(self.root, str) else self.root


class _Registry(FrozenModel):
    sets: dict[str, DataSet]


@cache
def registry() -> dict[str, DataSet]:
    """Name -> data set. Raises UserError if `data.yaml` is not valid."""
    tree = {"sets": read_yaml(REGISTRY)}
    try:
        return _Registry.model_validate(tree).sets
    except ValidationError as error:
        raise UserError(explain(error, _Registry, [Layer(str(REGISTRY), tree)])) from error


def user_roots() -> dict[str, str]:
    """Name -> folder, from the user's file. Raises UserError for an unknown name."""
    chosen = os.environ.get("LMIM_DATA_FILE")
    path = Path(chosen) if chosen else USER_FILE
    if not chosen and not path.is_file():
        return {}
    roots = read_yaml(path)
    for name, root in roots.items():
        if name not in registry():
            raise UserError(
                f"{path}: unknown data set {name!r}; choose from {', '.join(registry())}"
            )
        if not isinstance(root, str):
            raise UserError(f"{path}: {name}: must be a folder")
    return roots


def expand(root: str) -> str:
    """A root with `~` and the environment variables that are set filled in."""
    return os.path.expanduser(os.path.expandvars(root))


def unset_variable(path: str) -> str:
    """The first environment variable in a path that is not set, or an empty text."""
    match = re.search(r"\$\{?(\w+)", expand(path))
    return match[1] if match else ""


def candidate_folders(name: str) -> Sequence[str]:
    """The folders where a named data set can be, the most likely first; variables not filled in."""
    variable = f"LMIM_ROOT_{name.upper()}"
    if variable in os.environ:
        return (os.environ[variable],)
    user = user_roots()
    return (user[name],) if name in user else registry()[name].roots


def locate(name: str) -> str:
    """The folder of a named data set: the first that exists, else the first that could exist."""
    candidates = [expand(folder) for folder in candidate_folders(name)]
    complete = [folder for folder in candidates if not unset_variable(folder)]
    existing = [folder for folder in complete if os.path.exists(folder)]
    return (existing or complete or candidates)[0]


def describe_absence(name: str) -> str:
    """A sentence on an absent data set: what it is, who publishes it, how to name its folder."""
    data_set = registry()[name]
    reasons = []
    for folder in candidate_folders(name):
        variable = unset_variable(folder)
        reasons.append(f"{variable} is not set" if variable else f"nothing at {expand(folder)}")
    sizes = " or ".join(f"{size:,}" for size in sorted(data_set.images))
    details = f"{data_set.title}, {sizes} images" if sizes else data_set.title
    published = data_set.published
    if "://" in published.split()[0]:
        published = f"published at {published}"
    return (
        f"{name}: {' and '.join(reasons)} ({details}; {published}); "
        f"put it there or set LMIM_ROOT_{name.upper()}"
    )


def data_set_name(path: str) -> str | None:
    """The registry's name for a folder, or None.

    The folder's location decides first, then the folder's own name.
    """
    real = os.path.realpath(path)
    for name in registry():
        if os.path.realpath(locate(name)) == real:
            return name
    folder = _simplified(Path(real).name)
    for name, data_set in registry().items():
        if folder in {_simplified(alias) for alias in (name, *data_set.folder_names)}:
            return name
    return None


def _simplified(name: str) -> str:
    """A folder's name without case, symbols and the ending `_lmdb`."""
    return re.sub("[^a-z0-9]", "", re.sub(r"(_lmdb|\.lmdb)$", "", name.lower()))
