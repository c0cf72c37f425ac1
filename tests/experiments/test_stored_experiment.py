"""A stored run as an experiment file: planned, the file gives the same run."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import call

from core.runtime.errors import UserError
from experiments.planning.planner import make_plan
from experiments.planning.stored_experiment import stored_experiment
from results.provenance import REPOSITORY
from results.store import Store

PUBLISHED = REPOSITORY / "results/published"
RUNS = {  # published run -> what is special about it
    "mini/pretrain-09242ddee6be": "another mask",
    "mini/finetune-0b1d197e5902": "label subset, CTC",
    "mini/evaluate-01a6772a3850": "another decoder",
    "mini/probe-0454e8fd41fc": "probe of the scale",
    "early_start/finetune-78f4d2f9bbbf": "untrained encoder",
    "former_mini/finetune-7ad9d8181782": "a teacher with its own epochs; former spelling",
    "scaling/pretrain-ef528a012abd": "plain MIM",
    "scaling/probe-b443a41673ba": "probe of an untrained encoder",
}


def planned_ids(file: Path, results: Path) -> set[str]:
    plan = make_plan(
        [file], None, Store(results), precision=lambda: "fp32", overrides={}, seeds=None
    )
    return set(plan.runs)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_the_printed_file_plans_the_same_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = name.split("/")
    code, text, err = call(capsys, "show", run, "--results", PUBLISHED / folder)
    assert (code, err) == (0, "")
    file = tmp_path / "shown.yaml"
    file.write_text(text)
    assert run in planned_ids(file, tmp_path / "results")
    assert max(map(len, text.splitlines())) <= 100


def test_the_file_names_only_what_differs_from_the_scale() -> None:
    found = stored_experiment(Store(PUBLISHED / "mini"), "pretrain-09242ddee6be")
    assert found.scale == "mini"
    row = found.tree["variants"][0]
    assert row["set"] == {"pretrain.mask": {"kind": "block", "ratio": 0.6}}


def test_absent_inputs_are_named(tmp_path: Path) -> None:
    run = "evaluate-01a6772a3850"
    shutil.copytree(PUBLISHED / "mini/runs" / run, tmp_path / "runs" / run)
    with pytest.raises(UserError, match="recognizer finetune-"):
        stored_experiment(Store(tmp_path), run)


@pytest.mark.parametrize("name", ["pretrain-000000000000", "../runs", "", "."])
def test_an_unknown_run_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match="name a run by its id"):
        stored_experiment(Store(PUBLISHED / "mini"), name)


def test_other_rendered_words_are_named_as_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their settings are in no record: --set synthetic.train, for example, has been given."""
    run = "finetune-78f4d2f9bbbf"
    shutil.copytree(PUBLISHED / "early_start/runs" / run, tmp_path / "runs" / run)
    path = tmp_path / "runs" / run / "record.json"
    record = json.loads(path.read_text())
    record["data"]["train"][0]["fingerprint"] = "0123456789abcdef/train"
    path.write_text(json.dumps(record))
    other = "finetune-000000000000"  # the id of a run with such data
    (tmp_path / "runs" / run).rename(tmp_path / "runs" / other)
    code, text, err = call(capsys, "show", other, "--results", tmp_path)
    assert code == 1
    assert text.startswith(f"# {other}")
    assert "0123456789abcdef/train" in err
