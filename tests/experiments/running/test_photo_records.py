"""An evaluation stores the photos of its words where the test set names them."""

import json
from pathlib import Path

import pytest
from conftest import jpeg, write_lmdb
from photos import name_photos
from whole_runs import run_experiment

from core.data.word_images import WordImages

WORDS = [(jpeg(3 * index), f"Word{index % 7}!") for index in range(40)]
PHOTOS = [f"photo {index // 4}" if index < 16 else "" for index in range(20)]


def _with_photos(folder: Path, photos: list[str]) -> str:
    """An LMDB folder of words that name their photos."""
    return name_photos(write_lmdb(folder, [*WORDS[: len(photos)]]), photos)


def test_photos_of_several_roots_are_told_apart(tmp_path: Path) -> None:
    roots = [_with_photos(tmp_path / name, ["a", "", "b"]) for name in ("first", "second")]
    one = WordImages(roots[:1])
    two = WordImages(roots)
    assert [one.photo(index) for index in range(3)] == ["a", "", "b"]
    assert [two.photo(index) for index in range(6)] == ["0/a", "", "0/b", "1/a", "", "1/b"]


def test_words_without_photos_have_no_name(tmp_path: Path) -> None:
    images = WordImages([write_lmdb(tmp_path / "root", [*WORDS[:2]])])
    assert [images.photo(index) for index in range(2)] == ["", ""]


@pytest.mark.slow
def test_an_evaluation_stores_photos_and_its_table_takes_them_as_clusters(
    experiment: Path, tmp_path: Path
) -> None:
    train = json.dumps([write_lmdb(tmp_path / "train", [*WORDS])])
    subsets = {
        "mine": {"roots": [_with_photos(tmp_path / "mine", PHOTOS)]},
        "plain": {"roots": [write_lmdb(tmp_path / "plain", [*WORDS[:5]])]},
    }
    settings = {
        "pretrain.data.roots": train,
        "finetune.data.roots": train,
        "finetune.validation": "null",
        "evaluate.subsets": json.dumps(subsets),
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    output = run_experiment(experiment, tmp_path / "results", *options)
    assert output.returncode == 0, output.stderr
    assert "clusters are photographs: mine 20 words of 8 photographs." in output.stdout
    (path,) = (tmp_path / "results").glob("runs/evaluate-*/photos.json")
    stored = json.loads(path.read_text())
    assert stored.keys() == {"mine"}
    names = [stored["mine"]["photos"][number] for number in stored["mine"]["of_words"]]
    assert names == PHOTOS
