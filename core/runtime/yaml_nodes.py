"""Checks of a YAML text before it becomes Python objects: recursion, depth, repeated aliases."""

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_DEPTH = 50  # mappings and lists inside one another
# Values of a document in which each alias counts as a copy of its value. A few short lines of
# aliases to aliases ("billion laughs") can stand for more than any memory holds.
MAX_VALUES = 100_000


class NodeError(ValueError):
    """A YAML text that is not read; the message names the line and the key."""


def check_nodes(root: Node) -> None:
    """Raise NodeError if values are nested too deeply, contain themselves, or are too many."""
    _NodeCheck().count(root, [])


class _NodeCheck:
    """Counts the values of a document, each alias as a copy of its value."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}  # id of a checked node -> values in it, itself included
        self.ancestors: set[int] = set()  # ids of the nodes around the one that is checked

    def count(self, node: Node, keys: list[str]) -> int:
        """The values in a node, itself included. Raises NodeError.

        node: a part of the document.
        keys: the keys on the way to it.
        """
        if not isinstance(node, MappingNode | SequenceNode):
            return 1
        if id(node) in self.ancestors:
            raise NodeError(_message(node, keys, "an alias (*name) of a value that contains it"))
        if id(node) in self.counts:
            return self.counts[id(node)]
        if len(self.ancestors) == MAX_DEPTH:
            raise NodeError(
                _message(node, keys, f"nested too deeply (more than {MAX_DEPTH} levels)")
            )
        self.ancestors.add(id(node))
        total = 1
        for key, part in _parts(node):
            total += self.count(part, [*keys, *key])
            if total > MAX_VALUES:
                reason = f"aliases repeat more than {MAX_VALUES:,} values"
                raise NodeError(_message(node, keys, reason))
        self.ancestors.remove(id(node))
        self.counts[id(node)] = total
        return total


def _parts(node: MappingNode | SequenceNode) -> list[tuple[list[str], Node]]:
    """(keys, node) of the values in a node, and of the keys of a mapping that are no scalars."""
    if isinstance(node, SequenceNode):
        return [([str(number)], part) for number, part in enumerate(node.value)]
    parts: list[tuple[list[str], Node]] = []
    for key, value in node.value:
        if isinstance(key, ScalarNode):
            parts.append(([key.value], value))
        else:
            parts += [([], key), ([], value)]
    return parts


def _message(node: Node, keys: list[str], reason: str) -> str:
    """A sentence with the line where the node begins, and its key."""
    line = node.start_mark.line + 1
    shown = ".".join(keys if len(keys) <= 6 else [*keys[:6], "..."])
    return f"line {line}: {shown}: {reason}" if shown else f"line {line}: {reason}"
