"""`run.py data charset`: the characters of labels as a file."""

import json
from pathlib import Path

import pytest
from conftest import call, jpeg, write_lmdb


def test_a_charset_has_the_characters_of_all_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(1), "ba c"), (jpeg(2), "cé"), (jpeg(3), None)])
    code, out, err = call(capsys, "data", "charset", root)
    assert (code, out) == (0, "abcé\n")
    assert "4 characters, 7 classes" in err
    file = tmp_path / "set.txt"
    assert call(capsys, "data", "charset", root, "--out", file, "--min-count", 2)[0] == 0
    assert file.read_text(encoding="utf-8") == "c\n"
    assert json.loads(
        call(capsys, "data", "check", root, "--charset", f"file:{file}", "--json")[1]
    )["roots"][0]["labels"]["characters_outside"] == {"a": 1, "b": 1, " ": 1, "é": 1}
    code, _, err = call(capsys, "data", "check", root, "--charset", "file:/nowhere")
    assert code == 2
    assert "no such file" in err
