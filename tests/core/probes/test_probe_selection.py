"""The words that the head of a probe is trained on, where `images` limits their number."""

from pathlib import Path

import pytest
from conftest import jpeg, write_lmdb
from probe_runs import HEADS, probe_config

from core.config import LabelSubset
from core.data.character_boxes import boxes_key, encode_boxes
from core.data.lmdb_folder import new_lmdb
from core.data.word_images import WordImages
from core.probes.words import training_words
from core.training.label_subset import labeled_subset

# A root that is sorted by length: 40 words of 3 letters, then 40 of 5, then 20 of 8.
LENGTHS = [3] * 40 + [5] * 40 + [8] * 20
WITHOUT_BOXES = range(0, 100, 2)


@pytest.fixture(scope="module")
def sorted_words(tmp_path_factory: pytest.TempPathFactory) -> WordImages:
    """The words of `LENGTHS`; every second one has boxes."""
    folder = tmp_path_factory.mktemp("words") / "sorted"
    root = write_lmdb(folder, [(jpeg(number), "a" * n) for number, n in enumerate(LENGTHS)])
    with new_lmdb(folder) as environment, environment.begin(write=True) as transaction:
        for number, length in enumerate(LENGTHS):
            if number not in WITHOUT_BOXES:
                boxes = encode_boxes(((0, 0, 9, 9),) * length)
                transaction.put(boxes_key(number + 1), boxes)
    return WordImages([root])


def _chosen(images: WordImages, head: str, count: int, seed: int = 0) -> list[int]:
    config = probe_config(Path("unused"), head, images=count, seed=seed)
    return training_words(images, config).numbers


@pytest.mark.parametrize("head", sorted(HEADS.keys() - {"characters"}))
def test_a_head_on_labels_is_trained_on_the_label_subset(
    sorted_words: WordImages, head: str
) -> None:
    expected = labeled_subset(dict(enumerate(LENGTHS)), LabelSubset(count=20), 0)
    assert _chosen(sorted_words, head, 20) == expected


@pytest.mark.parametrize("head", ["characters", "ctc_linear"])
def test_chosen_words_are_of_all_lengths_and_not_the_first_ones(
    sorted_words: WordImages, head: str
) -> None:
    chosen = _chosen(sorted_words, head, 25)
    assert len(chosen) == 25
    assert chosen == sorted(chosen)
    assert {LENGTHS[number] for number in chosen} == {3, 5, 8}


def test_chosen_words_depend_on_the_seed_alone(sorted_words: WordImages) -> None:
    chosen = [_chosen(sorted_words, "characters", 20, seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_fewer_words_are_among_more(sorted_words: WordImages) -> None:
    assert set(_chosen(sorted_words, "characters", 10)) < set(
        _chosen(sorted_words, "characters", 30)
    )


def test_words_without_boxes_make_room_for_words_with_boxes(sorted_words: WordImages) -> None:
    for count, expected in ((40, 40), (1000, 50)):
        chosen = _chosen(sorted_words, "characters", count)
        assert len(chosen) == expected
        assert not set(chosen) & set(WITHOUT_BOXES)


def test_all_words_are_used_if_no_number_is_given(sorted_words: WordImages) -> None:
    words = training_words(sorted_words, probe_config(Path("unused")))
    assert words.numbers == [n for n in range(100) if n not in WITHOUT_BOXES]
    assert words.dropped["without_boxes"] == len(WITHOUT_BOXES)
