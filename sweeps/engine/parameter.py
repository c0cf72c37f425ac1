"""One searched value, as a sweep's file says it."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, model_validator

from core.config import FrozenModel, current_key

Plain = str | int | float | bool | None


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] >= ends[1]:
        raise ValueError("give the lower end, then the higher one")
    return ends


def _choices(given: Any) -> Any:
    """Choices as a tuple of plain values, or named ones."""
    if given is None:
        return None
    if not isinstance(given, list | dict) or not given:
        raise ValueError("give a list of choices, e.g. [random, block]")
    plain = all(one is None or isinstance(one, str | int | float) for one in given)
    if not plain or (isinstance(given, dict) and not all(isinstance(name, str) for name in given)):
        raise ValueError(
            "choices that are sections or lists need names: categorical: {name: {...}, another: null}"
        )
    if isinstance(given, list) and len({str(one) for one in given} | set(given)) < 2 * len(
        given
    ) - _texts(given):
        raise ValueError(f"no choice may stand twice: {given}")
    return tuple(given) if isinstance(given, list) else given


def _texts(given: list[Any]) -> int:
    """How many choices are texts: these are their own names."""
    return sum(isinstance(one, str) for one in given)


def _numbers(ends: Any) -> Any:
    if isinstance(ends, list) and any(isinstance(end, str | bool) for end in ends):
        raise ValueError("give two numbers: [low, high]")
    return ends


def _conditions(when: Any) -> Any:
    if isinstance(when, dict) and any(wanted == [] for wanted in when.values()):
        raise ValueError("an empty list is never met; give a value, or some")
    if isinstance(when, dict):
        return {current_key(str(key)): wanted for key, wanted in when.items()}
    return when


class Parameter(FrozenModel):
    """One searched value: `float` or `int` with its ends, or `categorical` with its choices, which may be given names.

    log: searched on a logarithmic scale. step: between values. relative: the ends are multiples of the recipe's own value.
    when: other searched values (one, or a list of them) under which this one is searched at all."""

    real: (
        Annotated[tuple[float, float], BeforeValidator(_numbers), AfterValidator(_ordered)] | None
    ) = Field(None, alias="float")
    whole: (
        Annotated[tuple[int, int], BeforeValidator(_numbers), AfterValidator(_ordered)] | None
    ) = Field(None, alias="int")
    categorical: Annotated[Any, BeforeValidator(_choices)] = None
    log: bool = False
    step: PositiveFloat | None = None
    relative: bool = False
    when: Annotated[dict[str, Any], BeforeValidator(_conditions)] = Field(default_factory=dict)

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
        low, high = self.real or self.whole or (1, 2)
        if self.log and low <= 0:
            raise ValueError("a logarithmic scale begins above 0")
        if self.step is not None and self.step > high - low:
            raise ValueError(f"step {self.step:g} is larger than the range")
        if self.whole is not None and high - low > 2**31:
            raise ValueError("the range is too large; use float")
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
        values = [
            round(low + step * number, 12)
            for number in range(round((high - low) / step + 1e-9) + 1)
        ]
        return [
            value if self.real is not None else int(value)
            for value in values
            if value <= high + 1e-12
        ]


def as_list(value: Any) -> list[Any]:
    """A value, or several."""
    return value if isinstance(value, list) else [value]
