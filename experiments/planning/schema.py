"""What a YAML may say, and how a user's mistake in one is told: one line with file, key, allowed values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, Field, PositiveFloat, PositiveInt, ValidationError

from core.config import (
    ContrastivePretrain,
    Evaluate,
    Finetune,
    FrozenModel,
    Pretrain,
    current_key,
    with_current_keys,
)
from core.runtime.errors import UserError
from core.runtime.yaml import parse_yaml, read_yaml
from core.synthetic.config import Rendered
from results.reported import find_row

HERE = Path(__file__).resolve().parent.parent
EXAMPLE = "experiments/ablation_alignment.yaml"
Tree = dict[str, Any]


def _one_line(text: str) -> str:
    if text.splitlines() != [text]:
        raise ValueError("must be one line of text")
    return text


def once(values: Any) -> Any:
    if isinstance(values, tuple) and len(set(values)) < len(values):
        raise ValueError("none may stand twice")
    return values


Line = Annotated[str, AfterValidator(_one_line)]  # it goes into tables


class Variant(FrozenModel):
    """One row of a table: its name, the method it follows, its delta on the recipe (dotted key -> value), the reported row that
    it stands beside, and the row or rows it is compared with (where no row of the file says so, the one above)."""

    name: Line
    method: str | None = None
    set: Tree = Field(default_factory=dict)
    reported: dict[str, str | bool | float | None] = Field(default_factory=dict)
    against: Annotated[str | tuple[str, ...], AfterValidator(once)] = ()


class Experiment(FrozenModel):
    """One experiment file. `set` is the delta on the recipe that all rows share; the command line goes before it."""

    title: Line
    table: str | None = None
    base: str = "lmim"
    scale: str = "mini"  # profile where the command line names none
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(once)
    ] = (0,)
    set: Tree = Field(default_factory=dict)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]

    def others(self, number: int) -> tuple[str, ...]:
        """The rows that row `number` is compared with: those it names; the one above where no row of the file names any."""
        if not any(variant.against for variant in self.variants):
            return (self.variants[number - 1].name,) if number else ()
        against = self.variants[number].against
        return (against,) if isinstance(against, str) else against


class Teacher(FrozenModel):
    """Where MAE features come from: a checkpoint file, or a pre-training run of its own by one of the recipe's methods.

    A file goes before a run, so that `--set teacher.file=...` is enough to use one. `images`: how many its training saw."""

    file: str | None = None
    images: PositiveInt | None = None
    method: str | None = None


class Given(FrozenModel):
    """Checkpoints taken in place of runs: an encoder to fine-tune (`scratch`: none, begin anew; `teacher`: the teacher's), a
    recognizer to evaluate."""

    encoder: str | None = None
    recognizer: str | None = None


class Length(FrozenModel):
    """How many times the scale's epochs a stage is trained for; the ablation recipe is 1."""

    pretrain: PositiveFloat = 1
    finetune: PositiveFloat = 1


class Recipe(FrozenModel):
    """A base merged with a scale profile. Stage sections are checked as their own configs once a variant is applied.

    `methods`: name -> delta on the recipe. `benchmarks`: name -> subset -> data set. `stand_ins`: named data sets give way to
    the rendered words that `data.yaml` names for them."""

    about: str = ""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    encoder: Tree
    pretrain: Tree
    finetune: Tree
    evaluate: Tree
    methods: dict[str, Tree] = Field(default_factory=dict)
    benchmarks: dict[str, dict[str, str]] = Field(default_factory=dict)
    length: Length = Length()
    teacher: Teacher = Teacher()
    given: Given = Given()
    stand_ins: bool = False
    rendered: Rendered | None = None
    rendered_chinese: Rendered | None = None


STAGES = ("pretrain", "finetune", "evaluate")
SETTINGS = (
    "data.yaml",
    "data.local.yaml",
    "cluster.yaml",
)  # files beside the experiments that are none


def stage_model(
    stage: str, content: Tree
) -> type[Pretrain] | type[ContrastivePretrain] | type[Finetune] | type[Evaluate]:
    """The config that a stage's settings are for."""
    if stage == "pretrain":
        return Pretrain if content.get("contrast") is None else ContrastivePretrain
    return Finetune if stage == "finetune" else Evaluate


@dataclass(frozen=True)
class Layer:
    """Settings and where they were made, for error messages. `dotted`: its keys are paths, its values replace what is there."""

    source: str
    tree: Tree
    dotted: bool = False


def delta(source: str, tree: Tree) -> Layer:
    """A layer of dotted keys. A section stands for the values it names; one that says its kind, or subsets, for all of it."""

    def flat(key: str, value: Any) -> Tree:
        if not isinstance(value, dict) or not value or "kind" in value or key.endswith("subsets"):
            return {key: value}
        return {
            path: one
            for name, inner in value.items()
            for path, one in flat(f"{key}.{name}", inner).items()
        }

    return Layer(
        source,
        {
            current_key(path): with_current_keys(one)
            for key, value in tree.items()
            for path, one in flat(key, value).items()
        },
        dotted=True,
    )


def overrides(pairs: Sequence[str]) -> Tree:
    """KEY=VALUE of the command line, values as YAML. Raises UserError."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair}: write it as KEY=VALUE, e.g. pretrain.mask.ratio=0.7")
        try:
            found[key.strip()] = parse_yaml(value, f"--set {pair}")
        except yaml.YAMLError as error:
            raise UserError(f"--set {pair}: the value is not valid YAML") from error
    return found


def experiment_files(paths: Iterable[Path]) -> list[Path]:
    """The given files without the settings files beside the experiments, as `experiments/*.yaml` names them too.

    Raises UserError if nothing is left."""
    paths = list(paths)
    files = [path for path in paths if path.name not in SETTINGS or path.resolve().parent != HERE]
    if not files:
        raise UserError(f"{paths[0]}: settings, not an experiment; name a file like {EXAMPLE}")
    return files


def read_experiment(path: Path) -> Experiment:
    """An experiment file, checked. Raises UserError."""
    tree = read_yaml(path)
    if not {"title", "variants"} & tree.keys():
        raise UserError(
            f"{path}: not an experiment (no title, no variants); name a file like {EXAMPLE}"
        )
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, Experiment, [Layer(str(path), tree)])) from error
    twins: dict[int | None, str] = {}
    names = [variant.name for variant in experiment.variants]
    if len(set(names)) < len(names):
        raise UserError(
            f"{path}: variants: two have the same name; names must differ: {', '.join(names)}"
        )
    for number, variant in enumerate(experiment.variants):
        others = [name for name in names if name != variant.name]
        if wrong := [name for name in experiment.others(number) if name not in others]:
            choice = f"choose from {', '.join(others)}" if others else "there is only this one"
            raise UserError(
                f"{path}: {variant.name}: against: {wrong[0]}: no other row of that name; {choice}"
            )
        if variant.reported and experiment.table is None:
            raise UserError(
                f"{path}: {variant.name}: reported: say in which table, e.g. table: table1"
            )
        if experiment.table is not None:
            try:
                reported_row = find_row(experiment.table, variant.reported)
            except UserError as error:
                raise UserError(f"{path}: {variant.name}: {error}") from error
            if reported_row is not None and reported_row in twins:
                raise UserError(
                    f"{path}: {variant.name}: reported: {twins[reported_row]} stands beside that row already; one row only"
                )
            twins[reported_row] = variant.name
    return experiment


def named_file(kind: str, name: str) -> Path:
    """A file of `experiments/base` or `experiments/scales` by its name. Raises UserError with the names there are."""
    path = HERE / kind / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in (HERE / kind).glob("*.yaml"))
        raise UserError(
            f"{kind} {name!r}: there is none of that name; choose from {', '.join(names)}"
        )
    return path


@cache
def file_layer(kind: str, name: str) -> Layer:
    """The settings of a base or a scale. Raises UserError."""
    path = named_file(kind, name)
    return Layer(f"experiments/{kind}/{path.name}", with_current_keys(read_yaml(path)))


def explain(
    error: ValidationError, model: type[BaseModel], layers: Sequence[Layer], prefix: str = ""
) -> str:
    """The first problem in one line: file, key, what is wrong, what is allowed. Unknown keys go first."""
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    location = [str(part) for part in problem["loc"]]
    if location[:1] != ["encoder"] and prefix:
        location = [prefix, *location]
    allowed, key = "", ".".join(location)
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(
            model, location[1:-1] if prefix and location[0] == prefix else location[:-1]
        )
        allowed = f"unknown key; allowed: {', '.join(fields)}" if fields else "unknown key"
    elif problem["type"] == "missing":
        allowed = "missing; it must be given"
    else:
        text = problem["msg"].removeprefix("Value error, ")
        given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
        allowed = text[:1].lower() + text[1:] + given
    return f"{source_of(layers, location)}: {key + ': ' if key else ''}{allowed}"


def source_of(layers: Sequence[Layer], location: Sequence[str]) -> str:
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
            named = {field.alias or name: field for name, field in candidate.model_fields.items()}
            if part in named:
                model = named[part].annotation
                break
    return sorted(
        {
            field.alias or name
            for candidate in _models(model)
            for name, field in candidate.model_fields.items()
        }
    )


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models inside an annotation (optional, union, tuple, ...)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) or isinstance(annotation, UnionType):
        for inner in get_args(annotation):
            yield from _models(inner)
