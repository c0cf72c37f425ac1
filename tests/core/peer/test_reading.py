"""Reading data sets with a peer: the files it writes, interruption, and folders of other data."""

import json
from pathlib import Path

import pytest
from conftest import jpeg, write_lmdb
from PIL import Image

from analysis.tables.prediction_files import read_prediction_file
from core.peer import NOT_COMPARABLE, NOTES, PPOCRV6
from core.peer.ppocrv6 import Reading
from core.peer.reading import (
    PARTIAL,
    PREDICTIONS,
    RECORD,
    PeerResult,
    identity,
    read_roots,
)
from core.runtime.errors import UserError
from core.runtime.files import try_lock

VERSIONS = {"onnxruntime": "1"}


class ByWidth:
    """Reads the picture's width, and is interrupted at its `stop`-th picture."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.pictures = 0

    def read(self, picture: Image.Image) -> Reading:
        if self.pictures == self.stop:
            raise KeyboardInterrupt
        self.pictures += 1
        return Reading(f'{picture.width},"', 0.12345678)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, list[str]]:
    """Two subsets: three words and a broken image; a word, and an image without label."""
    first: list[tuple[bytes | None, str | None]] = [
        (jpeg(1, (width, 20)), f"w{width}") for width in (30, 40, 50)
    ]
    second: list[tuple[bytes | None, str | None]] = [
        (jpeg(2, (60, 20)), "x"),
        (jpeg(2, (70, 20)), None),
    ]
    return {
        "a": [write_lmdb(tmp_path / "a", [*first, (b"broken", "y")])],
        "b": [write_lmdb(tmp_path / "b", second)],
    }


def read(
    roots: dict[str, list[str]], folder: Path, reader: ByWidth, model: str = "m"
) -> PeerResult:
    about = identity(PPOCRV6, model, VERSIONS, roots)
    result = read_roots(lambda: reader, roots, folder, about, lambda done, total: None)
    assert result is not None
    return result


def test_predictions_have_the_format_of_the_suite_and_the_mark(
    roots: dict[str, list[str]], tmp_path: Path
) -> None:
    result = read(roots, tmp_path / "out", ByWidth())
    assert (result.images, result.unusable) == ({"a": 4, "b": 2}, {"a": 1, "b": 1})
    content = read_prediction_file(result.predictions)
    assert content.notes == (NOTES[PPOCRV6],)
    assert NOT_COMPARABLE in content.notes[0]
    rows = [
        (row.index, row.label, row.prediction, row.scorable)
        for predictions in content.subsets.values()
        for row in predictions
    ]
    assert rows == [
        (0, "w30", '30,"', True),
        (1, "w40", '40,"', True),
        (2, "w50", '50,"', True),
        (3, "y", "", False),
        (0, "x", '60,"', True),
        (1, "", '70,"', False),
    ]
    assert content.subsets["a"][0].confidence == 0.123457
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["comparability"] == NOT_COMPARABLE
    assert str(tmp_path) not in json.dumps(record)
    assert not (tmp_path / "out" / PARTIAL).exists()


@pytest.mark.parametrize("cut", [False, True])
def test_an_interrupted_reading_resumes_with_the_same_predictions(
    cut: bool, roots: dict[str, list[str]], tmp_path: Path
) -> None:
    whole = read(roots, tmp_path / "whole", ByWidth()).predictions.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        read(roots, tmp_path / "out", ByWidth(stop=2))
    partial = tmp_path / "out" / PARTIAL
    assert len(partial.read_text().splitlines()) == 3
    if cut:
        with partial.open("a") as file:
            file.write('["a", 2, "w')
    reader = ByWidth()
    assert read(roots, tmp_path / "out", reader).predictions.read_bytes() == whole
    assert reader.pictures == 3


def test_a_request_to_stop_is_met_between_two_images(
    roots: dict[str, list[str]], tmp_path: Path
) -> None:
    reader = ByWidth()
    about = identity(PPOCRV6, "m", VERSIONS, roots)
    folder = tmp_path / "out"
    stopped = read_roots(
        lambda: reader, roots, folder, about, lambda *_: None, lambda: reader.pictures == 2
    )
    assert stopped is None
    assert {path.name for path in folder.iterdir()} == {PARTIAL, ".lock"}
    assert read(roots, folder, reader).images == {"a": 4, "b": 2}
    assert reader.pictures == 5


def test_a_finished_folder_is_not_read_again(roots: dict[str, list[str]], tmp_path: Path) -> None:
    first = read(roots, tmp_path / "out", ByWidth())
    reader = ByWidth(stop=0)
    again = read(roots, tmp_path / "out", reader)
    assert again == first._replace(seconds=0.0)


@pytest.mark.parametrize("stop", [2, None])
def test_a_folder_of_other_data_or_another_model_is_refused(
    stop: int | None, roots: dict[str, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    if stop is None:
        read(roots, folder, ByWidth())
    else:
        with pytest.raises(KeyboardInterrupt):
            read(roots, folder, ByWidth(stop))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for other, model in (({"a": roots["a"]}, "m"), (roots, "other")):
        with pytest.raises(UserError, match="other data"):
            read(other, folder, ByWidth(), model)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_damaged_line_is_an_error_with_its_file(
    roots: dict[str, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / PARTIAL).write_text("{nothing\n")
    with pytest.raises(UserError, match=PARTIAL):
        read(roots, folder, ByWidth())


def test_two_processes_do_not_read_into_one_folder(
    roots: dict[str, list[str]], tmp_path: Path
) -> None:
    with try_lock(tmp_path / "out" / ".lock") as free:
        assert free
        with pytest.raises(UserError, match="another process"):
            read(roots, tmp_path / "out", ByWidth())
    assert not (tmp_path / "out" / PREDICTIONS).exists()


def test_progress_counts_what_an_earlier_call_has_read(
    roots: dict[str, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(roots, tmp_path / "out", ByWidth(stop=2))
    shown: list[tuple[int, int]] = []
    about = identity(PPOCRV6, "m", VERSIONS, roots)
    read_roots(ByWidth, roots, tmp_path / "out", about, lambda *counts: shown.append(counts))
    assert shown == [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]
