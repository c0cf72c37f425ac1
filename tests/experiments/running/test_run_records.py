"""An experiment's table and records; the same command again changes nothing."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import REPOSITORY, run_command
from whole_runs import run_experiment, run_py, runs_by_stage

pytestmark = pytest.mark.slow

Finished = tuple[Path, subprocess.CompletedProcess[str]]


def record_of(run: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((Path(run["folder"]) / "record.json").read_text())
    return record


def test_an_experiment_prints_and_writes_its_table(finished: Finished, experiment: Path) -> None:
    results, output = finished
    assert re.search(r"\| LMIM +\| reported +\| 85\.0", output.stdout)
    assert (results / "tables" / "one_row.smoke.md").read_text() in output.stdout
    states = {run["state"] for run in runs_by_stage(experiment, results).values()}
    assert states == {"complete"}


def test_a_record_of_an_evaluation_has_inputs_counts_and_provenance(
    finished: Finished, experiment: Path
) -> None:
    runs = runs_by_stage(experiment, finished[0])
    record = record_of(runs["evaluate"])
    assert record["inputs"] == {"recognizer": runs["finetune"]["id"]}
    assert set(record["metrics"]["counts"]) == set(record["data"])
    assert sum(count["images"] for count in record["metrics"]["counts"].values()) == 7 * 16
    assert all(root["fingerprint"] for roots in record["data"].values() for root in roots)
    assert record["code"].keys() == {"commit", "clean"}
    assert record["versions"]["torch"].startswith("2.")
    assert record["hardware"]["cores"] >= 1
    rows = (Path(runs["evaluate"]["folder"]) / "predictions.csv").read_text().splitlines()
    assert rows[0] == "subset,index,label,prediction,confidence,readable,nll"
    assert len(rows) == 1 + 7 * 16


def test_a_record_of_a_training_has_its_teacher_seed_and_cost(
    finished: Finished, experiment: Path
) -> None:
    runs = runs_by_stage(experiment, finished[0])
    record = record_of(runs["pretrain"])
    assert record["inputs"] == {"teacher": runs["teacher"]["id"]}
    assert record["config"]["seed"] == record["seed"] == 0
    assert record["metrics"]["images_seen"] == 1024
    assert record["metrics"]["train_seconds"] > 0


def test_the_same_command_again_trains_nothing(finished: Finished, experiment: Path) -> None:
    results, first = finished
    before = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/*")}
    again = run_experiment(experiment, results)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/*/*")} == before


def test_a_scale_with_real_images_is_planned(shared: Path, tmp_path: Path) -> None:
    file = REPOSITORY / "experiments" / "ablation_alignment.yaml"
    output = run_command(run_py("plan", file, tmp_path, "--json", scale="real_smoke"))
    runs = json.loads(output.stdout)["runs"]
    assert {run["images"] for run in runs if run["stage"] == "evaluate"} == {
        5724
    }  # IIIT5K, SVT and IC15
    assert not any(run["missing"] for run in runs)
