"""The mean over the last checkpoints of fine-tuning."""

from pathlib import Path

import numpy as np
import pytest
from conftest import jpeg, write_lmdb
from finetune_config import WORDS, config
from plans import plan_of
from safetensors.torch import load_file

from analysis.tables.endpoint_records import Endpoint, EndpointRecords
from core.config import Evaluate
from core.data.word_images import WordImages
from core.runtime.artifacts import EARLIER_MODEL, MODEL
from core.runtime.errors import UserError
from core.training.evaluate import evaluate
from core.training.finetune import finetune
from core.training.last_checkpoints import last_steps
from core.training.run_context import RunContext
from results.store import Store

EVALUATE = {"subsets": {"words": {"roots": ["words"]}}, "precision": "fp32"}


@pytest.fixture
def words(tmp_path: Path) -> WordImages:
    samples: list[tuple[bytes | None, str | None]] = [
        (jpeg(8 * number), word) for number, word in enumerate(WORDS)
    ]
    return WordImages([write_lmdb(tmp_path / "words", samples)])


def test_checkpoints_are_spaced_before_the_last_step() -> None:
    assert last_steps(1, 1000) == {}
    assert last_steps(3, 1000) == {980: 1, 960: 2}
    assert last_steps(3, 10) == {9: 1, 8: 2}
    with pytest.raises(UserError, match=r"evaluate\.last"):
        last_steps(3, 2)


def test_fine_tuning_writes_the_weights_of_the_last_steps(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    finetune(config(last_checkpoints=3), words, None, None, tmp_path, context)
    files = [tmp_path / MODEL, *(tmp_path / EARLIER_MODEL.format(number) for number in (1, 2))]
    weights = [load_file(file)["classify.weight"] for file in files]
    assert not np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[1], weights[2])
    assert not (tmp_path / EARLIER_MODEL.format(3)).exists()


def test_an_endpoint_is_the_mean_over_the_evaluated_checkpoints(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    finetune(config(last_checkpoints=2), words, None, None, tmp_path, context)
    options = Evaluate.model_validate(EVALUATE | {"last": 2})
    result = evaluate(options, {"words": words}, tmp_path / MODEL, context)
    store = Store(tmp_path / "results")
    run = store.run("evaluate-1")
    likelihoods = []
    for number, predictions in enumerate((result.predictions, *result.earlier)):
        rows = predictions["words"]
        likelihoods.append([row.nll for row in rows])
        content = [(w.index, w.label, w.prediction, 1.0, int(w.scorable), w.nll) for w in rows]
        run.write_predictions((("words", *row) for row in content), number)
    run.write_json("record.json", {"config": {"protocol": "waics"}})
    run.set_state("complete")
    records = EndpointRecords(Endpoint("fine-tuned", "nll"), {"a": {0: ["evaluate-1"]}}, store)
    (measured,) = records.values("a", "words", [0])[0]
    mean_length = np.mean([len(word) for word in WORDS])
    expected = np.array(likelihoods, float).mean(0) / mean_length
    np.testing.assert_allclose(measured, expected, rtol=1e-6)


def test_a_recognizer_without_earlier_checkpoints_is_refused(
    words: WordImages, tmp_path: Path, context: RunContext
) -> None:
    finetune(config(), words, None, None, tmp_path, context)
    options = Evaluate.model_validate(EVALUATE | {"last": 2})
    with pytest.raises(UserError, match=r"model-1\.safetensors"):
        evaluate(options, {"words": words}, tmp_path / MODEL, context)


def test_evaluate_last_sets_what_fine_tuning_writes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, overrides={"evaluate.last": 4})
    written = {
        getattr(run.config, "last_checkpoints", 0)
        for run in plan.runs.values()
        if run.stage == "finetune"
    }
    assert written == {4}
