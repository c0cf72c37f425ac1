"""Runs and commands that need the weights of a run of which only the record is here."""

from pathlib import Path

import pytest
from conftest import call
from finetune_config import config
from PIL import Image

from core.runtime.errors import UserError
from core.training.run_context import RunContext
from experiments.planning.plan import TRAIN, PlannedRun
from experiments.running.run_stage import run_stage
from results.provenance import REPOSITORY
from results.store import Store

MINI = REPOSITORY / "results/published/mini"


def test_a_run_whose_encoder_has_no_weights_names_it_and_what_to_do(
    tmp_path: Path, context: RunContext
) -> None:
    store = Store(tmp_path)
    store.run("pretrain-1").folder.mkdir(parents=True)
    store.run("pretrain-1").write_json("record.json", {})
    run = PlannedRun("finetune-1", "finetune", config(), {"encoder": "pretrain-1"}, {TRAIN: ()})
    with pytest.raises(UserError, match=r"pretrain-1 .*no weights.*unbundle"):
        run_stage(run, store, store.run("finetune-1").folder, context)


def test_predictions_by_a_published_evaluation_name_the_absent_recognizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = min((MINI / "runs").glob("evaluate-*"))
    recognizer = Store(MINI).run(evaluation.name).record()["inputs"]["recognizer"]
    Image.new("RGB", (60, 20)).save(tmp_path / "a.png")
    options = ("--model", evaluation.name, "--results", MINI)
    code, out, err = call(capsys, "predict", tmp_path / "a.png", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {recognizer} ")
    assert "unbundle" in err
