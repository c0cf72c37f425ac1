"""The recognizer without decoder: columns, decoding, likelihood, training, evaluation."""

from pathlib import Path

import pytest
import torch
from conftest import jpeg, write_lmdb
from finetune_config import config
from pydantic import ValidationError

from core.config import Evaluate
from core.data.word_images import WordImages
from core.model.cost import recognizer_cost
from core.model.ctc import CTCRecognizer, column_features, make_recognizer
from core.runtime.artifacts import MODEL
from core.runtime.errors import UserError
from core.training.evaluate import evaluate, recognize_features
from core.training.finetune import finetune
from core.training.predict import predict
from core.training.run_context import RunContext

CTC = {"decoder": None, "charset": "abc"}


def make_model() -> CTCRecognizer:
    model = make_recognizer(config(**CTC))
    assert isinstance(model, CTCRecognizer)
    return model.eval()


def set_path(model: CTCRecognizer, path: list[int]) -> None:
    """Let the head predict this path of classes for every image."""

    def logits(features: torch.Tensor) -> torch.Tensor:
        frames = torch.nn.functional.one_hot(torch.tensor(path), model.head.classes)
        return 50.0 * frames.float().expand(len(features), -1, -1)

    model.head.forward = logits  # type: ignore[method-assign]


def test_a_column_has_the_features_of_its_patches_from_top_to_bottom() -> None:
    encoder = config().encoder  # 2 rows, 4 columns
    features = torch.arange(9.0)[None, :, None].expand(1, 9, 16)
    columns = column_features(features, encoder)
    assert columns.shape == (1, 4, 32)
    assert columns[0, :, 0].tolist() == [1, 2, 3, 4]
    assert columns[0, :, 16].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([0, 0, 6, 0, 1], "aab"),
        ([6, 6, 6, 6, 6], ""),
        ([2, 6, 2, 2, 6], "cc"),
        ([0, 1, 2, 1, 0], "abcba"),
    ],
)
def test_greedy_decoding_merges_repetitions_and_removes_blanks(path: list[int], text: str) -> None:
    model = make_model()
    blank = model.head.classes - 1
    assert blank == 6  # three characters, EOS, PADDING, UNKNOWN, then the blank
    set_path(model, path)
    (recognized,) = recognize_features(model, torch.zeros(1, 9, 16), 1)
    assert recognized.text == text
    assert recognized.confidence == pytest.approx(1)


def test_the_likelihood_adds_up_all_alignments(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(model.head, "forward", lambda features: torch.zeros(len(features), 2, 7))
    tokens, lengths = model.charset.encode(["a"], 8)
    nll = model.negative_log_likelihood(torch.zeros(1, 9, 16), tokens, lengths)
    assert nll.item() == pytest.approx(-torch.log(torch.tensor(3 / 49)).item())  # a-, -a, aa


def test_a_recognizer_without_decoder_learns_is_evaluated_and_predicts(
    tmp_path: Path, context: RunContext
) -> None:
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(250 * (n % 2)), "ab" if n % 2 else "cb") for n in range(32)
    ]
    words = WordImages([write_lmdb(tmp_path / "words", samples)])
    optimizer = {"base_lr": 0.05, "batch": 8, "epochs": 60, "warmup_epochs": 1}
    options = config(**CTC, optimizer=optimizer)
    result = finetune(options, words, words, None, tmp_path, context)
    assert result.metrics.validation is not None
    assert result.metrics.validation.correct == 32
    stage = Evaluate.model_validate(
        {"subsets": {"words": {"roots": ["words"]}}, "precision": "fp32"}
    )
    evaluation = evaluate(stage, {"words": words}, tmp_path / MODEL, context)
    rows = evaluation.predictions["words"]
    assert evaluation.metrics.counts["words"].correct == 32
    assert all(row.nll is not None and row.nll < 1 for row in rows)
    image = tmp_path / "image.jpg"
    image.write_bytes(jpeg(250))
    assert [row.text for row in predict(tmp_path / MODEL, [image], context.device)] == ["ab"]
    beams = stage.model_copy(update={"beams": 5})
    with pytest.raises(UserError, match=r"evaluate\.beams"):
        evaluate(beams, {"words": words}, tmp_path / MODEL, context)


def test_the_cost_counts_the_models_parameters() -> None:
    parameters = sum(parameter.numel() for parameter in make_model().parameters())
    assert recognizer_cost(config(**CTC)).parameters == parameters


def test_ctc_weight_needs_a_decoder() -> None:
    with pytest.raises(ValidationError, match="ctc_weight"):
        config(**CTC, ctc_weight=0.5)
