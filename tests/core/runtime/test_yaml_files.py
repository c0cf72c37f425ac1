"""YAML files that people have: aliases, nesting, encodings, several documents, no mapping."""

import os
from pathlib import Path

import pytest

from core.runtime.errors import UserError
from core.runtime.yaml import parse_yaml, read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
MERGED_LAUGHS = "a0: &a0 {k: 1}\n" + "".join(
    f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)


def message_of(path: Path, content: str | bytes) -> str:
    """The error message of a file with this content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as raised:
        read_yaml(path)
    message = str(raised.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("title: t\nset: &v {pretrain: *v}\n", ("line 2", "set.pretrain", "alias")),
        ("set: &v\n  a:\n    - b\n    - [*v]\n", ("set.a.1.0", "alias")),
        ("a: &a {<<: *a}\n", ("a.<<", "alias")),
        ("? &x [*x]\n: 1\n", ("line 1", "alias")),
        (LAUGHS, ("aliases repeat", "line 5")),
        (MERGED_LAUGHS, ("aliases repeat",)),
        ("a: " + "[" * 60 + "]" * 60, ("line 1", "nested too deeply")),
        ("".join(" " * level + f"k{level}:\n" for level in range(60)), ("nested too deeply",)),
    ],
)
def test_aliases_and_nesting_that_cannot_be_used_are_named(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    message = message_of(tmp_path / "x.yaml", text)
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("a:\n\tb: 1\n", ("line 2", "tab", "spaces")),
        ("a: 1\n---\nb: 2\n", ("line 2", "second document")),
        ("a: 1\nb: 2\na: 3\n", ("line 3", "duplicate key a")),
        ("# old\n%YAML 1.1\n---\nseeds: [010]\n", ("%YAML 1.1", "YAML 1.2")),
        ("", ("empty",)),
        ("# only a comment\n", ("empty",)),
        ("- a\n", ("a list",)),
        ("3\n", ("a single value",)),
        ("b: {<<: 3}\n", ("line 1", "merging")),
        ("<<: *missing\n", ("line 1", "'missing'")),
        ("a: !!bool maybe\n", ("not valid YAML",)),
        ("x: 1\na: é\n".encode("latin-1"), ("line 2", "not UTF-8", "0xe9")),
        (b"\xff\xfea", ("not UTF-16",)),
    ],
)
def test_a_file_that_is_not_a_mapping_in_yaml_is_named(
    tmp_path: Path, content: str | bytes, parts: tuple[str, ...]
) -> None:
    message = message_of(tmp_path / "x.yaml", content)
    assert all(part in message for part in parts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("title: é\n", encoding=encoding)
    assert read_yaml(path) == {"title": "é"}


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").mkdir()
    with pytest.raises(UserError, match=r"x\.yaml: a folder"):
        read_yaml(tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"y\.yaml: no such file"):
        read_yaml(tmp_path / "y.yaml")


def test_a_file_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"x\.yaml: cannot be read \(Permission denied\)"):
        read_yaml(tmp_path / "x.yaml")


def test_merge_keys_and_shared_aliases_are_read() -> None:
    text = "a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\nc: [*x, *x]\n"
    shared = {"k": 1, "l": 2}
    assert parse_yaml(text, "text") == {"a": shared, "b": {"k": 3, "l": 2}, "c": [shared, shared]}
