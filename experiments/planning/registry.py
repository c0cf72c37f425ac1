"""Names of data sets -> folders: `experiments/settings/data.yaml`, a user's file, the environment."""

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, ValidationError

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.yaml import read_yaml
from experiments.planning.schema import HERE, Layer, explain

REGISTRY, USER_FILE = HERE / "settings" / "data.yaml", HERE / "settings" / "data.local.yaml"


class DataSet(FrozenModel):
    """What a data set is, where it may lie, how many images it has (every size it is known under, the paper's first), who
    publishes it.

    `about`: roughly how many images, where no size is known. `stand_in`: the rendered split read in its place. `characters`:
    how many different ones its labels have."""

    root: str | Annotated[tuple[str, ...], Field(min_length=1)]
    what: str
    published: str
    stand_in: str = ""
    images: tuple[PositiveInt, ...] = ()
    about: PositiveInt | None = None
    characters: PositiveInt | None = None
    also: tuple[str, ...] = ()

    @property
    def expected(self) -> int:
        """Images to plan with while the set is not there; 0 if nothing is known."""
        return self.images[0] if self.images else self.about or 0

    @property
    def roots(self) -> tuple[str, ...]:
        return (self.root,) if isinstance(self.root, str) else self.root


class _Registry(FrozenModel):
    sets: dict[str, DataSet]


@cache
def registry() -> dict[str, DataSet]:
    """Every named data set. Raises UserError if the file is not as it should be."""
    tree = {"sets": read_yaml(REGISTRY)}
    try:
        return _Registry.model_validate(tree).sets
    except ValidationError as error:
        raise UserError(explain(error, _Registry, [Layer(str(REGISTRY), tree)])) from error


def user_roots() -> dict[str, str]:
    """Name -> folder from the user's file. Raises UserError for a name that is not in the registry."""
    named = os.environ.get("LMIM_DATA_FILE")
    path = Path(named) if named else USER_FILE
    if not named and not path.is_file():
        return {}
    roots = read_yaml(path)
    for name, root in roots.items():
        if name not in registry():
            raise UserError(
                f"{path}: {name}: no data set of that name; choose from {', '.join(registry())}"
            )
        if not isinstance(root, str):
            raise UserError(f"{path}: {name}: must be a folder")
    return roots


def expand(root: str) -> str:
    """A root with its environment variables and `~` filled in, where they are set."""
    return os.path.expanduser(os.path.expandvars(root))


def unset_variable(path: str) -> str:
    """The first environment variable that a path needs and that is not set, or nothing."""
    found = re.search(r"\$\{?(\w+)", expand(path))
    return found[1] if found else ""


def places(name: str) -> Sequence[str]:
    """Where a named data set may lie, the likeliest first; variables not yet filled in."""
    variable = f"LMIM_ROOT_{name.upper()}"
    if variable in os.environ:
        return (os.environ[variable],)
    user = user_roots()
    return (user[name],) if name in user else registry()[name].roots


def locate(name: str) -> str:
    """The folder of a named data set: the first place where there is something, else the first that could be."""
    possible = [expand(place) for place in places(name)]
    known = [place for place in possible if not unset_variable(place)]
    return next((place for place in known if os.path.exists(place)), (known or possible)[0])


def absent(name: str) -> str:
    """One sentence for a named data set that is not there: what it is, who publishes it, how to say where it lies."""
    one = registry()[name]
    images = " or ".join(f"{number:,}" for number in sorted(one.images))
    size = f", {images} images" if images else ""
    lacks = []
    for place in places(name):
        variable = unset_variable(place)
        lacks.append(f"{variable} is not set" if variable else f"nothing at {expand(place)}")
    published = (
        f"published at {one.published}" if "://" in one.published.split()[0] else one.published
    )
    told = f"{' and '.join(lacks)} ({one.what}{size}; {published})"
    return f"{name}: {told}; put it there or set LMIM_ROOT_{name.upper()}"


def recognize(path: str) -> str | None:
    """The registry's name for a folder: by the place it lies at, else by the folder's own name; None if it has none."""
    real = os.path.realpath(path)
    for name in registry():
        if os.path.realpath(locate(name)) == real:
            return name
    own = _plain(Path(real).name)
    for name, one in registry().items():
        if own in {_plain(other) for other in (name, *one.also)}:
            return name
    return None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", re.sub(r"(_lmdb|\.lmdb)$", "", name.lower()))
