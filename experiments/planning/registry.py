"""Named data sets and their folders: `experiments/settings/data.yaml`, a user's file, variables."""

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, model_validator

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.former_keys import current_root
from core.runtime.number_types import PositiveInt
from core.runtime.yaml import read_yaml
from experiments.planning.diagnostics import Layer, explain
from experiments.planning.schema import HERE

REGISTRY = HERE / "settings" / "data.yaml"
USER_FILE = HERE / "settings" / "data.local.yaml"


Paths = str | Annotated[tuple[str, ...], Field(min_length=1)]


class BuiltFrom(FrozenModel):
    """What a run makes a data set from, if the set has no folder: words and their boxes.

    words: the data set that has the words.
    boxes: a file of boxes, or files where it can be; variables are not filled in.
    split: the words of the file that these are.
    """

    words: str
    boxes: Paths
    split: str


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
    built_from: what a run makes it from if its folder is absent.
    """

    root: Paths
    title: str
    published: str
    synthetic_substitute: Annotated[str, AfterValidator(current_root)] = ""
    images: tuple[PositiveInt, ...] = ()
    approximate_images: PositiveInt | None = None
    characters: PositiveInt | None = None
    folder_names: tuple[str, ...] = ()
    built_from: BuiltFrom | None = None

    @property
    def expected_images(self) -> int:
        """The number of images to plan with if the data set is absent; 0 if none is known."""
        return self.images[0] if self.images else self.approximate_images or 0

    @property
    def roots(self) -> tuple[str, ...]:
        return _as_tuple(self.root)


def _as_tuple(paths: Paths) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else paths


class _Registry(FrozenModel):
    sets: dict[str, DataSet]

    @model_validator(mode="after")
    def _check_words(self) -> "_Registry":
        for name, data_set in self.sets.items():
            if data_set.built_from is None:
                continue
            words = data_set.built_from.words
            if words not in self.sets or self.sets[words].built_from is not None:
                raise ValueError(f"{name}: built_from.words: {words!r} is no data set with words")
        return self


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
    chosen = _chosen_folder(name)
    return registry()[name].roots if chosen is None else (chosen,)


def _chosen_folder(name: str) -> str | None:
    """The folder that a variable or the user's file names for a data set, if one does."""
    variable = f"LMIM_ROOT_{name.upper()}"
    return os.environ[variable] if variable in os.environ else user_roots().get(name)


def locate(name: str) -> str:
    """The folder of a named data set: the first that exists, else the first that could exist."""
    return _first_existing(candidate_folders(name))


def _first_existing(paths: Sequence[str]) -> str:
    """The first path that exists, else the first that could exist; variables are filled in."""
    candidates = [expand(path) for path in paths]
    complete = [folder for folder in candidates if not unset_variable(folder)]
    existing = [folder for folder in complete if os.path.exists(folder)]
    return (existing or complete or candidates)[0]


def built_from(name: str) -> BuiltFrom | None:
    """What a run makes a data set from: None if it has a folder, or the user names one."""
    source = registry()[name].built_from
    if source is None or _chosen_folder(name) is not None or os.path.exists(locate(name)):
        return None
    return source


def boxes_file(source: BuiltFrom) -> str | None:
    """The file of boxes; None if there is none at its places."""
    path = _first_existing(_as_tuple(source.boxes))
    return path if os.path.isfile(path) else None


def can_be_built(name: str) -> bool:
    """Whether a data set has no folder, and a run can make it."""
    source = built_from(name)
    if source is None or boxes_file(source) is None:
        return False
    return os.path.isdir(locate(source.words))


def words_of(name: str) -> str:
    """The data set whose words a set has: another one if it only adds boxes to them.

    name: any root, also one that is no data set."""
    data_set = registry().get(name)
    return name if data_set is None or data_set.built_from is None else data_set.built_from.words


def describe_absence(name: str) -> str:
    """A sentence on an absent data set: what it is, who publishes it, how to name its folder."""
    data_set = registry()[name]
    source = built_from(name)
    if source is not None:
        return _describe_unbuilt(name, source)
    reasons = _where_absent(candidate_folders(name))
    sizes = " or ".join(f"{size:,}" for size in sorted(data_set.images))
    details = f"{data_set.title}, {sizes} images" if sizes else data_set.title
    published = data_set.published
    if "://" in published.split()[0]:
        published = f"published at {published}"
    return (
        f"{name}: {reasons} ({details}; {published}); put it there or set LMIM_ROOT_{name.upper()}"
    )


def _where_absent(paths: Sequence[str]) -> str:
    """Where something could be and is not."""
    variables = [(unset_variable(path), expand(path)) for path in paths]
    reasons = [f"{name} is not set" if name else f"nothing at {path}" for name, path in variables]
    return " and ".join(dict.fromkeys(reasons))


def _describe_unbuilt(name: str, source: BuiltFrom) -> str:
    """A sentence on a data set that a run makes: what is missing for it, or how to make it now."""
    words = locate(source.words)
    file = boxes_file(source)
    if not os.path.isdir(words):
        return f"{name}: its words are absent; {describe_absence(source.words)}"
    if file is None:
        reasons = _where_absent(_as_tuple(source.boxes))
        return (
            f"{name}: the file of boxes is absent ({reasons}); put it there, or set "
            f"LMIM_ROOT_{name.upper()} to a folder that `run.py data build --boxes` made"
        )
    return (
        f"{name}: a run makes it from {source.words} and {file}; name {source.words}, or make it "
        f"with `run.py data build {words} FOLDER --boxes {file} --split {source.split}` and set "
        f"LMIM_ROOT_{name.upper()} to that folder"
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
