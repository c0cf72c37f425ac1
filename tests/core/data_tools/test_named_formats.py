"""MJSynth's lists, formats named with --format, and columns of tables named by the user."""

from pathlib import Path

import pytest
from conftest import jpeg
from photos import labels_and_reasons

from core.data_tools.annotations import Annotation
from core.data_tools.reading import Reading
from core.data_tools.sources import find_source
from core.runtime.errors import UserError

MJSYNTH = "./2425/1/115_Lube_45484.jpg 45484\n./2425/a_b/2_O'Neil_7.jpg 7\n"


def annotations(file: Path, reading: Reading) -> list[tuple[str, str | None]]:
    return [(row.image, row.label) for row in find_source(file, reading).annotations()]


def test_labels_of_mjsynth_are_in_the_names_of_its_images(tmp_path: Path) -> None:
    (tmp_path / "2425" / "1").mkdir(parents=True)
    (tmp_path / "2425" / "1" / "115_Lube_45484.jpg").write_bytes(jpeg(1))
    file = tmp_path / "annotation_train.txt"
    file.write_text(MJSYNTH + "./2425/1/broken 3\n")
    source = find_source(file, Reading(format="mjsynth"))
    assert [row.label for row in source.annotations()] == ["Lube", "O'Neil", ""]
    labels, reasons = labels_and_reasons(file, Reading(format="mjsynth"))
    assert labels == ["Lube"]
    assert reasons == [
        "image cannot be read (No such file or directory)",
        "no image name such as 115_Lube_45484.jpg",
    ]


def test_mjsynth_is_found_by_the_numbers_of_its_words(tmp_path: Path) -> None:
    file = tmp_path / "annotation_val.txt"
    file.write_text(MJSYNTH)
    assert find_source(file).format == "mjsynth"
    file.write_text(MJSYNTH + "./1/9_Word_3.jpg 4\n")  # 4 is a label: not the number of the word
    assert find_source(file).format == "text"
    assert annotations(file, Reading(format="mjsynth"))[2] == ("./1/9_Word_3.jpg", "Word")


def test_mjsynths_list_of_names_is_read_where_the_format_is_named(tmp_path: Path) -> None:
    file = tmp_path / "imlist.txt"
    file.write_text("./2425/1/115_Lube_45484.jpg\n")
    assert annotations(file, Reading(format="mjsynth")) == [("./2425/1/115_Lube_45484.jpg", "Lube")]


@pytest.mark.parametrize("name", ["mjsynth", "paddleocr", "text", "csv", "tsv", "jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_has_no_annotations(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_bytes(content)
    assert annotations(tmp_path / "gt.txt", Reading(format=name)) == []


@pytest.mark.parametrize("name", ["mjsynth", "paddleocr", "textocr", "cocotext"])
def test_a_file_that_is_not_utf8_names_the_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_bytes(b"./1/1_a_1.jpg 1\n./1/1_caf\xe9_2.jpg 2\n")
    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        annotations(tmp_path / "gt.txt", Reading(format=name))


def test_a_named_format_replaces_the_one_of_the_suffix(tmp_path: Path) -> None:
    file = tmp_path / "labels.tsv"
    file.write_text("a.png;x\tb;y\n")
    assert annotations(file, Reading()) == [("a.png;x", "b;y")]
    assert annotations(file, Reading(format="csv")) == [("a.png", "x\tb;y")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "filename,text,File,guess\na.png,a,b.png,b\n"),
        ("t.csv", "text;guess;file\nx;b;b.png\n"),
        ("t.tsv", "file\tguess\nb.png\tb\n"),
        ("t.jsonl", '{"filename": "a.png", "text": "a", "file": "b.png", "guess": "b"}\n'),
        ("t.json", '[{"file": "b.png", "guess": "b"}]'),
    ],
)
def test_columns_that_the_user_names_are_read(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    reading = Reading(image_column="file", text_column="guess")
    assert annotations(tmp_path / name, reading) == [("b.png", "b")]


@pytest.mark.parametrize("content", ["filename,text\na.png,a\n", "a.png,a\n"])
def test_a_table_without_the_named_column_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=r"--text-column guess: .*name both"):
        annotations(tmp_path / "t.csv", Reading(text_column="guess"))


def test_json_without_the_named_key_is_a_problem_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"filename": "a.png", "text": "a"}\n')
    (row,) = find_source(tmp_path / "t.jsonl", Reading(text_column="guess")).annotations()
    assert row == Annotation("a.png", "", "no text")
