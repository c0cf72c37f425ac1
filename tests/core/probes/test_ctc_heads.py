"""CTC heads on frozen features: learning, decoding, likelihoods."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from probe_runs import ENCODER, probe_config
from torch.nn import functional

from core.config import BiLSTMCTCHead, LinearCTCHead
from core.data.word_images import WordImages
from core.model.ctc import collapse
from core.probes.ctc_heads import (
    ColumnClassifier,
    needed_frames,
    plain_text,
    train_ctc,
)
from core.probes.features import FeatureBatch
from core.probes.heads import HeadTraining, shuffled_batches
from core.probes.words import SelectedWords
from core.runtime.errors import UserError
from core.text.charset import Charset
from core.training.run_context import RunContext

LETTERS = "abcde"


class LetterColumns:
    """Features whose columns show the letters of a word, each on one column of 8."""

    def __init__(self, images: WordImages, labels: list[str]) -> None:
        numbers = list(range(len(labels)))
        self.words = SelectedWords(images, numbers, dict(enumerate(labels)), {}, {})
        self.unreadable = 0

    def batches(self, order: Iterable[list[int]]) -> Iterator[FeatureBatch]:
        for numbers in order:
            labels = [self.words.labels[number] for number in numbers]
            rows, columns = ENCODER.grid
            features = torch.zeros(len(numbers), rows, columns, ENCODER.width)
            for row, label in enumerate(labels):
                for position, letter in enumerate(label):
                    features[row, :, 1 + position, LETTERS.index(letter)] = 3.0
            cls = torch.zeros(len(numbers), 1, ENCODER.width)
            yield FeatureBatch(torch.cat([cls, features.flatten(1, 2)], 1), numbers, labels)


def _words(count: int) -> list[str]:
    source = torch.Generator().manual_seed(0)
    numbers = torch.randint(0, len(LETTERS), (count, 4), generator=source).tolist()
    return ["".join(LETTERS[number] for number in row) for row in numbers]


@pytest.mark.parametrize(
    "head",
    [
        LinearCTCHead(kind="ctc_linear", lr=0.03, batch=32, epochs=12),
        BiLSTMCTCHead(kind="ctc_bilstm", lr=0.02, batch=32, epochs=12, hidden=16),
    ],
    ids=["linear", "bilstm"],
)
def test_a_head_learns_words_whose_columns_show_their_letters(
    head: LinearCTCHead | BiLSTMCTCHead, probe_words: Path, context: RunContext
) -> None:
    config = probe_config(probe_words, charset=LETTERS)
    features = LetterColumns(WordImages(config.data.roots), _words(400))
    trained = train_ctc(HeadTraining(config, features, context), head)
    (batch,) = list(features.batches([list(range(100))]))
    predicted = trained.predict(batch, features.words)
    assert sum(word.text == word.label for word in predicted) > 90
    assert trained.summary["steps"] == 144
    likely = [word.nll for word in predicted if word.nll is not None]
    assert sum(likely) / len(likely) < 2


def test_the_likelihood_equals_that_of_torch(probe_words: Path, context: RunContext) -> None:
    config = probe_config(probe_words, charset=LETTERS)
    labels = ["abca", "bb", "Ed e", "aé"]
    features = LetterColumns(WordImages(config.data.roots), _words(32))
    head = LinearCTCHead(kind="ctc_linear", batch=32, epochs=1)
    trained = train_ctc(HeadTraining(config, features, context), head)
    (batch,) = list(features.batches([[0, 1, 2, 3]]))
    words = trained.predict(batch._replace(labels=labels), features.words)
    logits = trained.model(batch.features).detach().log_softmax(-1).transpose(0, 1)
    texts = ["abca", "bb", "ede"]
    targets = torch.tensor([LETTERS.index(letter) for letter in "".join(texts)])
    lengths = torch.tensor([len(text) for text in texts])
    expected = functional.ctc_loss(
        logits[:, :3], targets, torch.full((3,), len(logits)), lengths, len(LETTERS), "none"
    )
    values = [word.nll for word in words]
    assert values[:3] == pytest.approx(expected.tolist(), abs=1e-4)
    assert values[3] is None
    assert [word.nll_symbols for word in words[:3]] == [4, 2, 3]


def test_a_label_with_more_frames_than_the_image_has_no_likelihood_and_is_not_trained_on(
    probe_words: Path, context: RunContext
) -> None:
    config = probe_config(probe_words, charset=LETTERS)
    head = LinearCTCHead(kind="ctc_linear", batch=4, epochs=1, outputs_per_column=1)
    features = LetterColumns(WordImages(config.data.roots), ["abcd", "aaaa", "abab"])
    trained = train_ctc(HeadTraining(config, features, context), head)
    assert trained.summary["labels_without_alignment"] == 0
    (batch,) = list(features.batches([[0, 1, 2]]))
    batch.labels[0] = "aaaaaaaa"  # 8 columns, but 15 frames are needed
    assert trained.predict(batch, features.words)[0].nll is None
    features.words.labels.update({0: "aaaaaaaa", 1: "bbbbbbbb"})
    trained = train_ctc(HeadTraining(config, features, context), head)
    assert trained.summary["labels_without_alignment"] == 2
    features.words.labels[2] = "cccccccc"
    with pytest.raises(UserError, match="outputs_per_column"):
        train_ctc(HeadTraining(config, features, context), head)


def test_each_column_gives_its_outputs_as_neighboring_frames() -> None:
    head = BiLSTMCTCHead(kind="ctc_bilstm", hidden=4, outputs_per_column=3)
    logits = ColumnClassifier(head, ENCODER, 6)(torch.randn(2, 1 + ENCODER.patches, 16))
    assert logits.shape == (2, 3 * ENCODER.grid[1], 6)


@pytest.mark.parametrize(
    ("path", "classes"),
    [([], []), ([2, 2], []), ([0, 0, 1], [0, 1]), ([0, 2, 0], [0, 0]), ([2, 1, 1, 2, 1], [1, 1])],
)
def test_a_path_loses_its_repetitions_and_blanks(path: list[int], classes: list[int]) -> None:
    assert collapse(path, blank=2) == classes


def test_equal_neighbors_need_a_blank_between_them() -> None:
    assert [needed_frames(text) for text in ("", "abc", "aab", "aaa")] == [0, 3, 4, 5]


def test_ctc_texts_have_no_white_space_and_the_case_of_the_charset() -> None:
    assert plain_text("Ab c\u3000D", Charset("abcd")) == "abcd"
    assert plain_text("Ab", Charset("abAB")) == "Ab"


def test_the_order_of_batches_shows_every_word_once_an_epoch() -> None:
    numbers = [3, 5, 8, 13, 21, 34]
    batches = list(shuffled_batches(numbers, 3, 4, seed=1))
    assert sorted(batches[0] + batches[1]) == numbers
    assert sorted(batches[2] + batches[3]) == numbers
    assert batches[0] + batches[1] != batches[2] + batches[3]
    assert batches == list(shuffled_batches(numbers, 3, 4, seed=1))
    assert [len(batch) for batch in shuffled_batches(numbers, 64, 2, seed=1)] == [6, 6]
