"""Annotation files: encodings, names in upper case, Windows paths, labels in JSON."""

import json
from pathlib import Path

import pytest
from conftest import call, jpeg

from core.data.word_images import WordImages
from core.data_tools.annotation_formats import read_annotations
from core.data_tools.annotations import Annotation
from core.data_tools.build import read_sample
from core.runtime.errors import UserError

TEXTS = {
    "gt.txt": "1.png\tcafé\r\n2.png\tb\r\n",
    "gt.csv": "filename,text\n1.png,café\n2.png,b\n",
    "gt.tsv": "1.png\tcafé\n2.png\tb\n",
    "gt.jsonl": '{"filename": "1.png", "text": "café"}\n{"filename": "2.png", "text": "b"}\n',
    "gt.json": '[{"filename": "1.png", "text": "café"}, {"filename": "2.png", "text": "b"}]',
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_unicode_encodings_are_recognized(name: str, encoding: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(TEXTS[name].encode(encoding))
    assert list(read_annotations(file)) == [Annotation("1.png", "café"), Annotation("2.png", "b")]


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf16_with_a_mark_is_read_in_both_byte_orders(mark: bytes, tmp_path: Path) -> None:
    encoding = "utf-16-le" if mark == b"\xff\xfe" else "utf-16-be"
    file = tmp_path / "gt.csv"
    file.write_bytes(mark + TEXTS["gt.csv"].encode(encoding))
    assert [row.label for row in read_annotations(file)] == ["café", "b"]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("encoding", "text"), [("latin-1", "é"), ("gbk", "中"), ("cp1252", "€")])
def test_other_encodings_are_named_with_line_and_byte(
    name: str, encoding: str, text: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(TEXTS[name].replace("é", text).encode(encoding))
    with pytest.raises(UserError, match=r"gt\..*: line \d is not UTF-8 \(byte 0x") as error:
        list(read_annotations(file))
    assert f"line {2 if name == 'gt.csv' else 1} " in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04...", "Excel"),
    ],
)
def test_a_file_that_is_no_text_is_named_as_what_it_is(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        list(read_annotations(file))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GT.TXT", "1.PNG hello\r\n"),
        ("Labels.CSV", 'Filename,Words\r\n1.png,"hello"\r\n'),
        ("LABELS.TSV", "1.PNG\thello\n"),
        ("Train.JSONL", '{"filename": "1.png", "text": "hello"}\n'),
        ("ANNOTATION.JSON", '{"data_list": [{"img_path": "1.PNG", "instances": '
         '[{"text": "hello"}]}]}'),
    ],
)  # fmt: skip
def test_names_in_upper_case_are_recognized(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.PNG").write_bytes(jpeg(1))
    (tmp_path / "in" / name).write_text(text)
    for source, out in ((tmp_path / "in", "a"), (tmp_path / "in" / name, "b")):
        assert call(capsys, "data", "build", source, tmp_path / out, "--processes", 1)[0] == 0
        assert list(WordImages([str(tmp_path / out)]).labels()) == ["hello"]


def test_backslashes_separate_folders_as_on_windows(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.png").write_bytes(jpeg(1))
    (tmp_path / "x\\y.png").write_bytes(jpeg(2))
    for name in ("a\\b\\1.png", ".\\a\\b\\1.png", "a/b\\1.PNG", "a\\b/1.png"):
        assert read_sample(Annotation(name, "w"), str(tmp_path)) == (jpeg(1), "w")
    assert read_sample(Annotation("x\\y.png", "w"), str(tmp_path)) == (jpeg(2), "w")
    assert "Windows path" in read_sample(Annotation("C:\\a\\b\\1.png", "w"), str(tmp_path))


def test_nul_bytes_are_named_and_lose_no_other_row(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(jpeg(1))
    for name in ("gt.txt", "gt.csv", "gt.tsv"):
        separator = "," if name == "gt.csv" else "\t"
        lines = [f"1.png{separator}a\0b", f"1\0.png{separator}a", f"1.png{separator}ok"]
        (tmp_path / name).write_text("\n".join(lines))
        samples = [read_sample(row, str(tmp_path)) for row in read_annotations(tmp_path / name)]
        assert samples[0] == "label has a NUL character"
        assert samples[1] == "image name is not a valid file name"
        assert samples[2] == (jpeg(1), "ok")


NUMBERS = {
    "7": "7",
    '"007"': "007",
    "1.50": "1.50",
    "-3": "-3",
    "1e5": "1e5",
    "9" * 5000: "9" * 5000,
}


@pytest.mark.parametrize("written", NUMBERS)
@pytest.mark.parametrize("form", ["lines", "list", "mmocr"])
def test_a_number_in_json_is_the_label_as_written(written: str, form: str, tmp_path: Path) -> None:
    entry = f'{{"filename": "1.png", "text": {written}}}'
    text = {
        "lines": entry + "\n" + entry + "\n",
        "list": f"[{entry}, {entry}]",
        "mmocr": f'{{"data_list": [{entry}, {{"img_path": "1.png", "instances": [{entry}]}}]}}',
    }[form]
    file = tmp_path / ("a.jsonl" if form == "lines" else "a.json")
    file.write_text(text)
    assert [row.label for row in read_annotations(file)] == [NUMBERS[written]] * 2


@pytest.mark.parametrize("value", [None, True, False, [], ["a"], {"a": "b"}, float("nan")])
def test_other_json_values_are_no_labels(value: object, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"filename": "1.png", "text": value}))
    (row,) = read_annotations(tmp_path / "a.jsonl")
    assert row.image == "1.png"
    assert "not a text" in row.problem


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '[{"filename": "1.png", "text": 007}]'])
def test_broken_json_is_a_user_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="not valid JSON"):
        list(read_annotations(tmp_path / "a.json"))
