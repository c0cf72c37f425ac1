"""LMDB folders: counts, damaged files, search for folders, fingerprints."""

import io
from pathlib import Path

import lmdb
import numpy as np
import pytest
from conftest import jpeg, write_lmdb
from PIL import Image

from core.data.key_layout import COUNT_KEY
from core.data.lmdb_folder import find_roots, fingerprint, open_lmdb, root_irregularity
from core.data.word_images import WordImages
from core.runtime.errors import UserError

SIZE = (32, 128)


@pytest.mark.parametrize(("declared", "expected"), [(2, 2), (5, 5), (None, 3)])
def test_a_wrong_count_is_reported_and_does_not_stop_reading(
    tmp_path: Path, declared: int | None, expected: int
) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(1), "a"), (jpeg(2), "b"), (jpeg(3), "c")], declared)
    if declared is None:
        with lmdb.open(root) as environment, environment.begin(write=True) as transaction:
            transaction.delete(COUNT_KEY)
    images = WordImages([root])
    labels = ["a", "b", "c", None, None][:expected]
    assert len(images) == expected
    assert "num-samples" in root_irregularity(root)
    assert [images.label(index) for index in range(expected)] == labels
    assert list(images.labels()) == labels


def test_a_regular_root_has_no_irregularity(tmp_path: Path) -> None:
    labeled = write_lmdb(tmp_path / "a", [(jpeg(1), "a"), (jpeg(2), "b")])
    unlabeled = write_lmdb(tmp_path / "b", [(jpeg(1), None), (jpeg(2), None)])
    partly_labeled = write_lmdb(tmp_path / "c", [(jpeg(1), "a"), (jpeg(2), None)])
    assert root_irregularity(labeled) == ""
    assert root_irregularity(unlabeled) == ""
    assert "3 keys besides num-samples" in root_irregularity(partly_labeled)


def test_a_truncated_data_file_is_refused_before_it_kills_the_process(tmp_path: Path) -> None:
    root = write_lmdb(tmp_path / "a", [(jpeg(number), "a") for number in range(40)])
    with open(f"{root}/data.mdb", "r+b") as file:
        file.truncate(8192)
    with pytest.raises(UserError, match="cut short"):
        WordImages([root])


@pytest.mark.parametrize("page", range(2, 12))
def test_a_damaged_page_loses_its_images_or_is_a_user_error(page: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 120, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG", quality=95)
    root = write_lmdb(tmp_path / "a", [(stream.getvalue(), f"w{number}") for number in range(60)])
    with open(f"{root}/data.mdb", "r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 4096)
    message = ""
    try:
        images = WordImages([root])
        assert len(list(images.labels())) == 60
        assert sum(images.image(index, SIZE) is not None for index in range(60)) >= 50
        fingerprint(root)
        root_irregularity(root)
    except UserError as error:
        message = str(error)
    assert not message or "damaged" in message


def test_nested_roots_are_found_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("all/b/deep", "all/a", "all/c"):
        write_lmdb(tmp_path / name, [(jpeg(1), "x")])
    roots = find_roots(str(tmp_path / "all"))
    names = [Path(root).relative_to(tmp_path).as_posix() for root in roots]
    assert names == ["all/a", "all/b/deep", "all/c"]
    assert find_roots(roots[0]) == [roots[0]]
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"data\.mdb is missing"):
        find_roots(str(tmp_path / "bare"))
    with pytest.raises(UserError, match="no such folder"):
        find_roots(str(tmp_path / "nowhere"))


def test_an_empty_or_missing_data_set_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.mdb is missing"):
        WordImages([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="the data set is empty"):
        WordImages([write_lmdb(tmp_path / "empty", [])])
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="not a readable LMDB"):
        WordImages([str(tmp_path / "garbage")])


def test_the_fingerprint_depends_on_the_content_and_not_on_the_folder(tmp_path: Path) -> None:
    samples = [(jpeg(1), "a"), (jpeg(2), "b")]
    relabeled = [(jpeg(1), "a"), (jpeg(2), "B")]
    first = fingerprint(write_lmdb(tmp_path / "x", [*samples]))
    second = fingerprint(write_lmdb(tmp_path / "y", [*samples]))
    other = fingerprint(write_lmdb(tmp_path / "z", [*relabeled]))
    assert first == second
    assert first[0] != other[0]


def test_all_names_of_a_folder_share_one_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB forbids two environments of a folder in one process."""
    root = write_lmdb(tmp_path / "a" / "words", [(jpeg(1), "a")])
    (tmp_path / "link").symlink_to(root)
    environment = open_lmdb(root)
    assert open_lmdb(str(tmp_path / "link")) is environment
    monkeypatch.chdir(tmp_path / "a")
    assert open_lmdb("words") is environment


def test_a_relative_name_is_that_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_lmdb(tmp_path / name / "words", [(jpeg(1), name)])
    monkeypatch.chdir(tmp_path / "a")
    images = WordImages(["words"])
    monkeypatch.chdir(tmp_path / "b")
    assert WordImages(["words"]).label(0) == "b"
    assert images.label(0) == "a"
