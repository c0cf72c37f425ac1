"""Charset files: their layouts, and errors that name line and character."""

from pathlib import Path

import pytest
from conftest import call, jpeg, write_lmdb

from core.text.charset import resolve_charset


def resolved(folder: Path, content: bytes) -> str:
    path = folder / "charset.txt"
    path.write_bytes(content)
    return resolve_charset(f"file:{path}")


@pytest.mark.parametrize(
    "content",
    [
        *("abc", "abc\n", "a b c", "a\u3000bc", "a\r\nb\r\nc\r\n", "a\rb\rc", "\ufeffa\nb\nc"),
        *("\ufeffabc\r\n", "a\n\nb\n \nc", " a\nb \n\tc\n"),
    ],
)
def test_usual_layouts_are_read(content: str, tmp_path: Path) -> None:
    assert resolved(tmp_path, content.encode()) == "abc"


@pytest.mark.parametrize(
    ("content", "line", "parts"),
    [
        ("a\nb\na\n", 3, ["'a' (U+0061)", "line 1"]),
        ("\nabca\n", 2, ["'a' (U+0061)", "twice"]),
        ("a\n0 b\nc\n", 2, ["'0 b'"]),
        ("0 a\n1 b\n2 c\n", 1, ["'0 a'"]),
        ("a\t0\nb\t1\n", 1, ["'a\\t0'"]),
        ("a\nb\ncd\n", 3, ["'cd'"]),
        ("ab\ncd\n", 1, ["'ab'"]),
        ("ascii94\nabc\n", 1, ["'ascii94'"]),
        ("a\x00b", 1, ["U+0000"]),
        ("a\nb\n\x07\n", 3, ["U+0007"]),
        ("a\ne\u0301\n", 2, ["U+0065 U+0301", "(U+00E9)", "NFC"]),
        ("a\n\u2764\ufe0f\n", 2, ["U+2764 U+FE0F"]),
        ("a\n\u0915\u093f\n", 2, ["U+0915 U+093F"]),
        ("\u00e9\na\n\u00e9\n", 3, ["(U+00E9)", "line 1"]),
    ],
)
def test_a_mistake_is_named_with_line_and_character(
    content: str, line: int, parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"charset\.txt, line {line}: ") as caught:
        resolved(tmp_path, content.encode())
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no characters"),
        (b"\xef\xbb\xbf\r\n \n", "no characters"),
        ("a\né\n".encode("latin-1"), "line 2: not UTF-8 (byte 0xe9)"),
        ("a\né\n".encode("utf-16"), "UTF-16"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_file_that_is_no_charset_is_refused(content: bytes, part: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"charset\.txt") as caught:
        resolved(tmp_path, content)
    assert part in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a folder"):
        resolve_charset(f"file:{tmp_path}")


@pytest.mark.parametrize(
    ("charset", "part"), [("aba", "U+0061"), ("\u00e9\u00e9", "U+00E9"), ("a\x00", "U+0000")]
)
def test_a_mistake_in_typed_characters_names_the_character(charset: str, part: str) -> None:
    with pytest.raises(ValueError, match=part.replace("+", r"\+")):
        resolve_charset(charset)


@pytest.mark.parametrize(
    ("labels", "characters"),
    [
        (["b a", "\u00e9"], "ab\u00e9"),
        (["e\u0301", "\u0915\u093f"], "e\u0301\u0915\u093f"),  # combining characters
        (["\U0001f600\u200d", "x\u3000y"], "xy\u200d\U0001f600"),
        (["\u4e16\u754c", "a\x07b"], "ab\u4e16\u754c"),
        (["0 a"], "0a"),
    ],
)
def test_data_charset_writes_a_file_that_is_read(
    labels: list[str], characters: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(n), label) for n, label in enumerate(labels)])
    file = tmp_path / "set.txt"
    assert call(capsys, "data", "charset", root, "--out", file)[0] == 0
    assert resolve_charset(f"file:{file}") == characters


@pytest.mark.parametrize("command", ["score", "check"])
def test_commands_name_file_line_and_character(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charset = tmp_path / "charset.txt"
    charset.write_text("a\nb\na\n", encoding="utf-8")
    predictions = tmp_path / "p.csv"
    predictions.write_text("prediction,label\na,a\n", encoding="utf-8")
    options = {
        "score": ("score", predictions, "--labels", "strict"),
        "check": ("data", "check", write_lmdb(tmp_path / "a", [(jpeg(1), "a")])),
    }
    code, _, err = call(capsys, *options[command], "--charset", f"file:{charset}")
    assert code == 2
    assert f"{charset}, line 3" in err
    assert "U+0061" in err
