"""One searched setting of a sweep file: a range of numbers or a list of choices."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from core.config import FrozenModel
from core.runtime.former_keys import current_key
from core.runtime.number_types import Integer, Number, PositiveFloat

Scalar = str | int | float | bool | None


def _check_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError("give the lower end first, then the higher end: [low, high]")
    return ends


def _check_choices(choices: Any) -> Any:
    """Choices as a tuple of scalars, or as a mapping of names to values."""
    if choices is None:
        return None
    if not isinstance(choices, list | dict) or not choices:
        raise ValueError("give a list of choices, e.g. [random, block]")
    if isinstance(choices, dict):
        _check_names(choices)
        return choices
    if not all(choice is None or isinstance(choice, str | int | float) for choice in choices):
        raise ValueError(_NAMES_ADVICE)
    texts = {str(choice) for choice in choices}  # Optuna distinguishes choices by text
    if min(len(texts), len(set(choices))) < len(choices):
        raise ValueError(f"duplicate choice in {choices}")
    return tuple(choices)


_NAMES_ADVICE = (
    "choices that are sections or lists need names: categorical: {name: {...}, another: null}"
)


def _check_names(choices: dict[Any, Any]) -> None:
    if not all(isinstance(name, str) for name in choices):
        raise ValueError(_NAMES_ADVICE)


def _check_numbers(ends: Any) -> Any:
    if isinstance(ends, list) and any(isinstance(end, str | bool) for end in ends):
        raise ValueError("give two numbers: [low, high]")
    return ends


def _check_conditions(when: Any) -> Any:
    if not isinstance(when, dict):
        return when
    if any(allowed == [] for allowed in when.values()):
        raise ValueError("an empty list is never met; give one value or several")
    return {current_key(str(key)): allowed for key, allowed in when.items()}


NumberRange = Annotated[
    tuple[Number, Number], BeforeValidator(_check_numbers), AfterValidator(_check_order)
]
IntegerRange = Annotated[
    tuple[Integer, Integer], BeforeValidator(_check_numbers), AfterValidator(_check_order)
]


class Parameter(FrozenModel):
    """One searched setting: a `float` range, an `int` range, or `categorical` choices.

    float_range, int_range: [low, high], both included; the YAML keys are `float` and `int`.
    categorical: choices; a mapping gives names to choices that are sections or lists.
    log: sample on a logarithmic scale.
    step: distance between two values.
    relative: the ends are multiples of the base row's value.
    when: conditions, searched setting -> value or list of values. The parameter is searched only
        if they are met.
    """

    float_range: NumberRange | None = Field(None, alias="float")
    int_range: IntegerRange | None = Field(None, alias="int")
    categorical: Annotated[Any, BeforeValidator(_check_choices)] = None
    log: bool = False
    step: PositiveFloat | None = None
    relative: bool = False
    when: Annotated[dict[str, Any], BeforeValidator(_check_conditions)] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _check_kind(self) -> "Parameter":
        kinds = (self.float_range, self.int_range, self.categorical)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give one of float: [low, high], int: [low, high], categorical: [...]")
        if self.categorical is not None and (self.log or self.step or self.relative):
            raise ValueError("log, step and relative are for float and int, not for categorical")
        if self.relative and self.float_range is None:
            raise ValueError("relative is for float")
        return self

    @model_validator(mode="after")
    def _check_scale(self) -> "Parameter":
        low, high = self.ends() or (1, 2)
        if self.log and self.step:
            raise ValueError("a logarithmic scale has no constant step; give log or step")
        if self.log and low <= 0:
            raise ValueError("a logarithmic scale begins above 0")
        if self.step is not None and self.step > high - low:
            raise ValueError(f"step {self.step:g} is larger than the range")
        if self.int_range is not None:
            if self.step is not None and self.step != int(self.step):
                raise ValueError("the step of int must be an integer")
            if high - low > 2**31:
                raise ValueError("the range is too large; use float")
        return self

    def ends(self) -> tuple[float, float] | None:
        """The two ends of a range; None for choices."""
        return self.float_range or self.int_range

    def choices(self) -> list[Scalar]:
        """The choices as Optuna stores them; [] for a range."""
        return list(self.categorical or ())

    def value(self, choice: Scalar) -> Any:
        """The value of the setting if Optuna suggests `choice`."""
        return self.categorical[str(choice)] if isinstance(self.categorical, dict) else choice

    def grid(self) -> list[Scalar]:
        """All values, for a grid. Raises ValueError for a float range without a step."""
        if self.categorical is not None:
            return self.choices()
        if self.float_range is not None and self.step is None:
            raise ValueError("a grid needs a step, or categorical: [...]")
        low, high = self.ends() or (0, 0)
        step = self.step or 1
        count = round((high - low) / step + 1e-9) + 1
        values = [round(low + step * number, 12) for number in range(count)]
        inside = [value for value in values if value <= high + 1e-12]
        return list(inside) if self.float_range is not None else [int(value) for value in inside]


def as_list(value: Any) -> list[Any]:
    """A condition's values as a list."""
    return value if isinstance(value, list) else [value]
