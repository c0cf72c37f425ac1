"""What a YAML may say, and how a user's mistake in one is told: one line with file, key, allowed values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from core.config import Closed, Evaluate, Finetune, Pretrain, Rendered
from core.errors import UserError
from results.reported import reported_row

HERE = Path(__file__).resolve().parent
Tree = dict[str, Any]


class Variant(Closed):
    """One row of a table: its name, its delta on the recipe (dotted key -> value), the reported row it stands beside."""

    name: Annotated[str, Field(min_length=1)]
    set: Tree = Field(default_factory=dict)
    reported: dict[str, str | bool | float] = Field(default_factory=dict)


class Experiment(Closed):
    """One experiment file."""

    title: str
    table: str | None = None
    base: str = "lmim"
    scale: str = "mini"  # profile where the command line names none
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]


class Teacher(Closed):
    """Where MAE features come from: a checkpoint file, or a pre-training run of its own (dotted deltas on `pretrain`).

    A file goes before a run, so that `--set teacher.file=...` is enough to use one."""

    file: str | None = None
    run: dict[str, Any] | None = None


class Given(Closed):
    """Checkpoints taken in place of runs: an encoder to fine-tune (`scratch`: none, begin anew), a recogniser to evaluate."""

    encoder: str | None = None
    recognizer: str | None = None


class Recipe(Closed):
    """A base merged with a scale profile. Stage sections are checked as their own configs once a variant is applied."""

    about: str = ""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    encoder: Tree
    pretrain: Tree
    finetune: Tree
    evaluate: Tree
    teacher: Teacher = Teacher()
    given: Given = Given()
    rendered: Rendered | None = None


STAGES: dict[str, type[Pretrain] | type[Finetune] | type[Evaluate]] = {
    "pretrain": Pretrain,
    "finetune": Finetune,
    "evaluate": Evaluate,
}


@dataclass(frozen=True)
class Layer:
    """Settings and where they were made, for error messages. `dotted`: its keys are paths, its values replace what is there."""

    source: str
    tree: Tree
    dotted: bool = False


def read_yaml(path: Path) -> Tree:
    """A YAML mapping. Raises UserError if the file is missing or not one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: empty, or not a mapping of keys to values")
    return content


def overrides(pairs: Sequence[str]) -> Tree:
    """KEY=VALUE of the command line, values as YAML. Raises UserError."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair}: write it as KEY=VALUE, e.g. pretrain.mask.ratio=0.7")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {pair}: the value is not valid YAML") from error
    return found


def read_experiment(path: Path) -> Experiment:
    """An experiment file, checked."""
    tree = read_yaml(path)
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, Experiment, [Layer(str(path), tree)])) from error
    if experiment.table is not None:
        try:
            for variant in experiment.variants:
                reported_row(experiment.table, variant.reported)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    names = [variant.name for variant in experiment.variants]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: variants: two have the same name; names must differ: {', '.join(names)}")
    return experiment


def named_file(kind: str, name: str) -> Path:
    """A file of `experiments/base` or `experiments/scales` by its name. Raises UserError with the names there are."""
    path = HERE / kind / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in (HERE / kind).glob("*.yaml"))
        raise UserError(f"{kind} {name!r}: there is none of that name; choose from {', '.join(names)}")
    return path


@cache
def _layer(kind: str, name: str) -> Layer:
    path = named_file(kind, name)
    return Layer(f"experiments/{kind}/{path.name}", read_yaml(path))


def merge(below: Any, above: Any) -> Any:
    """Mappings merge key by key; anything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merge(below.get(key), value) for key, value in above.items()}
    return above


def set_key(tree: Tree, key: str, value: Any, source: str) -> Tree:
    """`tree` with the value at a dotted key replaced; a section that is off (null) is turned on."""
    head, _, rest = key.partition(".")
    if not rest:
        return tree | {head: value}
    inner = tree.get(head)
    if inner is not None and not isinstance(inner, dict):
        raise UserError(f"{source}: {key}: {head} is a single value, it has no {rest}")
    return tree | {head: set_key(inner or {}, rest, value, source)}


def apply(layers: Sequence[Layer]) -> Tree:
    """The layers, lowest first, as one tree."""
    tree: Tree = {}
    for layer in layers:
        if layer.dotted:
            for key, value in layer.tree.items():
                tree = set_key(tree, key, value, layer.source)
        else:
            tree = merge(tree, layer.tree)
    return tree


def recipe_layers(experiment: Experiment, scale: str, overrides: Tree) -> list[Layer]:
    """Base, scale, command line. A variant's own delta goes on top, for a row is defined by it."""
    return [_layer("base", experiment.base), _layer("scales", scale), Layer("--set", overrides, dotted=True)]


def read_recipe(layers: Sequence[Layer]) -> Recipe:
    """The merged layers, checked as far as a recipe goes. Raises UserError."""
    try:
        return Recipe.model_validate(apply(layers))
    except ValidationError as error:
        raise UserError(explain(error, Recipe, layers)) from error


def read_stage(stage: str, recipe: Recipe, precision: str, seed: int, layers: Sequence[Layer]) -> Any:
    """One stage's config of a recipe. Raises UserError naming file and key."""
    elsewhere = {"precision": "precision", "encoder": "encoder", "seed": "seeds (or --seeds)"}
    for key, right in elsewhere.items():
        if key in getattr(recipe, stage):
            raise UserError(f"{_source(layers, [stage, key])}: {stage}.{key}: all stages share it; set {right} instead")
    content = getattr(recipe, stage) | {"precision": precision}
    if stage != "evaluate":
        content |= {"encoder": recipe.encoder, "seed": seed}
    try:
        return STAGES[stage].model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, STAGES[stage], layers, stage)) from error


def explain(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer], prefix: str = "") -> str:
    """The first problem in one line: file, key, what is wrong, what is allowed."""
    problem = error.errors()[0]
    location = [str(part) for part in problem["loc"]]
    if location[:1] != ["encoder"] and prefix:
        location = [prefix, *location]
    allowed, key = "", ".".join(location)
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(model, location[1:-1] if prefix and location[0] == prefix else location[:-1])
        allowed = f"unknown key; allowed: {', '.join(fields)}" if fields else "unknown key"
    elif problem["type"] == "missing":
        allowed = "missing; it must be given"
    else:
        text = problem["msg"].removeprefix("Value error, ")
        given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
        allowed = text[:1].lower() + text[1:] + given
    return f"{_source(layers, location)}: {key + ': ' if key else ''}{allowed}"


def _source(layers: Sequence[Layer], location: Sequence[str]) -> str:
    """The topmost layer that says something at, or nearest above, a location."""
    typed = [layer for layer in layers if layer.source == "--set"]
    likely = [*typed, *reversed(layers)]  # a slip is likeliest in what was typed just now
    for length in range(len(location), 0, -1):
        path = list(location[:length])
        for layer in likely:
            if layer.dotted:
                keys = [key.split(".") for key in layer.tree]
                if any(key[: len(path)] == path[: len(key)] for key in keys):
                    return layer.source
            elif _has(layer.tree, path):
                return layer.source
    return layers[0].source


def _has(tree: Any, path: Sequence[str]) -> bool:
    for part in path:
        if isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        elif isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        else:
            return False
    return True


def _fields_at(model: Any, path: Sequence[str]) -> list[str]:
    """Names that a model allows at a location inside it."""
    for part in path:
        for candidate in _models(model):
            if part in candidate.model_fields:
                model = candidate.model_fields[part].annotation
                break
    return sorted({name for candidate in _models(model) for name in candidate.model_fields})


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models inside an annotation (optional, union, tuple, ...)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) or isinstance(annotation, UnionType):
        for inner in get_args(annotation):
            yield from _models(inner)
