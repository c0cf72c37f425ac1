"""Keys and roots in the spelling of version 0.1, which files may use and run ids do use."""

import re
from collections.abc import Callable, Iterable
from typing import Any

# Today's key -> the key of version 0.1. Files and --set may use both; run ids use the former keys.
FORMER_KEYS = {
    "optimizer": "optimiser",
    "normalized": "normalised",
    "compare_with": "against",
    "description": "about",
    "epoch_multiplier": "length",
    "init": "given",
    "substitute_synthetic": "stand_ins",
    "synthetic": "rendered",
    "synthetic_chinese": "rendered_chinese",
    "synthetic_substitute": "stand_in",
}
CURRENT_KEYS = {former: today for today, former in FORMER_KEYS.items()}
NESTED_KEYS = ("optimiser", "normalised")  # the former keys that occur inside a section


def current_key(key: str) -> str:
    """A key, or a dotted path of keys, in today's spelling.

    Inside a section a key can be a name that the user chose (a subset, a method). There only
    `NESTED_KEYS` are translated.
    """
    first, *rest = key.split(".")
    return ".".join([CURRENT_KEYS.get(first, first), *map(_nested_key, rest)])


def current_root(root: str) -> str:
    """A root in today's spelling: version 0.1 wrote `rendered:train` for `synthetic:train`."""
    return re.sub(r"^rendered(_chinese)?:(?=\w+$)", r"synthetic\1:", root)


class RepeatedKeyError(ValueError):
    """A section has one key twice, in today's and in the former spelling."""


def refuse_both_spellings(keys: Iterable[str], spell: Callable[[str], str] | None = None) -> None:
    """Raise RepeatedKeyError if two keys are the same in today's spelling.

    Args:
        keys: Keys of one section.
        spell: Today's spelling of a key; by default `current_key`.
    """
    seen: dict[str, str] = {}
    for key in keys:
        current = (spell or current_key)(key)
        if current in seen:
            raise RepeatedKeyError(f"{seen[current]} and {key} are the same key; keep {current}")
        seen[current] = key


def with_current_keys(tree: Any, *, nested: bool = False) -> Any:
    """The same settings with all keys and roots in today's spelling.

    nested: the settings are those of a section.

    Raises RepeatedKeyError.
    """
    if isinstance(tree, dict):
        spell = _nested_key if nested else current_key
        refuse_both_spellings(map(str, tree), spell)
        return {
            spell(str(key)): with_current_keys(value, nested=True) for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [with_current_keys(value, nested=True) for value in tree]
    return current_root(tree) if isinstance(tree, str) else tree


def _nested_key(key: str) -> str:
    return CURRENT_KEYS[key] if key in NESTED_KEYS else key


def former_key(key: str) -> str:
    """The inverse of `current_key`, for ids of sweeps."""
    first, *rest = key.split(".")
    inner = [FORMER_KEYS[part] if FORMER_KEYS.get(part) in NESTED_KEYS else part for part in rest]
    return ".".join([FORMER_KEYS.get(first, first), *inner])


def with_former_keys(tree: Any) -> Any:
    """The inverse of `with_current_keys`, for run ids."""
    if isinstance(tree, dict):
        return {FORMER_KEYS.get(key, key): with_former_keys(value) for key, value in tree.items()}
    return tree
