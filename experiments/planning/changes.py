"""Changes to a recipe: dotted keys or sections, from an experiment file, a sweep or `--set`."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.runtime.errors import UserError
from core.runtime.former_keys import current_key, with_current_keys
from core.runtime.yaml import parse_yaml
from experiments.planning.diagnostics import COMMAND_LINE, Layer, Tree

WHOLE_KEYS = ("subsets", "finetune.labels")  # ends of keys whose section is replaced as a whole


def changes_layer(source: str, tree: Tree) -> Layer:
    """A layer of dotted keys.

    A section in place of a value sets only the values that it names. A section that names its
    `kind`, and the sections of WHOLE_KEYS, are replaced as a whole.
    """
    changes: Tree = {}
    for key, value in tree.items():
        changes |= _flattened(key, value)
    current = {
        current_key(path): with_current_keys(value, nested=True) for path, value in changes.items()
    }
    return Layer(source, current, dotted=True)


def _flattened(key: str, value: Any) -> Tree:
    if not isinstance(value, dict) or not value or "kind" in value or key.endswith(WHOLE_KEYS):
        return {key: value}
    flat: Tree = {}
    for name, inner in value.items():
        flat |= _flattened(f"{key}.{name}", inner)
    return flat


def refuse_repeated_settings(source: str, tree: Tree) -> None:
    """Raise UserError if two keys of a file's changes set the same value.

    A dotted key may add a value to a section above it that does not contain the value.

    Args:
        source: The file, and the row or the key of the changes.
        tree: The changes, in the order of the file.
    """
    earlier: dict[str, str] = {}  # dotted key of a value -> key of the file that sets it
    for key, value in tree.items():
        written = _flattened(key, value)
        leaves = {current_key(path) for whole in written for path in _leaves(whole, written[whole])}
        for leaf in leaves:
            if leaf in earlier:
                _refuse(source, leaf, earlier[leaf], key)
        for path in map(current_key, written):
            for leaf, setter in earlier.items():
                if leaf.startswith(f"{path}."):  # the whole section would replace the value
                    _refuse(source, leaf, setter, key)
        earlier |= dict.fromkeys(leaves, key)


def _leaves(key: str, value: Any) -> list[str]:
    """The dotted keys of the values in a section; the key itself if it is no section."""
    if not isinstance(value, Mapping) or not value:
        return [key]
    return [leaf for name, inner in value.items() for leaf in _leaves(f"{key}.{name}", inner)]


def _refuse(source: str, leaf: str, first: str, second: str) -> None:
    raise UserError(f"{source}: {leaf} is set by {first!r} and again by {second!r}; keep one")


def parse_overrides(pairs: Sequence[str]) -> Tree:
    """Settings of the command line from texts KEY=VALUE, where VALUE is YAML. Raises UserError."""
    settings: Tree = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        name = key.strip()
        if not equals or not name:
            raise UserError(
                f"{COMMAND_LINE} {pair}: write it as KEY=VALUE, e.g. pretrain.mask.ratio=0.7"
            )
        if name in settings:
            raise UserError(f"{COMMAND_LINE} {pair}: {name} is given twice; keep one")
        settings[name] = parse_yaml(value, f"{COMMAND_LINE} {pair}")
    refuse_repeated_settings(COMMAND_LINE, settings)
    return settings
