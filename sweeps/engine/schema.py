"""What a sweep's YAML may say. Samplers and pruners take Optuna's own argument names; their values are pinned here, so that a
newer Optuna with other defaults searches as before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from core.config import FrozenModel, current_key
from core.runtime.errors import UserError
from core.runtime.yaml import read_yaml
from experiments.planning.diagnostics import Layer, Tree, explain
from experiments.planning.schema import Line, without_duplicates
from sweeps.engine.parameter import Parameter, as_list

EXAMPLE = "sweeps/mask_ratio.yaml"
OBJECTIVES = {
    "validation_avg": "validation Avg: accuracy, averaged over the validation sets",
    "validation_wavg": "validation W-Avg: accuracy over all validation images",
}
TESTS = (
    "is read on test images, and settings that were chosen by them make the numbers reported on them too good; "
    f"search by {' or '.join(OBJECTIVES)}, and read the tests once, with --write-experiment's file"
)
SIGNS = {"space", "experiment", "trials", "sampler"}  # keys that experiments do not have


def _objective(name: str) -> str:
    if name not in OBJECTIVES:
        tests = not name.startswith("validation")
        raise ValueError(f"{name} {TESTS}" if tests else f"choose from {', '.join(OBJECTIVES)}")
    return name


class Sampler(FrozenModel):
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


class Pruner(FrozenModel):
    """`at`: shares of the fine-tuning after which the validation accuracy is compared with other trials'. Optuna knows them as
    per cent of a trial's fine-tuning (all seeds), which is what its arguments count in."""

    at: Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(_rising)] = (
        0.25,
        0.5,
        0.75,
    )


class Median(Pruner):
    kind: Literal["median"]
    n_startup_trials: NonNegativeInt = 5
    n_warmup_steps: NonNegativeInt = 0
    interval_steps: PositiveInt = 1
    n_min_trials: PositiveInt = 1


class Rungs(Pruner):
    """A pruner that halves at min_resource, and at powers of reduction_factor times it."""

    min_resource: PositiveInt = 25

    @model_validator(mode="after")
    def _has_a_rung(self) -> "Rungs":
        if self.min_resource > 100 * self.at[-1]:
            raise ValueError(
                f"min_resource {self.min_resource} is after the last comparison, at {100 * self.at[-1]:g} per cent"
            )
        return self


class Halving(Rungs):
    """Asynchronous successive halving (ASHA)."""

    kind: Literal["halving"]
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    min_early_stopping_rate: NonNegativeInt = 0
    bootstrap_count: NonNegativeInt = 0


class Hyperband(Rungs):
    kind: Literal["hyperband"]
    max_resource: PositiveInt = 100
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    bootstrap_count: NonNegativeInt = 0

    @model_validator(mode="after")
    def _has_a_bracket(self) -> "Hyperband":
        if self.max_resource < self.min_resource:
            raise ValueError(
                f"max_resource {self.max_resource} is less than min_resource {self.min_resource}"
            )
        return self


class Budget(FrozenModel):
    """`hours`: no trial is begun once the trials have taken so long, one after another."""

    hours: PositiveFloat | None = None


class Sweep(FrozenModel):
    """One sweep file. `experiment`, `variant`: the row that trials start from; `set` and the trial's values go on top of it.

    trials: in all, complete or pruned, however often and by how many workers it is run. recipe_first: the first trial takes the
    row's own values, so that the best one has something to be compared with."""

    title: Line
    experiment: str
    variant: str | None = None
    scale: str | None = None
    seeds: Annotated[
        tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(without_duplicates)
    ] = (0,)
    set: Tree = Field(default_factory=dict)
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    objective: Annotated[str, AfterValidator(_objective)] = "validation_avg"
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Annotated[Tpe | RandomSearch | Grid | Gp, Field(discriminator="kind")] = Tpe()
    pruner: Annotated[Median | Halving | Hyperband, Field(discriminator="kind")] | None = None
    trials: Annotated[PositiveInt, Field(strict=True)]
    recipe_first: bool = True
    budget: Budget = Budget()

    @field_validator("set", "space", mode="before")
    @classmethod
    def _with_current_keys(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        return {current_key(str(key)): value for key, value in settings.items()}

    @model_validator(mode="after")
    def _conditions_are_searched(self) -> "Sweep":
        before: dict[str, Parameter] = {}
        for name, parameter in self.space.items():
            if inside := [other for other in before if nested(name, other)]:
                raise ValueError(
                    f"space.{name}: {inside[0]} is searched too, and one would overwrite the other"
                )
            for other, wanted in parameter.when.items():
                if other not in before:
                    raise ValueError(f"space.{name}: when: {other} is not searched above it")
                if before[other].real is not None:
                    raise ValueError(
                        f"space.{name}: when: {other} is a float, which next to never has a given value"
                    )
                values = before[other].grid()
                if unknown := [value for value in as_list(wanted) if value not in values]:
                    raise ValueError(
                        f"space.{name}: when: {other} is never {unknown[0]}; choose from {values[:20]}"
                    )
            before[name] = parameter
        if isinstance(self.sampler, Grid):
            check_grid(self.space, self.trials)
        return self


def check_grid(space: Mapping[str, Parameter], trials: int) -> None:
    """Raise ValueError unless a space makes a grid of so many points at least."""
    points = 1
    for name, parameter in space.items():
        if parameter.when:
            raise ValueError(f"space.{name}: a grid has no conditions; use another sampler")
        try:
            points *= len(parameter.grid())
        except ValueError as error:
            raise ValueError(f"space.{name}: {error}") from error
    if trials > points:
        raise ValueError(f"trials {trials} is more than the grid's {points} points")


def nested(one: str, other: str) -> bool:
    """Whether one dotted key is the other, or lies inside it, or holds it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def is_sweep(path: Path) -> bool:
    """Whether a file is a sweep and no experiment. A file that cannot be read is left to who reads it next."""
    try:
        return bool(SIGNS & read_yaml(path).keys())
    except UserError:
        return False


def read_sweep(path: Path) -> Sweep:
    """A sweep file, checked. Raises UserError."""
    tree = read_yaml(path)
    if not SIGNS & tree.keys():
        raise UserError(f"{path}: not a sweep (no space to search); name a file like {EXAMPLE}")
    try:
        return Sweep.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, Sweep, [Layer(str(path), tree)])) from error
