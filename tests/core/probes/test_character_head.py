"""The character head: columns of characters, held-out words, real boxes."""

from pathlib import Path

import pytest
import torch
from conftest import jpeg, write_lmdb
from probe_runs import ENCODER, probe_config, run_probe

from core.data.character_boxes import boxes_key, encode_boxes
from core.data.lmdb_folder import new_lmdb
from core.data.word_images import WordImages
from core.probes.character_head import character_features, held_out_words
from core.probes.words import PlacedText, training_words
from core.runtime.errors import UserError
from core.text.charset import Charset

ROWS, COLUMNS = ENCODER.grid


def _numbered_features() -> torch.Tensor:
    """(1, 1 + R * C, D): every value is the number of its column."""
    columns = torch.arange(COLUMNS).repeat(ROWS)
    patches = columns[:, None].expand(-1, ENCODER.width).float()
    return torch.cat([torch.full((1, ENCODER.width), -1.0), patches])[None]


@pytest.mark.parametrize(
    ("middle", "columns"),
    [(0.0, [0, 0, 1]), (0.124, [0, 0, 1]), (0.126, [0, 1, 2]), (0.5, [3, 4, 5]), (1.0, [6, 7, 0])],
)
def test_a_character_has_the_columns_around_its_middle(middle: float, columns: list[int]) -> None:
    features = character_features(_numbered_features(), [PlacedText("a", (middle,))], ENCODER, 1)
    parts = features.reshape(3, ROWS * ENCODER.width)  # beyond the image: zeros
    assert parts[:, 0].tolist() == columns
    assert bool((parts == parts[:, :1]).all())


def test_characters_of_several_words_keep_their_order() -> None:
    both = torch.cat([_numbered_features(), 100 + _numbered_features()])
    texts = [PlacedText("ab", (0.1, 0.9)), PlacedText("c", (0.5,))]
    features = character_features(both, texts, ENCODER, 0)
    assert features[:, 0].tolist() == [0, 7, 104]


def test_a_tenth_of_the_training_words_is_held_out_by_the_seed() -> None:
    numbers = list(range(100, 150))
    fitted, held_out = held_out_words(numbers, seed=0)
    assert len(held_out) == 5
    assert sorted(fitted + held_out) == numbers
    assert held_out_words(numbers, seed=0)[1] == held_out
    assert held_out_words(numbers, seed=1)[1] != held_out
    assert len(held_out_words(numbers[:2], seed=0)[1]) == 1


def _boxed(folder: Path, rows: list[tuple[str, str]]) -> str:
    """Words with boxes. rows: label and JSON of its boxes; "" for none."""
    root = write_lmdb(folder, [(jpeg(9 * number), label) for number, (label, _) in enumerate(rows)])
    with new_lmdb(folder) as environment, environment.begin(write=True) as transaction:
        for number, (_, boxes) in enumerate(rows, 1):
            if boxes:
                transaction.put(boxes_key(number), boxes.encode())
    return root


def test_characters_without_boxes_are_left_out_of_text_and_counts(tmp_path: Path) -> None:
    box = [0, 0, 10, 20]
    root = _boxed(
        tmp_path / "train",
        [
            ("A b", "[[0,0,10,20],null,[20,0,30,20]]"),
            ("$5", f"[null,{box}]"),
            ("no", "null"),
            ("so", ""),
            ("few", f"[{box}]"),
            ("odd", "damaged"),
        ],
    )
    words = training_words(WordImages([root]), probe_config(tmp_path, charset="ascii94"))
    assert {number: text.text for number, text in words.texts.items()} == {0: "Ab", 1: "5"}
    assert words.texts[0].middles == (0.1, 0.5)  # of a width of 50 pixels
    assert words.dropped["without_boxes"] == 4
    assert words.reference(1) == "5"


def test_a_word_with_a_symbol_counts_by_its_characters_with_boxes(
    tmp_path: Path, probe_words: Path
) -> None:
    rows = [("$5a", encode_boxes((None, (0, 0, 9, 9), (20, 0, 30, 9))).decode())]
    root = _boxed(tmp_path / "test", rows)
    config = probe_config(probe_words, subsets={"real": {"roots": [root]}})
    result = run_probe(config, None, tmp_path / "run")
    (word,) = result.words["real"]
    assert word.prediction.label == "5a"
    assert not word.prediction.scorable  # the charset has no digits
    assert word.prediction.nll is None
    assert word.characters == 2
    assert word.edits == 2


def test_words_with_symbols_are_trained_on_by_their_other_characters(tmp_path: Path) -> None:
    box = [0, 0, 9, 9]
    root = _boxed(tmp_path / "train", [("a.", f"[{box},null]"), ("b!", f"[{box},null]")])
    words = training_words(WordImages([root]), probe_config(tmp_path))
    assert [text.text for text in words.texts.values()] == ["a", "b"]
    with pytest.raises(UserError, match="unknown_characters 2"):
        training_words(WordImages([root]), probe_config(tmp_path, "ctc_linear"))


def test_labels_outside_the_charset_leave_no_training_words(tmp_path: Path) -> None:
    box = "[[0,0,9,9]]"
    root = _boxed(tmp_path / "train", [("1", box), ("2", box), ("3", box)])
    with pytest.raises(UserError, match="unknown_characters 3"):
        run_probe(probe_config(tmp_path, subsets={"a": {"roots": [root]}}), None, tmp_path)


def test_case_is_folded_as_the_charset_says(tmp_path: Path) -> None:
    root = _boxed(tmp_path / "train", [("A", "[[0,0,9,9]]"), ("b", "[[0,0,9,9]]")])
    for charset, expected in (("ab", ["a", "b"]), ("abA", ["A", "b"])):
        words = training_words(WordImages([root]), probe_config(tmp_path, charset=charset))
        assert [text.text for text in words.texts.values()] == expected
        assert Charset(charset).fold_case("A") == expected[0]
