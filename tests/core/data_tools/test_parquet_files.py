"""Parquet files with word images: columns, shards, splits, damaged files."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import call, jpeg
from photos import labels_and_reasons, read_source

from core.data.word_images import WordImages
from core.data_tools import parquet_files
from core.data_tools.reading import Reading
from core.data_tools.sources import find_source
from core.runtime.errors import UserError

needs_pyarrow = pytest.mark.skipif(
    find_spec("pyarrow") is None,
    reason="pyarrow is missing; pip install -r requirements-parquet.txt",
)


def write_parquet(path: Path, columns: dict[str, Any], rows_per_group: int = 2) -> Path:
    import pyarrow
    from pyarrow.parquet import write_table

    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(pyarrow.table(columns), path, row_group_size=rows_per_group)
    return path


def hub_images(colors: range) -> list[dict[str, Any]]:
    """Images as the hub stores them."""
    return [{"bytes": jpeg(color), "path": f"{color}.jpg"} for color in colors]


def test_a_missing_pyarrow_is_one_sentence_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(parquet_files, "find_spec", lambda name: None)
    code, out, err = call(capsys, "data", "build", tmp_path / "a.parquet", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "pip install -r requirements-parquet.txt" in err
    assert err.count("\n") == 1


@needs_pyarrow
def test_a_pyarrow_that_executes_code_of_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_parquet(tmp_path / "words.parquet", {"image": hub_images(range(1))})
    monkeypatch.setattr("pyarrow.__version__", "14.0.0")
    with pytest.raises(UserError, match=r"14\.0\.0 is not safe"):
        labels_and_reasons(file)


@needs_pyarrow
def test_a_damaged_group_of_images_loses_only_its_rows(tmp_path: Path) -> None:
    images = [{"bytes": jpeg(number) * 40, "path": str(number)} for number in range(4)]
    file = write_parquet(tmp_path / "words.parquet", {"image": images, "text": list("abcd")})
    content = bytearray(file.read_bytes())
    content[20:40] = b"\xff" * 20  # in the page header of the first group's images
    file.write_bytes(content)
    labels, reasons = labels_and_reasons(file)
    assert labels == ["c", "d"]
    assert len(reasons) == 2
    assert all(reason.startswith("image cannot be") for reason in reasons)


@needs_pyarrow
def test_images_of_the_hub_are_read_with_their_texts(tmp_path: Path) -> None:
    columns = {"image": hub_images(range(5)), "text": list("abcde"), "font": ["x"] * 5}
    file = write_parquet(tmp_path / "words.parquet", columns)
    source = find_source(file)
    assert (source.format, source.labeled) == ("parquet", True)
    assert [row.image for row in source.annotations()] == [f"{number}.jpg" for number in range(5)]
    assert read_source(file) == [(jpeg(number), "abcde"[number]) for number in range(5)]


@needs_pyarrow
def test_plain_bytes_and_columns_with_other_names_are_read(tmp_path: Path) -> None:
    columns = {"png": [jpeg(1)], "thumbnail": [jpeg(2)], "word": ["a"], "source": ["web"]}
    file = write_parquet(tmp_path / "words.data", columns)  # found by its content
    with pytest.raises(UserError, match=r"several columns of images.*--image-column"):
        labels_and_reasons(file)
    with pytest.raises(UserError, match=r"several columns of texts.*--text-column"):
        labels_and_reasons(file, Reading(image_column="png"))
    reading = Reading(image_column="png", text_column="word")
    assert read_source(file, reading) == [(jpeg(1), "a")]


@needs_pyarrow
@pytest.mark.parametrize(
    ("reading", "part"),
    [
        (Reading(text_column="texts"), "--text-column texts: no such column"),
        (Reading(text_column="count"), "--text-column count: not a column of texts"),
        (Reading(image_column="text"), "--image-column text: not a column of images"),
    ],
)
def test_a_wrong_column_is_an_error_that_lists_the_columns(
    reading: Reading, part: str, tmp_path: Path
) -> None:
    columns = {"image": hub_images(range(1)), "text": ["a"], "count": [3]}
    file = write_parquet(tmp_path / "words.parquet", columns)
    with pytest.raises(UserError, match=rf"{part}.*count \(int64\)"):
        labels_and_reasons(file, reading)


@needs_pyarrow
def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "words.parquet", {"text": ["a"]})
    with pytest.raises(UserError, match="no column of images"):
        labels_and_reasons(file)


@needs_pyarrow
def test_images_without_texts_are_data_without_labels(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "words.parquet", {"image": hub_images(range(2))})
    source = find_source(file)
    assert not source.labeled
    assert [row.label for row in source.annotations()] == [None, None]


@needs_pyarrow
def test_empty_cells_and_broken_images_are_skipped_with_reasons(tmp_path: Path) -> None:
    (tmp_path / "7.jpg").write_bytes(jpeg(7))
    images: list[Any] = [
        *hub_images(range(1)),
        {"bytes": b"no image", "path": "x"},
        None,
        {"bytes": None, "path": "7.jpg"},
        {"bytes": None, "path": "absent.jpg"},
        {"bytes": jpeg(2), "path": None},
    ]
    columns = {"image": images, "text": ["a", "b", "c", "d", "e", None]}
    labels, reasons = labels_and_reasons(write_parquet(tmp_path / "words.parquet", columns))
    assert labels == ["a", "d"]
    assert reasons == [
        *("image cannot be decoded", "no image in the row"),
        *("image cannot be read (No such file or directory)", "empty label"),
    ]


@needs_pyarrow
def test_shards_of_one_split_are_read_in_order(tmp_path: Path) -> None:
    for number, letters in enumerate(("ab", "cd")):
        columns = {"image": hub_images(range(2)), "text": list(letters)}
        write_parquet(tmp_path / f"data/train-0000{number}-of-00002.parquet", columns)
    write_parquet(
        tmp_path / "data/test-00000-of-00001-0123456789abcdef.parquet",
        {"image": hub_images(range(1)), "text": ["t"]},
    )
    with pytest.raises(UserError, match=r"several splits \(test, train\).*--split"):
        find_source(tmp_path)
    assert labels_and_reasons(tmp_path, Reading(split="train")) == (list("abcd"), [])
    assert labels_and_reasons(tmp_path / "data" / "train-*.parquet") == (list("abcd"), [])
    with pytest.raises(UserError, match=r"--split val: .* has the splits test, train"):
        find_source(tmp_path, Reading(split="val"))


@needs_pyarrow
def test_a_shard_may_have_its_split_in_the_name_of_its_folder(tmp_path: Path) -> None:
    assert parquet_files.split_of(Path("default/train/0000.parquet")) == "train"
    assert parquet_files.split_of(Path("data/validation.parquet")) == "validation"


@needs_pyarrow
@pytest.mark.parametrize("length", [0, 4, -200])
def test_a_truncated_file_gives_one_sentence(length: int, tmp_path: Path) -> None:
    columns = {"image": hub_images(range(3)), "text": list("abc")}
    file = write_parquet(tmp_path / "words.parquet", columns)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match="not a complete Parquet file") as error:
        labels_and_reasons(file)
    assert "\n" not in str(error.value)


@needs_pyarrow
@pytest.mark.slow
def test_the_command_builds_from_shards_with_two_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"image": [*hub_images(range(3)), None], "text": list("abcd")}
    write_parquet(tmp_path / "in" / "train-00000-of-00001.parquet", columns)
    words = [tmp_path / "in", tmp_path / "out", "--processes", 2]
    code, out, _ = call(capsys, "data", "build", *words, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["format"] == "parquet"
    assert result["reasons"] == {"no image in the row": 1}
    built = WordImages([str(tmp_path / "out")])
    assert list(built.labels()) == list("abc")
    assert built.raw(2) == jpeg(2)
