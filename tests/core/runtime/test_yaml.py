"""YAML 1.2: types of values, errors with file and line, round trips."""

import math
from pathlib import Path
from typing import Any

import pytest

from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E+3", 1e3),
        ("[1e-4, 2]", [1e-4, 2]),
        ("1.5e-4", 1.5e-4),
        (".inf", math.inf),
        ("24:00:00", "24:00:00"),
        ("08:30", "08:30"),
        ("017", 17),
        ("true", True),
        ("yes", "yes"),
        ("off", "off"),
        ("null", None),
        ("~", None),
        ("", None),
        ("{a: &x {k: 1}, b: *x}", {"a": {"k": 1}, "b": {"k": 1}}),
    ],
)
def test_values_have_the_types_of_yaml_1_2(text: str, value: object) -> None:
    parsed = parse_yaml(text, "--set a")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: 1\nb: 2\na: 3", ("line 3", "duplicate key a")),
        ("a: {x: 1,\n  x: 2}", ("line 2", "duplicate key x")),
        ("a: &a [*a]", ("alias",)),
        ("a: &a {b: {c: *a}}", ("alias",)),
        ("a: [", ("line 1", "not valid YAML")),
        ("a: b: c", ("line 1", "not valid YAML")),
        ("!!python/object:os.system x", ("line 1", "not valid YAML")),
        ("2025-13-45", ("not valid YAML",)),
        ("a\0", ("not valid YAML",)),
        ("[" * 5000, ("not valid YAML",)),
        ("--- a\n--- b", ("line 2", "second document")),
    ],
)
def test_invalid_yaml_is_a_user_error_in_one_line(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as raised:
        parse_yaml(text, "mine.yaml")
    message = str(raised.value)
    assert message.startswith("mine.yaml: ")
    assert all(part in message for part in parts)
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("content", [None, "", "- a\n", b"\xff\xfe\xff"])
def test_a_file_without_a_mapping_is_a_user_error(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        read_yaml(path)


def test_dumped_content_is_read_back_in_the_same_order() -> None:
    content: dict[str, Any] = {
        "title": "1e-5",
        "seeds": [3, 4],
        "set": {"a.b": 1e-5, "c": None, "d": "~", "e": "1:20", "f": True, "g": "yes"},
        "variants": [{"name": "x: é", "set": {"mask": {"kind": "random", "ratio": 0.7}}}],
        "empty": [],
        "long": "word " * 60,
    }
    text = dump_yaml(content)
    assert parse_yaml(text, "text") == content
    assert list(parse_yaml(text, "text")) == list(content)
    assert "é" in text
    assert "seeds: [3, 4]\n" in text
