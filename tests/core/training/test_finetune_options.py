"""Options of fine-tuning: label subsets, frozen blocks, the auxiliary CTC loss."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import jpeg, write_lmdb
from finetune_config import WORDS, config
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.nn import functional

from core.config import LabelSubset, identity_fields
from core.data.word_images import WordImages
from core.model.ctc import CTCHead, JointRecognizer, ctc_negative_log_likelihood
from core.runtime.artifacts import METRICS, MODEL
from core.training.evaluate import load_recognizer, recognize
from core.training.finetune import finetune, make_model, unusable_labels
from core.training.label_subset import labeled_subset
from core.training.run_context import Interrupted, RunContext

LENGTHS = {number: 3 + number % 5 for number in range(1000)}


@pytest.fixture
def words(tmp_path: Path) -> WordImages:
    root = tmp_path / "words"
    write_lmdb(root, [(jpeg(8 * number), word) for number, word in enumerate(WORDS)])
    return WordImages([str(root)])


def test_a_smaller_label_subset_is_contained_in_a_larger_one() -> None:
    subsets = [set(labeled_subset(LENGTHS, LabelSubset(count=n), 0)) for n in (10, 100, 500, 1000)]
    assert [len(subset) for subset in subsets] == [10, 100, 500, 1000]
    assert all(smaller < larger for smaller, larger in pairwise(subsets))


def test_a_label_subset_has_the_lengths_of_all_words_in_proportion() -> None:
    chosen = labeled_subset(LENGTHS, LabelSubset(share=0.1), 3)
    counts = [sum(LENGTHS[number] == length for number in chosen) for length in range(3, 8)]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == 100


def test_a_label_subset_depends_on_the_seed_alone() -> None:
    drawn = [labeled_subset(LENGTHS, LabelSubset(count=50), seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_words_outside_the_label_subset_are_not_trained_on(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    few = config(labels={"count": 8})
    unusable, dropped = unusable_labels(words, few)
    assert (len(unusable), dropped.over_long) == (len(WORDS) - 8, 0)
    result = finetune(few, words, None, None, tmp_path, context)
    assert result.metrics.images_seen == 8


@pytest.mark.parametrize(
    "labels", [{}, {"count": 0}, {"share": 0.0}, {"share": 1.5}, {"count": 3, "share": 0.5}, "some"]
)
def test_a_label_subset_has_exactly_one_size(labels: object) -> None:
    with pytest.raises(ValidationError):
        config(labels=labels)


def test_options_at_their_defaults_do_not_change_a_run_id() -> None:
    fields = identity_fields(config())
    assert not {"labels", "frozen_blocks", "ctc_weight", "validate_every"} & fields.keys()
    assert identity_fields(config(labels={"share": 0.5}))["labels"] == {"share": 0.5}


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_blocks_keep_their_weights_and_the_others_change(
    frozen: int, words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    options = config(frozen_blocks=frozen)
    before = {name: value.clone() for name, value in make_model(options, None).named_parameters()}
    finetune(options, words, None, None, tmp_path, context)
    after = load_file(tmp_path / MODEL)
    assert before.keys() <= after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert ("encoder.patch_embed.weight" in changed) == (frozen == 0)
    for block in range(2):
        in_block = any(name.startswith(f"encoder.blocks.{block}.") for name in changed)
        assert in_block == (block >= frozen)
    assert ("encoder.norm.weight" in changed) == (frozen < 2)
    assert any(name.startswith("layers.") for name in changed)


def test_validations_between_epochs_are_logged_and_change_no_weight(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    written = {}
    for every, logged in ((None, [4]), (3, [3, 4])):
        folder = tmp_path / str(every)
        finetune(config(validate_every=every), words, words, None, folder, context)
        entries = map(json.loads, (folder / METRICS).read_text().splitlines())
        steps = [entry["step"] + 1 for entry in entries if "validation_correct" in entry]
        assert steps == logged
        written[every] = load_file(folder / MODEL)
    assert all(torch.equal(written[None][name], written[3][name]) for name in written[3])


def test_more_frozen_blocks_than_the_encoder_has_are_refused() -> None:
    with pytest.raises(ValidationError, match="frozen_blocks 3"):
        config(frozen_blocks=3)


def test_the_ctc_head_changes_neither_initial_weights_nor_the_written_model(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    joint = make_model(config(ctc_weight=0.5), None)
    plain = make_model(config(), None)
    assert isinstance(joint, JointRecognizer)
    weights = dict(joint.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in plain.named_parameters())
    finetune(config(ctc_weight=0.5), words, None, None, tmp_path, context)
    assert not any(name.startswith("ctc") for name in load_file(tmp_path / MODEL))
    load_recognizer(tmp_path / MODEL, context.device)


def test_ctc_loss_reaches_the_encoder(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    trained = []
    for weight in (0.0, 1.0):
        folder = tmp_path / str(weight)
        folder.mkdir()
        finetune(config(ctc_weight=weight), words, None, None, folder, context)
        trained.append(load_file(folder / MODEL)["encoder.patch_embed.weight"])
    assert not torch.equal(*trained)


def test_a_resumed_run_with_ctc_equals_an_uninterrupted_run(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    options = config(ctc_weight=0.5, frozen_blocks=1)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    finetune(options, words, None, None, tmp_path / "whole", context)
    answers = iter([False, True])
    interrupted = replace(context, should_stop=lambda: next(answers))
    with pytest.raises(Interrupted):
        finetune(options, words, None, None, tmp_path / "cut", interrupted)
    finetune(options, words, None, None, tmp_path / "cut", context)
    whole, cut = (load_file(tmp_path / name / MODEL) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_ctc_likelihood_of_a_certain_alignment_is_one() -> None:
    logits = torch.full((1, 3, 4), -20.0)
    for frame, label in enumerate((1, 3, 2)):  # the blank is class 3
        logits[0, frame, label] = 20.0
    nll = ctc_negative_log_likelihood(logits, torch.tensor([[1, 2]]), torch.tensor([2]))
    assert nll.item() == pytest.approx(0, abs=1e-6)
    head = CTCHead(config().encoder, 5)
    assert head(torch.zeros(2, 1 + 8, 16)).shape == (2, 8, 6)  # 2 frames for each of 4 columns


def test_evaluation_gives_the_likelihood_of_teacher_forcing(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    options = config()
    finetune(options, words, None, None, tmp_path, context)
    model = load_recognizer(tmp_path / MODEL, context.device).eval()
    predictions, _ = recognize(model, words, 5, "fp32", context, "words")
    assert all(prediction.nll is not None for prediction in predictions)
    images = torch.stack(
        [image for n in range(4) if (image := words.image(n, (16, 32))) is not None]
    )
    tokens, lengths = model.charset.encode(WORDS[:4], 8)
    with torch.no_grad():
        logits = model((images.float() / 127.5) - 1, tokens, lengths)
    for row, prediction in enumerate(predictions[:4]):
        count = int(lengths[row])
        expected = functional.cross_entropy(
            logits[row, :count], tokens[row, :count], reduction="sum"
        )
        assert prediction.nll == pytest.approx(expected.item(), rel=1e-4)
