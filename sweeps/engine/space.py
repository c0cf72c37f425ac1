"""A sweep's space in numbers: ranges relative to the base row made absolute, what no run can have cut off."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import NUMBERED_STRENGTHS
from core.runtime.errors import UserError
from experiments.planning.plan import Plan
from experiments.planning.schema import Recipe
from sweeps.engine.parameter import Parameter, Plain, as_list

Values = dict[str, Plain]  # of a trial, by dotted key, as Optuna knows them
Space = Mapping[str, Parameter]


def active(parameter: Parameter, drawn: Mapping[str, Plain]) -> bool:
    """Whether a parameter is searched beside the values drawn before it."""
    return all(
        other in drawn and drawn[other] in as_list(wanted)
        for other, wanted in parameter.when.items()
    )


def own_value(plan: Plan, recipe: Recipe, key: str) -> Any:
    """The base row's value at a dotted key; None where it has none."""
    stage, *path = key.split(".")
    value: Any = recipe.model_dump()
    for run in plan.runs.values():
        if run.stage == stage and run.id in plan.cells[0].trainings:
            value = {stage: run.config.model_dump()}
    for part in (stage, *path):
        value = value.get(part) if isinstance(value, dict) else None
    if key == "pretrain.guidance.strength":  # a level is known by its number too
        return next(
            (number for number, level in NUMBERED_STRENGTHS.items() if level == value), value
        )
    return value


def absolute(path: Path, key: str, parameter: Parameter, own: Any) -> Parameter:
    """A range as numbers of its own."""
    if not parameter.relative or parameter.real is None:
        return parameter
    if not isinstance(own, int | float) or isinstance(own, bool):
        raise UserError(
            f"{path}: space.{key}: relative: the base row has no number there; give the range itself"
        )
    step = None if parameter.step is None else parameter.step * own
    ends = [float(f"{end * own:.6g}") for end in parameter.real]
    told = parameter.model_dump(by_alias=True) | {"float": ends, "step": step, "relative": False}
    try:
        return Parameter.model_validate(told)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{path}: space.{key}: relative to the base row's {own}: {reason}"
        ) from error


def inside(parameter: Parameter, own: Any) -> tuple[Plain] | None:
    """A base row's value as Optuna knows it, where the space has it."""
    if parameter.categorical is not None:
        found = [choice for choice in parameter.choices() if _fits(own, parameter.value(choice))]
        return (found[0],) if found else None
    low, high = parameter.real or parameter.whole or (0, 0)
    if not isinstance(own, int | float) or isinstance(own, bool) or not low <= own <= high:
        return None
    if (
        parameter.step
        and abs((own - low) / parameter.step - round((own - low) / parameter.step)) > 1e-9
    ):
        return None
    return (float(own) if parameter.real is not None else int(own),)


def _fits(own: Any, choice: Any) -> bool:
    """Whether a resolved value is what a choice sets: a section may set a part."""
    if isinstance(choice, dict) and isinstance(own, dict):
        return all(_fits(own.get(key), value) for key, value in choice.items())
    return bool(own == choice)


def within_reason(
    path: Path, wide: Space, first: Values, ids_of: Callable[[str, Values], list[str]]
) -> tuple[dict[str, Parameter], list[str]]:
    """The space without the parts at its ends that no run can have, the other values being the base row's; and what is to be
    said of that. ids_of: the runs of a trial. Raises UserError where every end of a parameter is wrong, or nothing depends on
    it."""
    space, notes = {}, []
    for key, parameter in wide.items():
        around = _conditions_of(wide, first, key)

        def wrong(value: Plain, key: str = key, around: Values = around) -> str:
            try:
                ids_of(f"{key}={value}", around | {key: value})
            except UserError as error:
                return str(error).removeprefix(f"{path}: ")
            return ""

        ends = parameter.choices() or list(parameter.real or parameter.whole or ())
        reasons = {end: reason for end in ends if (reason := wrong(end))}
        if len(reasons) == len(ends):
            raise UserError(
                f"{path}: space.{key}: no end of it can be run: {next(iter(reasons.values()))}"
            )
        good = [ids_of("end", around | {key: end}) for end in ends if end not in reasons]
        if len(good) > 1 and all(ids == good[0] for ids in good):
            raise UserError(
                f"{path}: space.{key}: nothing that is trained depends on it; take it out"
            )
        space[key] = parameter
        if reasons and parameter.categorical is None:
            space[key] = _narrowed(parameter, wrong)
            notes.append(
                f"{key} is searched {range_text(space[key])}: beyond that, {next(iter(reasons.values()))}"
            )
        else:
            notes += [
                f"trials there fail, and others take their place: {reason}"
                for reason in reasons.values()
            ]
    return space, notes


def _conditions_of(space: Space, first: Values, key: str) -> Values:
    """The base row's values, and those under which a parameter is searched."""
    wanted: Values = {}

    def require(name: str) -> None:
        for other, values in space[name].when.items():
            require(other)
            wanted[other] = as_list(values)[0]

    require(key)
    values: Values = {}
    for name, parameter in space.items():
        if active(parameter, values) and (name in wanted or name in first):
            values[name] = wanted[name] if name in wanted else first[name]
    return values


def _narrowed(parameter: Parameter, wrong: Callable[[Plain], str]) -> Parameter:
    """A range with one end that no run can have, as far as runs can have it."""
    low, high = parameter.real or parameter.whole or (0, 0)
    good, bad = (high, low) if wrong(low) else (low, high)
    step = parameter.step or (1 if parameter.whole else 0)
    while abs(bad - good) > (step * 1.5 if step else 1e-6 * abs(high - low)):
        middle = (good + bad) / 2
        if step:
            middle = good + step * round((middle - good) / step)
        good, bad = (
            (good, middle) if wrong(middle if parameter.real else int(middle)) else (middle, bad)
        )
    ends = (good, high) if wrong(low) else (low, good)
    if parameter.whole:
        return parameter.model_copy(update={"whole": (int(ends[0]), int(ends[1]))})
    shorter = (float(f"{ends[0]:.4g}"), float(f"{ends[1]:.4g}"))
    plain = not step and not wrong(shorter[0]) and not wrong(shorter[1])
    return parameter.model_copy(update={"real": shorter if plain else ends})


def range_text(parameter: Parameter) -> str:
    """A parameter's range in words."""
    ends = parameter.real or parameter.whole
    text = f"from {ends[0]:g} to {ends[1]:g}" if ends else ", ".join(map(str, parameter.choices()))
    kind = "in whole numbers " if parameter.whole else ""
    scale = (
        ", logarithmic" if parameter.log else f", step {parameter.step:g}" if parameter.step else ""
    )
    conditions = " and ".join(f"{key} is {wanted}" for key, wanted in parameter.when.items())
    return f"{kind}{text}{scale}" + (f", where {conditions}" if conditions else "")
