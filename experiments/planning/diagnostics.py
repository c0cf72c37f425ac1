"""Explanations of mistakes in settings: one line with the file, the key and the allowed values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from experiments.planning.model_keys import choices_at, fields_at, keys_of

Tree = dict[str, Any]  # settings as YAML has them: key -> value, list or mapping
COMMAND_LINE = "--set"  # the source of settings that were typed
BOUNDS = {  # type of a problem -> (name of the bound, what is wrong)
    "less_than": ("lt", "is not below"),
    "less_than_equal": ("le", "is above"),
    "greater_than": ("gt", "is not above"),
    "greater_than_equal": ("ge", "is below"),
}
TYPES = {  # type of a problem -> what the value must be
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a section of keys and values",
    "model_attributes_type": "must be a section of keys and values",
    "model_type": "must be a section of keys and values",
    "tuple_type": "must be a list",
    "invalid_key": "keys must be text",
}
MAX_SHOWN = 60  # characters of a section that an error message shows


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
    problems = error.errors()
    problem = min(problems, key=lambda details: details["type"] != "extra_forbidden")
    keys = keys_of(model, problem["loc"])
    same = [other for other in problems if keys_of(model, other["loc"]) == keys]
    keys += _named_key(problem, fields_at(model, problem["loc"]))
    in_section = prefix and keys[:1] != ["encoder"]  # all stages share the encoder's section
    path = [*prefix.split("."), *keys] if in_section else keys
    key = f"{'.'.join(path)}: " if path else ""
    reason = _one_line(_reason(same, model))
    return f"{source_of(layers, path)}: {key}{reason}"


def _named_key(problem: ErrorDetails, fields: Sequence[str]) -> list[str]:
    """The keys inside a section that a problem is about; [] if it is about the section.

    problem: of a section. Its text begins with a key, such as `mask.ratio 0.9 leaves none ...`.
    fields: the keys that the section allows.
    """
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return [problem["ctx"]["discriminator"].strip("'")]
    if problem["type"] != "value_error":
        return []
    first = _text(problem).split(" ", 1)[0].rstrip(":").split(".")
    return first if first[0] in fields else []


def _reason(problems: Sequence[ErrorDetails], model: type[BaseModel]) -> str:
    """What is wrong with a value.

    problems: those of the value; several if no member of a union accepts it.
    model: the model that was validated.
    """
    problem = problems[0]
    if problem["type"] == "missing":
        return "this key is required"
    if problem["type"] == "union_tag_not_found":
        key = problem["ctx"]["discriminator"].strip("'")
        choices = choices_at(model, problem["loc"], key)
        return f"this key is required; choose from {', '.join(map(repr, choices))}"
    if problem["type"] == "extra_forbidden":
        allowed = fields_at(model, problem["loc"][:-1])
        return f"unknown key; allowed: {', '.join(allowed)}" if allowed else "unknown key"
    value = problem["input"]
    context = problem.get("ctx", {})
    if problem["type"] in BOUNDS:
        bound, relation = BOUNDS[problem["type"]]
        return f"{value!r} {relation} {context[bound]}"
    if problem["type"] == "literal_error":
        return f"unknown value {value!r}; choose from {context['expected']}"
    if problem["type"] == "union_tag_invalid":
        return f"unknown value {context['tag']!r}; choose from {context['expected_tags']}"
    if problem["type"] == "too_short":
        return f"must have at least {context['min_length']} item"
    if problem["type"] == "too_long":
        return f"must have at most {context['max_length']} items (given: {value!r})"
    texts = dict.fromkeys(_text(each) for each in problems)
    given = repr(value)
    shown = f" (given: {given})" if len(given) <= MAX_SHOWN or not _is_section(value) else ""
    return " or ".join(texts).replace(" or must be ", " or ") + shown


def _text(problem: ErrorDetails) -> str:
    """The text of a problem, with the words of YAML for Python's types."""
    if problem["type"] in TYPES:
        return TYPES[problem["type"]]
    text = problem["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _is_section(value: Any) -> bool:
    return isinstance(value, dict | list)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


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
