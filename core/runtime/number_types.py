"""Types of the numbers in settings: a truth value or a text is never a number.

pydantic would otherwise accept `true` and "1" as 1. A float without a fraction, such as 64.0 or
1e6, is an integer.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _integral(value: Any) -> Any:
    """A float without a fraction as an integer; any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, Field(strict=True), BeforeValidator(_integral)]
PositiveInt = Annotated[Integer, Field(gt=0)]
NonNegativeInt = Annotated[Integer, Field(ge=0)]

Number = Annotated[float, Field(strict=True)]  # also accepts integers
PositiveFloat = Annotated[Number, Field(gt=0)]
NonNegativeFloat = Annotated[Number, Field(ge=0)]
