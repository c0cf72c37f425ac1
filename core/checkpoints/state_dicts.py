"""The state dict of a released file, wherever a training framework stored it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from core.checkpoints.released_names import released_kind
from core.runtime.errors import UserError

# Keys under which training frameworks store a model, the preferred one first
STATE_KEYS = (
    *("model", "state_dict", "model_state_dict", "model_state", "net", "network", "module"),
    *("model_ema", "ema", "student", "teacher"),
)
# Parts of a name that torch.compile, distributed training and checkpointing of activations add
WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
DEPTH = 4  # dictionaries in dictionaries that are searched
TOP = "(top level)"  # names the key of a file that is itself a state dict


@dataclass(frozen=True)
class StateDict:
    """A state dict in a file. Names are without the parts that wrappers add."""

    key: str  # keys of the dictionaries around it, joined by dots
    tensors: dict[str, Tensor]
    other_values: list[str]  # names of its values that are not tensors
    alternatives: list[str]  # keys of the other state dicts of LMIM or MAERec in the file


def find_state_dict(content: Mapping[str, Any], path: Path, key: str | None = None) -> StateDict:
    """The weights of LMIM or MAERec in a file's dictionary.

    content: of the file. path: the file, for messages. key: which state dict to take, where a file
    has several; None takes the first of STATE_KEYS. Raises UserError if there is none."""
    states = list(_state_dicts(content, "", DEPTH))
    released = {name: state for name, state in states if _is_released(state)}
    released = dict(sorted(released.items(), key=lambda item: _rank(item[0])))
    if not released:
        raise UserError(f"{path}: {_why_none(states)}; a checkpoint of LMIM or MAERec is needed")
    if key is not None and key not in released:
        raise UserError(f"{path}: --state {key}: it has these state dicts: {', '.join(released)}")
    chosen = next(iter(released)) if key is None else key
    state = released[chosen]
    return StateDict(
        key=chosen,
        tensors=_plain_tensors(state, path),
        other_values=[name for name, value in state.items() if not isinstance(value, Tensor)],
        alternatives=[name for name in released if name != chosen],
    )


def _state_dicts(content: Any, key: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and state dict of each dictionary with tensors, in `content` and the ones inside it."""
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    state = {name: value for name, value in named.items() if not isinstance(value, dict)}
    if any(isinstance(value, Tensor) for value in state.values()):
        yield key or TOP, state
        if not _is_released(state):
            yield from _states_by_prefix(state, key)
    if depth:
        for name, value in named.items():
            if isinstance(value, dict):
                yield from _state_dicts(value, _joined(key, name), depth - 1)


def _states_by_prefix(state: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The models of a state dict that holds them by prefix: `student.` and `teacher.`, `model.`"""
    for prefix in STATE_KEYS:
        start = f"{prefix}."
        part = {
            name.removeprefix(start): value
            for name, value in ((_plain_name(name), value) for name, value in state.items())
            if name.startswith(start)
        }
        if part:
            yield _joined(key, prefix), part


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _is_released(state: Mapping[str, Any]) -> bool:
    """Whether the names are those of LMIM or MAERec."""
    names = [_plain_name(name) for name, value in state.items() if isinstance(value, Tensor)]
    return released_kind(names) is not None


def _rank(key: str) -> list[int]:
    """The order of preference of a key: by each of its parts, the file's top level first."""
    parts = [] if key == TOP else key.split(".")
    return [STATE_KEYS.index(part) if part in STATE_KEYS else len(STATE_KEYS) for part in parts]


def _plain_name(name: str) -> str:
    """A weight's name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _plain_tensors(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors by their plain names. Raises UserError if two names become one."""
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            plain = _plain_name(name)
            if plain in tensors:
                raise UserError(f"{path}: holds {plain} twice, once as {name}; remove one of both")
            tensors[plain] = value
    return tensors


def _why_none(states: list[tuple[str, dict[str, Any]]]) -> str:
    """Why a file has no state dict of LMIM or MAERec."""
    if not states:
        return "holds no state dict under 'model'"
    state = min(states, key=lambda item: _rank(item[0]))[1]
    return f"0 of {len(state)} weights matched (first: {next(iter(state))})"
