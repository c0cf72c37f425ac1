"""Models of experiment files and recipes, and their readers."""

from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from core.config import ContrastivePretrain, Evaluate, Finetune, FrozenModel, Pretrain, Probe
from core.runtime.errors import UserError
from core.runtime.former_keys import RepeatedKeyError, with_current_keys
from core.runtime.number_types import Integer, Number, PositiveFloat, PositiveInt
from core.runtime.yaml import read_yaml
from core.synthetic.config import Synthetic
from experiments.planning.changes import refuse_repeated_settings
from experiments.planning.diagnostics import Layer, Tree, explain
from experiments.planning.endpoints import DEFAULT_ENDPOINT, split_endpoint
from results.reported import find_row

HERE = Path(__file__).resolve().parent.parent  # the folder of the experiment files
EXAMPLE = "experiments/ablation_alignment.yaml"
STAGES = ("pretrain", "finetune", "evaluate", "probe")

Values = TypeVar("Values")


def _one_line(text: str) -> str:
    if text.splitlines() != [text]:
        raise ValueError("must be one line of text")
    return text


def _endpoint_name(name: str) -> str:
    split_endpoint(name)
    return name


EndpointName = Annotated[str, AfterValidator(_endpoint_name)]


def without_duplicates(values: Values) -> Values:
    """The values, unchanged. Raises ValueError if they are a tuple with a duplicate."""
    if isinstance(values, tuple):
        seen: set[Hashable] = set()
        for value in values:
            if value in seen:
                raise ValueError(f"duplicate value {value}")
            seen.add(value)
    return values


Line = Annotated[str, AfterValidator(_one_line)]  # text that a table cell can hold
Seed = Annotated[Integer, Field(ge=0)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(without_duplicates)]


CONTROL_PREFIX = "control: "  # of the name of a control row


class Variant(FrozenModel):
    """One row of a table.

    name: the name of the row.
    method: a method of the recipe (LMIM if none is named).
    set: the changes to the recipe, dotted key -> value.
    reported: the keys of the paper's row that the row reproduces.
    compare_with: the row or rows that the row is compared with.
    """

    name: Line
    method: str | None = None
    set: Tree = Field(default_factory=dict)
    reported: dict[str, str | bool | Number | None] = Field(default_factory=dict)
    compare_with: Annotated[str | tuple[str, ...], AfterValidator(without_duplicates)] = ()


class Experiment(FrozenModel):
    """One experiment file.

    title: a description for people.
    table: the paper's table that the file reproduces.
    base: the recipe, a file of `experiments/base`.
    scale: the scale profile that is used if the command line names none.
    seeds: each row is run once for each seed.
    primary: the endpoint that decides, declared before the runs; None is the scale's.
    set: changes to the recipe that all rows share. Settings of the command line replace them.
    variants: the rows.
    """

    title: Line
    table: str | None = None
    base: str = "lmim"
    scale: str = "mini"
    seeds: Seeds = (0,)
    primary: EndpointName | None = None
    set: Tree = Field(default_factory=dict)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]

    def compared_rows(self, number: int) -> tuple[str, ...]:
        """The names of the rows that row `number` is compared with.

        If no row of the file has `compare_with`, each row is compared with the row above it.
        """
        if not any(variant.compare_with for variant in self.variants):
            return (self.variants[number - 1].name,) if number else ()
        names = self.variants[number].compare_with
        return (names,) if isinstance(names, str) else names

    def with_control(self, method: str | None) -> "Experiment":
        """The experiment with a control row at its end, with which every other row is compared.

        Unchanged without a method, or if a row has this method and no changes.

        method: the control's method, mostly `scratch`: an untrained encoder.
        """
        if method is None or any(row.method == method and not row.set for row in self.variants):
            return self
        name = f"{CONTROL_PREFIX}{method}"
        rows = tuple(
            variant.model_copy(update={"compare_with": (*self.compared_rows(number), name)})
            for number, variant in enumerate(self.variants)
        )
        control = Variant(name=name, method=method)
        return self.model_copy(update={"variants": (*rows, control)})


class Teacher(FrozenModel):
    """The encoder whose features are the reconstruction target.

    file: a checkpoint. It takes precedence over `method`, so `--set teacher.file=...` suffices.
    images: the number of images that the checkpoint was trained on.
    method: a method of the recipe; the teacher is then pre-trained in a separate run.
    """

    file: str | None = None
    images: PositiveInt | None = None
    method: str | None = None


class Init(FrozenModel):
    """Checkpoints that replace runs.

    encoder: the weights that fine-tuning starts from, instead of a pre-training run. A file, or
        `scratch` for random weights, or `teacher` for the teacher's weights.
    recognizer: a file with a recognizer that is evaluated, instead of a fine-tuning run.
    """

    encoder: str | None = None
    recognizer: str | None = None


class EpochMultiplier(FrozenModel):
    """Factors for the epochs of the training stages. The factor of the ablations is 1."""

    pretrain: PositiveFloat = 1
    finetune: PositiveFloat = 1


class Recipe(FrozenModel):
    """A base merged with a scale profile and an experiment's changes.

    The sections of the stages are checked later, as the configs of their stages.

    methods: name -> changes to the recipe, dotted key -> value.
    benchmarks: name -> subset -> name of a data set.
    substitute_synthetic: replace named data sets by the synthetic words that `data.yaml` names.
    probes: name -> settings of a probe of each row's encoder (`PROBE_INPUT` and those of `Probe`;
        words, charset and protocol are those of fine-tuning and evaluation unless it names others).
    control: a method; each experiment gets a row of it, with which all its rows are compared.
    primary: the endpoint that decides, unless the experiment names one; the others are exploratory.
    transfers: the number of fine-tunings of each pre-trained encoder, each with its own seed.
    """

    description: str = ""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    encoder: Tree
    pretrain: Tree
    finetune: Tree
    evaluate: Tree
    methods: dict[str, Tree] = Field(default_factory=dict)
    benchmarks: dict[str, dict[str, str]] = Field(default_factory=dict)
    epoch_multiplier: EpochMultiplier = EpochMultiplier()
    teacher: Teacher = Teacher()
    init: Init = Init()
    substitute_synthetic: bool = False
    probes: dict[str, Tree | None] = Field(default_factory=dict)
    control: str | None = None
    primary: EndpointName = DEFAULT_ENDPOINT
    transfers: Annotated[Integer, Field(ge=1, le=100)] = 1
    synthetic: Synthetic | None = None
    synthetic_chinese: Synthetic | None = None


StageModel = (
    type[Pretrain] | type[ContrastivePretrain] | type[Finetune] | type[Evaluate] | type[Probe]
)
# Key of a probe's section: the encoder that is probed. `encoder`: the one that fine-tuning starts
# from (default). `recognizer`: that of the fine-tuned recognizer.
PROBE_INPUT = "of"
PROBE_INPUTS = ("encoder", "recognizer")


def stage_model(stage: str, content: Tree) -> StageModel:
    """The config model for a stage's settings."""
    if stage == "pretrain":
        return Pretrain if content.get("contrast") is None else ContrastivePretrain
    if stage == "probe":
        return Probe
    return Finetune if stage == "finetune" else Evaluate


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
    refuse_repeated_settings(f"{path}: set", experiment.set)
    for variant in experiment.variants:
        refuse_repeated_settings(f"{path}: {variant.name}", variant.set)
    _check_names(path, experiment)
    _check_reported_rows(path, experiment)
    return experiment


def _check_names(path: Path, experiment: Experiment) -> None:
    """Raise UserError unless names of rows are unique and `compare_with` names other rows."""
    names = [variant.name for variant in experiment.variants]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UserError(f"{path}: variants: duplicate name {name!r}; names must differ")
    for number, name in enumerate(names):
        choices = [choice for choice in names if choice != name]
        for compared in experiment.compared_rows(number):
            if compared not in choices:
                advice = f"choose from {', '.join(choices)}" if choices else "the file has one row"
                raise UserError(
                    f"{path}: {name}: compare_with: {compared!r} is not another row; {advice}"
                )


def _check_reported_rows(path: Path, experiment: Experiment) -> None:
    """Raise UserError unless each `reported` names a row of the paper's table, and no row twice."""
    users: dict[int, str] = {}  # number of the paper's row -> name of our row
    for variant in experiment.variants:
        source = f"{path}: {variant.name}"
        if experiment.table is None:
            if variant.reported:
                raise UserError(f"{source}: reported: name the table too, e.g. table: table1")
            continue
        try:
            row = find_row(experiment.table, variant.reported)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        if row is None:
            continue
        if row in users:
            raise UserError(
                f"{source}: reported: {users[row]!r} reproduces the same row of the paper"
            )
        users[row] = variant.name


def named_file(kind: str, name: str) -> Path:
    """The file of a base or scale. Raises UserError with the known names.

    kind: `base` or `scales`, a folder of `experiments`.
    """
    path = HERE / kind / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in (HERE / kind).glob("*.yaml"))
        raise UserError(
            f"unknown {kind.removesuffix('s')} {name!r}; choose from {', '.join(names)}"
        )
    return path


@cache
def file_layer(kind: str, name: str) -> Layer:
    """The settings of a base or scale. Raises UserError. kind: `base` or `scales`."""
    path = named_file(kind, name)
    source = f"experiments/{kind}/{path.name}"
    tree = read_yaml(path)
    methods = tree.get("methods")
    for name, changes in methods.items() if isinstance(methods, dict) else ():
        if isinstance(changes, dict):
            refuse_repeated_settings(f"{source}: methods.{name}", changes)
    try:
        return Layer(source, with_current_keys(tree))
    except RepeatedKeyError as error:
        raise UserError(f"{source}: {error}") from error
