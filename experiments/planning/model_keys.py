"""Keys of pydantic models: those at a path, and the path of a validation error's location."""

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag


def keys_of(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys of a location as a user writes them.

    pydantic's location also has a label for the chosen member of each union, and `[key]` for a
    mistake in a key.

    Args:
        model: The model that was validated.
        location: `loc` of an error.
    """
    return _walk(model, location)[0]


def fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that a model allows in the section at a location. [] if they are not known."""
    _, annotation = _walk(model, location)
    return sorted({key for section in _models_in(annotation) for key in _fields(section)})


def choices_at(model: type[BaseModel], location: Sequence[str | int], key: str) -> list[str]:
    """The values of a key that distinguishes the sections which a model allows at a location."""
    _, annotation = _walk(model, location)
    return [
        str(value)
        for section in _models_in(annotation)
        for value in get_args(_fields(section).get(key))
    ]


def _walk(model: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str], Any]:
    """The keys of a location, and the annotation there."""
    annotation: Any = model
    keys: list[str] = []
    for part in location:
        members = _members(annotation)
        if len(members) > 1:
            annotation = _labeled(members, str(part))
        elif part != "[key]":
            keys.append(str(part))
            annotation = _annotation_at(members[0], part)
    return keys, annotation


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Key -> annotation of the fields of a model."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _members(annotation: Any) -> list[Any]:
    """The members of a union without None; the annotation alone if it is no union."""
    plain = _without_metadata(annotation)
    if get_origin(plain) not in (Union, UnionType):
        return [plain]
    members = [member for member in get_args(plain) if member is not NoneType]
    return _members(members[0]) if len(members) == 1 else members


def _without_metadata(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _labeled(members: Sequence[Any], label: str) -> Any:
    """The member of a union that pydantic names by `label`; Any if none is known."""
    for member in members:
        plain = _without_metadata(member)
        if label in _labels(member, plain):
            return plain
    return Any


def _labels(member: Any, plain: Any) -> Iterator[str]:
    """The labels of a union's member: its tag, its `kind`, the name of its class."""
    for metadata in get_args(member)[1:] if get_origin(member) is Annotated else ():
        if isinstance(metadata, Tag):
            yield metadata.tag
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        yield plain.__name__
        for annotation in _fields(plain).values():
            if get_origin(annotation) is Literal:
                yield from map(str, get_args(annotation))


def _annotation_at(annotation: Any, part: str | int) -> Any:
    """The annotation of a key of a section or an item of a list; Any if it is not known."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _fields(annotation).get(str(part), Any)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        return arguments[1]
    if origin is tuple and arguments and str(part).isdigit():
        return arguments[0] if arguments[-1] is Ellipsis else arguments[int(part) % len(arguments)]
    return Any


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models among the members of a union, or the annotation itself if it is a model."""
    for member in _members(annotation):
        plain = _without_metadata(member)
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            yield plain
