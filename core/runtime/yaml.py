"""YAML 1.2, read safely: `1e-5` is a number, `24:00:00` is text, and a duplicate key is an error.

In YAML 1.1 the words yes, no, on and off were truth values and 010 was 8. In YAML 1.2 the words are
text, 010 is 10, and only true and false are truth values. An option that takes a truth value still
accepts the words.
"""

import codecs
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import ComposerError
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from core.runtime.errors import UserError
from core.runtime.yaml_nodes import NodeError, check_nodes

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_yaml(text: str, source: str) -> Any:
    """The content of a YAML text.

    Args:
        text: One YAML document.
        source: The file or the option that error messages name.

    Raises:
        UserError: The text is not valid YAML, or holds several documents; a mapping has a duplicate
            key; values are nested too deeply; an alias refers to a value that contains it; or
            the content with its repeated aliases would not fit into memory.
    """
    if version := re.match(r"(?:\s*#.*\n|\s*\n)*%YAML[ \t]+(?!1\.2\b)(\S+)", text.lstrip("\ufeff")):
        raise UserError(
            f"{source}: %YAML {version[1]}: only YAML 1.2 is read; remove this line, and write "
            "true and false for yes and no"
        )
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        if root is None:
            return None
        check_nodes(root)
        return yaml.constructor.construct_document(root)
    except NodeError as error:
        raise UserError(f"{source}: {error}") from error
    except MarkedYAMLError as error:
        raise UserError(f"{source}: {_explain(error)}") from error
    # ValueError: a date such as 2025-13-45. KeyError: `!!bool maybe`.
    except (YAMLError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{source}: not valid YAML ({_one_line(str(error))})") from error
    except RecursionError as error:
        raise UserError(f"{source}: not valid YAML (nested too deeply)") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file of UTF-8 or UTF-16 text.

    Raises UserError if the file is missing, is not valid YAML, or holds no mapping.
    """
    content = parse_yaml(_read_text(path), str(path))
    if content is None:
        raise UserError(f"{path}: empty, or not a mapping of keys to values")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise UserError(f"{path}: {kind}, not a mapping of keys to values (key: value)")
    return content


def _read_text(path: Path) -> str:
    """The text of a file. UTF-16 needs a byte order mark. Raises UserError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder, not a YAML file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a null character in the name
        raise UserError(f"{str(path)!r}: not a file name ({error})") from error
    encoding = "utf-16" if data.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: line {line}: not {encoding.removesuffix('-sig').upper()} text "
            f"(byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from error


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
    """What is wrong, with the line."""
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    problem = str(error.problem)
    if isinstance(error, DuplicateKeyError):
        key = re.search(r'duplicate key "(.*?)" with value', problem, re.DOTALL)
        return f"{line}duplicate key {key[1] if key else ''}".rstrip()
    if isinstance(error, ComposerError) and "another document" in problem:
        return f"{line}a second document begins here (---); a file holds one, so divide the file"
    if "'\\t'" in problem or " tab " in problem:
        return f"{line}not valid YAML (a tab); indent with spaces"
    reasons = [_one_line(part) for part in (error.context, error.problem) if part]
    return f"{line}not valid YAML ({', '.join(reasons)})"


def _one_line(text: str) -> str:
    return " ".join(text.split())
