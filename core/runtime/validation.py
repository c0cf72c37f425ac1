"""The first problem that pydantic found in a file, as a part of an error's sentence."""

from pydantic import ValidationError


def first_problem(error: ValidationError, separator: str = ".") -> str:
    """The first problem: its key and what is wrong, such as `config.seed: Input should be ...`.

    Without the key if the whole content is wrong. separator: between the steps of the key."""
    problem = error.errors()[0]
    key = separator.join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
