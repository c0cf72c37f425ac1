"""Models of sweep files, and their reader.

Samplers and pruners take Optuna's argument names. Their defaults are fixed here, so that a newer
Optuna with other defaults searches as before.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from core.config import FrozenModel
from core.runtime.errors import UserError
from core.runtime.former_keys import current_key, refuse_both_spellings
from core.runtime.number_types import Integer, NonNegativeInt, Number, PositiveFloat, PositiveInt
from core.runtime.yaml import read_yaml
from experiments.planning.changes import refuse_repeated_settings
from experiments.planning.diagnostics import Layer, Tree, explain
from experiments.planning.schema import Line, Seeds
from sweeps.engine.parameter import Parameter, as_list

EXAMPLE = "sweeps/mask_ratio.yaml"
OBJECTIVES = {
    "validation_avg": "validation Avg: accuracy, averaged over the validation sets",
    "validation_wavg": "validation W-Avg: accuracy over all validation images",
}
TEST_SET_ADVICE = (
    "is measured on test images; settings that are chosen by test accuracy make the reported test "
    f"accuracy too high. Search by {' or '.join(OBJECTIVES)}, then evaluate the best trial on the "
    "test sets with sweep-report --write-experiment"
)
SWEEP_KEYS = {"space", "experiment", "trials", "sampler"}  # keys that experiments do not have
MAX_LISTED = 20  # values that an error message lists


def _check_objective(name: str) -> str:
    if name in OBJECTIVES:
        return name
    if name.startswith("validation"):
        raise ValueError(f"choose from {', '.join(OBJECTIVES)}")
    raise ValueError(f"{name} {TEST_SET_ADVICE}")


class SeededSampler(FrozenModel):
    """Base of the samplers."""

    seed: NonNegativeInt = 0


class TpeConfig(SeededSampler):
    """Tree-structured Parzen estimator (Bergstra et al., 2011)."""

    kind: Literal["tpe"] = "tpe"
    n_startup_trials: PositiveInt = 10
    n_ei_candidates: PositiveInt = 24
    multivariate: bool = True
    group: bool = True
    constant_liar: bool = True

    @model_validator(mode="after")
    def _check_group(self) -> "TpeConfig":
        if self.group and not self.multivariate:
            raise ValueError("group: true needs multivariate: true")
        return self


class RandomConfig(SeededSampler):
    """Independent uniform samples."""

    kind: Literal["random"]


class GridConfig(SeededSampler):
    """Each point of a grid once, in an order that depends on the seed."""

    kind: Literal["grid"]


class GpConfig(SeededSampler):
    """Bayesian optimization with a Gaussian process."""

    kind: Literal["gp"]
    n_startup_trials: PositiveInt = 10
    deterministic_objective: bool = False


SamplerConfig = TpeConfig | RandomConfig | GridConfig | GpConfig
TrainingShare = Annotated[Number, Field(gt=0, lt=1)]


def _check_rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if list(shares) != sorted(set(shares)):
        raise ValueError("must rise, e.g. [0.25, 0.5, 0.75]")
    return shares


class PrunerBase(FrozenModel):
    """Base of the pruners.

    at: shares of the fine-tuning after which a trial's validation accuracy is compared with the
        other trials'. Optuna's steps are percent of a trial's fine-tuning, over all seeds.
    """

    at: Annotated[tuple[TrainingShare, ...], Field(min_length=1), AfterValidator(_check_rising)] = (
        0.25,
        0.5,
        0.75,
    )


class MedianConfig(PrunerBase):
    """Prunes a trial that is worse than the median of earlier trials at the same step."""

    kind: Literal["median"]
    n_startup_trials: NonNegativeInt = 5
    n_warmup_steps: NonNegativeInt = 0
    interval_steps: PositiveInt = 1
    n_min_trials: PositiveInt = 1


class RungPruner(PrunerBase):
    """Base of the pruners with rungs: at min_resource, and at it times powers of the factor."""

    min_resource: PositiveInt = 25

    @model_validator(mode="after")
    def _check_first_rung(self) -> "RungPruner":
        last = 100 * self.at[-1]
        if self.min_resource > last:
            raise ValueError(
                f"min_resource {self.min_resource} is after the last comparison ({last:g} percent)"
            )
        return self


class HalvingConfig(RungPruner):
    """Asynchronous successive halving (ASHA; Li et al., 2020)."""

    kind: Literal["halving"]
    reduction_factor: Annotated[Integer, Field(ge=2)] = 2
    min_early_stopping_rate: NonNegativeInt = 0
    bootstrap_count: NonNegativeInt = 0


class HyperbandConfig(RungPruner):
    """Hyperband (Li et al., 2018)."""

    kind: Literal["hyperband"]
    max_resource: PositiveInt = 100
    reduction_factor: Annotated[Integer, Field(ge=2)] = 2
    bootstrap_count: NonNegativeInt = 0

    @model_validator(mode="after")
    def _check_bracket(self) -> "HyperbandConfig":
        if self.max_resource < self.min_resource:
            raise ValueError(
                f"max_resource {self.max_resource} is less than min_resource {self.min_resource}"
            )
        return self


PrunerConfig = MedianConfig | HalvingConfig | HyperbandConfig


class Budget(FrozenModel):
    """A limit besides the number of trials.

    hours: no trial begins once the sum of the trials' computing times reaches this.
    """

    hours: PositiveFloat | None = None


class Sweep(FrozenModel):
    """One sweep file.

    title: a description for people.
    experiment, variant: the base row: an experiment file, and the name of one of its rows.
    scale: the scale profile; by default that of the experiment.
    seeds: each trial is run once for each seed.
    set: changes to the base row that all trials share. The trial's values replace them.
    space: dotted key -> searched range or choices.
    objective: the value of a trial, a key of OBJECTIVES.
    direction: `maximize` or `minimize`.
    sampler: suggests the values of the next trial.
    pruner: stops trials that are worse than the others.
    trials: the total of complete and pruned trials, over all commands and workers.
    recipe_first: the first trial has the base row's values, so that the best trial is compared
        with them.
    budget: a limit of the computing time.
    """

    title: Line
    experiment: str
    variant: str | None = None
    scale: str | None = None
    seeds: Seeds = (0,)
    set: Tree = Field(default_factory=dict)
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    objective: Annotated[str, AfterValidator(_check_objective)] = "validation_avg"
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Annotated[SamplerConfig, Field(discriminator="kind")] = TpeConfig()
    pruner: Annotated[PrunerConfig, Field(discriminator="kind")] | None = None
    trials: PositiveInt
    recipe_first: bool = True
    budget: Budget = Budget()

    @field_validator("set", "space", mode="before")
    @classmethod
    def _with_current_keys(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        refuse_both_spellings(map(str, settings))
        return {current_key(str(key)): value for key, value in settings.items()}

    @model_validator(mode="after")
    def _check_space(self) -> "Sweep":
        above: dict[str, Parameter] = {}
        for key, parameter in self.space.items():
            if overlapping := [upper for upper in above if keys_overlap(key, upper)]:
                raise ValueError(
                    f"space.{key}: {overlapping[0]} is searched too; one would overwrite the other"
                )
            _check_when(key, parameter, above)
            above[key] = parameter
        if isinstance(self.sampler, GridConfig):
            check_grid(self.space, self.trials)
        return self


def _check_when(key: str, parameter: Parameter, above: Mapping[str, Parameter]) -> None:
    """Raise ValueError unless each condition names a value of a parameter above."""
    for upper, allowed in parameter.when.items():
        if upper not in above:
            raise ValueError(f"space.{key}: when: {upper} is not searched above it")
        if above[upper].float_range is not None:
            raise ValueError(
                f"space.{key}: when: {upper} is a float, which almost never has a given value"
            )
        values = above[upper].grid()
        if unknown := [value for value in as_list(allowed) if value not in values]:
            raise ValueError(
                f"space.{key}: when: {upper} is never {unknown[0]}; "
                f"choose from {values[:MAX_LISTED]}"
            )


def check_grid(space: Mapping[str, Parameter], trials: int) -> None:
    """Raise ValueError unless a space is a grid of at least `trials` points."""
    points = 1
    for key, parameter in space.items():
        if parameter.when:
            raise ValueError(f"space.{key}: a grid has no conditions; use another sampler")
        try:
            points *= len(parameter.grid())
        except ValueError as error:
            raise ValueError(f"space.{key}: {error}") from error
    if trials > points:
        raise ValueError(f"trials {trials} is more than the grid's {points} points")


def keys_overlap(first: str, second: str) -> bool:
    """Whether two dotted keys are equal, or one lies inside the other."""
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def is_sweep(path: Path) -> bool:
    """Whether a file is a sweep. Raises UserError if it is no valid YAML file."""
    return bool(SWEEP_KEYS & read_yaml(path).keys())


def read_sweep(path: Path) -> Sweep:
    """A validated sweep file. Raises UserError."""
    tree = read_yaml(path)
    if not SWEEP_KEYS & tree.keys():
        raise UserError(f"{path}: not a sweep (no space to search); name a file like {EXAMPLE}")
    try:
        sweep = Sweep.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, Sweep, [Layer(str(path), tree)])) from error
    refuse_repeated_settings(f"{path}: set", sweep.set)
    return sweep
