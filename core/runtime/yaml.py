"""YAML 1.2, read safely: `1e-5` is a number, `24:00:00` is text, and a duplicate key is an error.

In YAML 1.1 the words yes, no, on and off were truth values. In YAML 1.2 they are text, and only
true and false are truth values. An option that takes a truth value still accepts all of them.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from core.runtime.errors import UserError


def parse_yaml(text: str, source: str) -> Any:
    """The content of a YAML text.

    Args:
        text: One YAML document.
        source: The file or the option that error messages name.

    Raises:
        UserError: The text is not valid YAML, a mapping has a duplicate key, or an alias refers to
            a value that contains it.
    """
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        raise UserError(f"{source}: {_explain(error)}") from error
    except (YAMLError, ValueError) as error:  # ValueError: a date such as 2025-13-45
        raise UserError(f"{source}: not valid YAML ({_one_line(str(error))})") from error
    except RecursionError as error:
        raise UserError(f"{source}: not valid YAML (nested too deeply)") from error
    _refuse_recursion(content, source, ancestors=set(), checked=set())
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises UserError if the file is missing, is not valid YAML, or holds no mapping.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: empty, or not a mapping of keys to values")
    return content


def dump_yaml(content: Mapping[str, Any]) -> str:
    """A mapping as YAML text that `parse_yaml` reads back. Keys keep their order.

    Mappings and lists without nested ones are written on one line if they fit into 100 characters.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 100
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(dict(content), stream)
    return stream.getvalue()


def _explain(error: MarkedYAMLError) -> str:
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    if isinstance(error, DuplicateKeyError):
        key = re.search(r'duplicate key "(.*?)" with value', str(error.problem), re.DOTALL)
        return f"{line}duplicate key {key[1] if key else ''}".rstrip()
    reasons = [_one_line(part) for part in (error.context, error.problem) if part]
    return f"{line}not valid YAML ({', '.join(reasons)})"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _refuse_recursion(value: Any, source: str, ancestors: set[int], checked: set[int]) -> None:
    """Raise UserError if a mapping or a list contains itself, as in `a: &a [*a]`.

    Args:
        value: A part of the content.
        source: The file or the option that the error message names.
        ancestors: Ids of the mappings and lists that contain `value`.
        checked: Ids of the mappings and lists that were checked before.
    """
    if not isinstance(value, dict | list) or id(value) in checked:
        return
    if id(value) in ancestors:
        raise UserError(f"{source}: an alias (*name) refers to a value that contains it")
    ancestors.add(id(value))
    for part in value.values() if isinstance(value, dict) else value:
        _refuse_recursion(part, source, ancestors, checked)
    ancestors.remove(id(value))
    checked.add(id(value))
