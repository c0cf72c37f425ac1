"""A sweep's space as absolute numbers: relative ranges resolved, impossible values cut off."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import NUMBERED_STRENGTHS
from core.runtime.errors import UserError
from experiments.planning.plan import Plan
from experiments.planning.schema import Recipe
from sweeps.engine.parameter import Parameter, Scalar, as_list

TrialValues = dict[str, Scalar]  # dotted key -> value or choice as Optuna stores it
Space = Mapping[str, Parameter]
FindRuns = Callable[[str, TrialValues], list[str]]  # (name, values) -> ids of the trial's runs


def is_active(parameter: Parameter, values: Mapping[str, Scalar]) -> bool:
    """Whether a parameter's conditions are met by the values of the parameters above it."""
    return all(
        upper in values and values[upper] in as_list(allowed)
        for upper, allowed in parameter.when.items()
    )


def base_value(plan: Plan, recipe: Recipe, key: str) -> Any:
    """The base row's value at a dotted key; None if there is none.

    plan: the base row's runs.
    recipe: the base row's recipe, for keys that are in no stage's config.
    """
    stage, *path = key.split(".")
    value: Any = recipe.model_dump()
    for run in plan.runs.values():
        if run.stage == stage and run.id in plan.cells[0].trainings:
            value = {stage: run.config.model_dump()}
    for part in (stage, *path):
        value = value.get(part) if isinstance(value, dict) else None
    if key == "pretrain.guidance.strength":  # a named level also has a number
        numbers = {level: number for number, level in NUMBERED_STRENGTHS.items()}
        return numbers.get(value, value) if isinstance(value, str) else value
    return value


def make_absolute(path: Path, key: str, parameter: Parameter, base: Any) -> Parameter:
    """A relative range as absolute numbers; any other parameter unchanged.

    path: the sweep file, for error messages.
    key: the parameter's dotted key.
    base: the base row's value at the key.

    Raises UserError if the base row has no number there.
    """
    if not parameter.relative or parameter.float_range is None:
        return parameter
    if not _is_number(base):
        raise UserError(
            f"{path}: space.{key}: relative: the base row has no number there; "
            "give the range in absolute numbers"
        )
    changes = {
        "float": [float(f"{end * base:.6g}") for end in parameter.float_range],
        "step": None if parameter.step is None else parameter.step * base,
        "relative": False,
    }
    try:
        return Parameter.model_validate(parameter.model_dump(by_alias=True) | changes)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{path}: space.{key}: relative to the base row's {base}: {reason}"
        ) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_in_space(parameter: Parameter, base: Any) -> tuple[Scalar] | None:
    """The base row's value as Optuna stores it, in a tuple; None if it is not in the space."""
    if parameter.categorical is not None:
        choices = parameter.choices()
        equal = [choice for choice in choices if _matches(base, parameter.value(choice))]
        return (equal[0],) if equal else None
    low, high = parameter.ends() or (0, 0)
    if not _is_number(base) or not low <= base <= high:
        return None
    if parameter.step:
        steps = (base - low) / parameter.step
        if abs(steps - round(steps)) > 1e-9:
            return None
    return (float(base) if parameter.float_range is not None else int(base),)


def _matches(value: Any, choice: Any) -> bool:
    """Whether a resolved value is what a choice sets. A section may set only some keys."""
    if isinstance(choice, dict) and isinstance(value, dict):
        return all(_matches(value.get(key), part) for key, part in choice.items())
    return bool(value == choice)


def restrict_to_valid(
    path: Path, space: Space, base: TrialValues, find_runs: FindRuns
) -> tuple[dict[str, Parameter], list[str]]:
    """The space without the parts at its ends that no run can have, and notes on what was cut.

    Each parameter is checked with the base row's values of the other parameters.

    path: the sweep file, for error messages.
    space: ranges in absolute numbers.
    base: the base row's values.
    find_runs: plans a trial; raises UserError for values that no run can have.

    Raises UserError if all ends of a parameter are invalid, or if no training run depends on it.
    """
    valid: dict[str, Parameter] = {}
    notes: list[str] = []
    for key, parameter in space.items():
        check = _Check(path, key, _values_around(space, base, key), find_runs)
        valid[key], key_notes = _restrict(parameter, check)
        notes += key_notes
    return valid, notes


class _Check:
    """Tests values of one parameter between fixed values of the others."""

    def __init__(self, path: Path, key: str, around: TrialValues, find_runs: FindRuns) -> None:
        self.path = path
        self.key = key
        self.around = around
        self.find_runs = find_runs

    def problem(self, value: Scalar) -> str:
        """Why no run can have this value; "" if runs can."""
        try:
            self.find_runs(f"{self.key}={value}", self.around | {self.key: value})
        except UserError as error:
            return str(error).removeprefix(f"{self.path}: ")
        return ""

    def runs(self, value: Scalar) -> list[str]:
        return self.find_runs("end", self.around | {self.key: value})

    def error(self, problem: str) -> UserError:
        return UserError(f"{self.path}: space.{self.key}: {problem}")


def _restrict(parameter: Parameter, check: _Check) -> tuple[Parameter, list[str]]:
    """One parameter without invalid values at its ends, and notes."""
    ends: list[Scalar] = parameter.choices() or list(parameter.ends() or ())
    problems = {end: problem for end in ends if (problem := check.problem(end))}
    if len(problems) == len(ends):
        raise check.error(f"no end of it can be run: {next(iter(problems.values()))}")
    runs = [check.runs(end) for end in ends if end not in problems]
    if len(runs) > 1 and all(ids == runs[0] for ids in runs):
        raise check.error("nothing that is trained depends on it; remove it")
    if not problems or parameter.categorical is not None:
        return parameter, [
            f"trials with this value fail and are replaced: {problem}"
            for problem in problems.values()
        ]
    shorter = _shorten(parameter, check)
    problem = next(iter(problems.values()))
    return shorter, [f"{check.key} is searched {range_text(shorter)}; beyond this range: {problem}"]


def _values_around(space: Space, base: TrialValues, key: str) -> TrialValues:
    """The base row's values, with the conditions of parameter `key` met."""
    required: TrialValues = {}

    def require(name: str) -> None:
        for upper, allowed in space[name].when.items():
            require(upper)
            required[upper] = as_list(allowed)[0]

    require(key)
    values: TrialValues = {}
    for name, parameter in space.items():
        if is_active(parameter, values) and (name in required or name in base):
            values[name] = required[name] if name in required else base[name]
    return values


def _shorten(parameter: Parameter, check: _Check) -> Parameter:
    """A range with one invalid end, shortened by bisection to the values that runs can have."""
    low, high = parameter.ends() or (0, 0)
    low_is_bad = bool(check.problem(low))
    good, bad = (high, low) if low_is_bad else (low, high)
    step = parameter.step or (1 if parameter.int_range else 0)
    tolerance = 1.5 * step if step else 1e-6 * abs(high - low)
    while abs(bad - good) > tolerance:
        middle = (good + bad) / 2
        if step:
            middle = good + step * round((middle - good) / step)
        if check.problem(middle if parameter.float_range else int(middle)):
            bad = middle
        else:
            good = middle
    ends = (good, high) if low_is_bad else (low, good)
    if parameter.int_range:
        return parameter.model_copy(update={"int_range": (int(ends[0]), int(ends[1]))})
    rounded = (float(f"{ends[0]:.4g}"), float(f"{ends[1]:.4g}"))
    rounded_is_valid = not step and not any(check.problem(end) for end in rounded)
    return parameter.model_copy(update={"float_range": rounded if rounded_is_valid else ends})


def range_text(parameter: Parameter) -> str:
    """A parameter's range for people, e.g. `from 0.5 to 0.9, step 0.1`."""
    ends = parameter.ends()
    text = f"from {ends[0]:g} to {ends[1]:g}" if ends else ", ".join(map(str, parameter.choices()))
    if parameter.int_range:
        text = f"in integers {text}"
    if parameter.log:
        text += ", logarithmic"
    elif parameter.step:
        text += f", step {parameter.step:g}"
    conditions = " and ".join(f"{key} is {allowed}" for key, allowed in parameter.when.items())
    return f"{text}, if {conditions}" if conditions else text
