"""Explanations of mistakes in settings: one line with the file, the key and the allowed values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Tree = dict[str, Any]  # settings as YAML has them: key -> value, list or mapping
COMMAND_LINE = "--set"  # the source of settings that were typed
BOUNDS = {  # type of a problem -> (name of the bound, what is wrong)
    "less_than": ("lt", "is not below"),
    "less_than_equal": ("le", "is above"),
    "greater_than": ("gt", "is not above"),
    "greater_than_equal": ("ge", "is below"),
}


@dataclass(frozen=True)
class Layer:
    """Settings with their source, which error messages name.

    tree: the settings.
    dotted: the keys of `tree` are dotted paths. Each value replaces the value at its path.
    """

    source: str
    tree: Tree
    dotted: bool = False


def explain(
    error: ValidationError, model: type[BaseModel], layers: Sequence[Layer], prefix: str = ""
) -> str:
    """The first problem as one line. An unknown key comes before other problems.

    error: what pydantic raised.
    model: the model that was validated.
    layers: the settings, lowest layer first.
    prefix: the section that the model describes, e.g. `pretrain`.
    """
    problem = min(error.errors(), key=lambda details: details["type"] != "extra_forbidden")
    location = [str(part) for part in problem["loc"]]
    path = location
    if prefix and location[:1] != ["encoder"]:  # all stages share the encoder's section
        path = [prefix, *location]
    key = f"{'.'.join(path)}: " if path else ""
    return f"{source_of(layers, path)}: {key}{_reason(problem, model, location)}"


def _reason(problem: ErrorDetails, model: type[BaseModel], location: Sequence[str]) -> str:
    if problem["type"] == "missing":
        return "this key is required"
    if problem["type"] == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        return f"unknown key; allowed: {', '.join(allowed)}" if allowed else "unknown key"
    value = problem["input"]
    context = problem.get("ctx", {})
    if problem["type"] in BOUNDS:
        bound, relation = BOUNDS[problem["type"]]
        return f"{value!r} {relation} {context[bound]}"
    if problem["type"] == "literal_error":
        return f"unknown value {value!r}; choose from {context['expected']}"
    text = problem["msg"].removeprefix("Value error, ")
    given = "" if isinstance(value, dict) else f" (given: {value!r})"
    return text[:1].lower() + text[1:] + given


def source_of(layers: Sequence[Layer], path: Sequence[str]) -> str:
    """The source of the value at a path, or of the nearest section above it.

    The command line comes first, because a mistake is most likely in what was just typed. Then
    the topmost layer counts.
    """
    typed = [layer for layer in layers if layer.source == COMMAND_LINE]
    candidates = [*typed, *reversed(layers)]
    for length in range(len(path), 0, -1):
        for layer in candidates:
            if _sets(layer, path[:length]):
                return layer.source
    return layers[0].source


def _sets(layer: Layer, path: Sequence[str]) -> bool:
    """Whether a layer has a value at a path."""
    if not layer.dotted:
        return _has(layer.tree, path)
    wanted = list(path)
    keys = [key.split(".") for key in layer.tree]
    return any(key[: len(wanted)] == wanted[: len(key)] for key in keys)


def _has(tree: Any, path: Sequence[str]) -> bool:
    for part in path:
        if isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        elif isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        else:
            return False
    return True


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that a model allows at a path inside it."""
    annotation: Any = model
    for part in path:
        for candidate in _models_in(annotation):
            fields = {field.alias or name: field for name, field in candidate.model_fields.items()}
            if part in fields:
                annotation = fields[part].annotation
                break
    return sorted(
        {
            field.alias or name
            for candidate in _models_in(annotation)
            for name, field in candidate.model_fields.items()
        }
    )


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models inside an annotation (an optional, a union, a tuple, ...)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) or isinstance(annotation, UnionType):
        for inner in get_args(annotation):
            yield from _models_in(inner)
