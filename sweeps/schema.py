"""What a sweep's YAML may say. Samplers and pruners take Optuna's own argument names; their values are pinned here, so that a
newer Optuna with other defaults searches as before."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from core.config import Closed
from core.errors import UserError
from core.yaml_files import read_yaml
from experiments.schema import Layer, Line, Tree, explain

EXAMPLE = "sweeps/mask_ratio.yaml"
OBJECTIVES = {
    "validation_avg": "validation Avg: accuracy, averaged over the validation sets",
    "validation_wavg": "validation W-Avg: accuracy over all validation images",
}
TESTS = (
    "is read on test images, and settings that were chosen by them make the numbers reported on them too good; "
    f"search by {' or '.join(OBJECTIVES)}, and read the tests once, with --write-experiment's file"
)
Plain = str | int | float | bool | None


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError("give the lower end, then the higher one")
    return ends


def _objective(name: str) -> str:
    if name not in OBJECTIVES:
        tests = not name.startswith("validation")
        raise ValueError(f"{name} {TESTS}" if tests else f"choose from {', '.join(OBJECTIVES)}")
    return name


class Parameter(Closed):
    """One searched value: `float` or `int` with its ends, or `categorical` with its choices, which may be given names.

    log: searched on a logarithmic scale. step: between values. relative: the ends are multiples of the recipe's own value.
    when: other searched values (one, or a list of them) under which this one is searched at all."""

    real: Annotated[tuple[float, float], AfterValidator(_ordered)] | None = Field(default=None, alias="float")
    whole: Annotated[tuple[int, int], AfterValidator(_ordered)] | None = Field(default=None, alias="int")
    categorical: Annotated[tuple[Plain, ...], Field(min_length=1)] | dict[str, Any] | None = None
    log: bool = False
    step: PositiveFloat | None = None
    relative: bool = False
    when: dict[str, Plain | list[Plain]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind(self) -> "Parameter":
        if sum(kind is not None for kind in (self.real, self.whole, self.categorical)) != 1:
            raise ValueError("give one of float: [low, high], int: [low, high], categorical: [...]")
        if self.categorical is not None and (self.log or self.step or self.relative):
            raise ValueError("log, step and relative are for float and int, not for categorical")
        if self.log and self.step:
            raise ValueError("a logarithmic scale has no even step; give log or step")
        if self.relative and self.real is None:
            raise ValueError("relative is for float")
        if self.whole is not None and self.step is not None and self.step != int(self.step):
            raise ValueError("the step of int must be a whole number")
        if self.log and (self.real or self.whole or (1,))[0] <= 0:
            raise ValueError("a logarithmic scale begins above 0")
        return self

    def choices(self) -> list[Plain]:
        """Of a categorical parameter, as Optuna knows them."""
        return list(self.categorical or ())

    def value(self, choice: Plain) -> Any:
        """What is set where Optuna has drawn `choice`."""
        return self.categorical[str(choice)] if isinstance(self.categorical, dict) else choice

    def grid(self) -> list[Plain]:
        """All values, of which a grid is made. Raises ValueError for a float without a step."""
        if self.categorical is not None:
            return self.choices()
        low, high = self.real or self.whole or (0, 0)
        if self.real is not None and self.step is None:
            raise ValueError("a grid needs a step, or categorical: [...]")
        step = self.step or 1
        values = [round(low + step * number, 12) for number in range(round((high - low) / step + 1e-9) + 1)]
        return [value if self.real is not None else int(value) for value in values if value <= high + 1e-12]


class Sampler(Closed):
    seed: NonNegativeInt = 0


class Tpe(Sampler):
    kind: Literal["tpe"] = "tpe"
    n_startup_trials: PositiveInt = 10
    n_ei_candidates: PositiveInt = 24
    multivariate: bool = True
    group: bool = True
    constant_liar: bool = True

    @model_validator(mode="after")
    def _groups_are_multivariate(self) -> "Tpe":
        if self.group and not self.multivariate:
            raise ValueError("group: true needs multivariate: true")
        return self


class RandomSearch(Sampler):
    kind: Literal["random"]


class Grid(Sampler):
    kind: Literal["grid"]


class Gp(Sampler):
    kind: Literal["gp"]
    n_startup_trials: PositiveInt = 10
    deterministic_objective: bool = False


Share = Annotated[float, Field(gt=0, lt=1)]


def _rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if list(shares) != sorted(set(shares)):
        raise ValueError("must rise, e.g. [0.25, 0.5, 0.75]")
    return shares


class Pruner(Closed):
    """`at`: shares of the fine-tuning after which the validation accuracy is compared with other trials'. Optuna knows them as
    per cent of a trial's fine-tuning (all seeds), which is what its arguments count in."""

    at: Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(_rising)] = (0.25, 0.5, 0.75)


class Median(Pruner):
    kind: Literal["median"]
    n_startup_trials: NonNegativeInt = 5
    n_warmup_steps: NonNegativeInt = 0
    interval_steps: PositiveInt = 1
    n_min_trials: PositiveInt = 1


class Halving(Pruner):
    """Asynchronous successive halving (ASHA)."""

    kind: Literal["halving"]
    min_resource: PositiveInt = 25
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    min_early_stopping_rate: NonNegativeInt = 0
    bootstrap_count: NonNegativeInt = 0


class Hyperband(Pruner):
    kind: Literal["hyperband"]
    min_resource: PositiveInt = 25
    max_resource: PositiveInt = 100
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    bootstrap_count: NonNegativeInt = 0


class Budget(Closed):
    """`hours`: no trial is begun once the trials have taken so long, one after another."""

    hours: PositiveFloat | None = None


class Sweep(Closed):
    """One sweep file. `experiment`, `variant`: the row that trials start from; `set` and the trial's values go on top of it.

    trials: in all, complete or pruned, however often and by how many workers it is run. recipe_first: the first trial takes the
    row's own values, so that the best one has something to be compared with."""

    title: Line
    experiment: str
    variant: str | None = None
    scale: str | None = None
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    set: Tree = Field(default_factory=dict)
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    objective: Annotated[str, AfterValidator(_objective)] = "validation_avg"
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Annotated[Tpe | RandomSearch | Grid | Gp, Field(discriminator="kind")] = Tpe()
    pruner: Annotated[Median | Halving | Hyperband, Field(discriminator="kind")] | None = None
    trials: PositiveInt
    recipe_first: bool = True
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _conditions_are_searched(self) -> "Sweep":
        before: dict[str, Parameter] = {}
        for name, parameter in self.space.items():
            for other, wanted in parameter.when.items():
                if other not in before:
                    raise ValueError(f"space.{name}: when: {other} is not searched above it")
                choices = before[other].choices()
                unknown = [value for value in as_list(wanted) if choices and value not in choices]
                if unknown:
                    raise ValueError(f"space.{name}: when: {other} is never {unknown[0]}; choose from {choices}")
            before[name] = parameter
        if isinstance(self.sampler, Grid):
            self._check_grid()
        return self

    def _check_grid(self) -> None:
        points = 1
        for name, parameter in self.space.items():
            if parameter.when:
                raise ValueError(f"space.{name}: a grid has no conditions; use another sampler")
            try:
                points *= len(parameter.grid())
            except ValueError as error:
                raise ValueError(f"space.{name}: {error}") from error
        if self.trials > points:
            raise ValueError(f"trials {self.trials} is more than the grid's {points} points")


def as_list(value: Any) -> list[Any]:
    """A value, or several."""
    return value if isinstance(value, list) else [value]


def is_sweep(path: Path) -> bool:
    """Whether a file is a sweep and no experiment. A file that cannot be read is left to who reads it next."""
    try:
        return "space" in read_yaml(path)
    except UserError:
        return False


def read_sweep(path: Path) -> Sweep:
    """A sweep file, checked. Raises UserError."""
    tree = read_yaml(path)
    if "space" not in tree:
        raise UserError(f"{path}: not a sweep (no space to search); name a file like {EXAMPLE}")
    try:
        return Sweep.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, Sweep, [Layer(str(path), tree)])) from error
