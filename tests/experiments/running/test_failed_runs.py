"""Runs that fail keep their reason, and the runs that do not need them are computed."""

import subprocess
from pathlib import Path

import pytest
from commands import run_command
from whole_runs import artifacts, run_experiment, run_py, runs_by_stage

pytestmark = pytest.mark.slow

Finished = tuple[Path, subprocess.CompletedProcess[str]]
TWO_ROWS = """
title: two rows
variants:
  - name: diverges
    set:
      pretrain.optimizer.base_lr: 1.0e+30
  - name: LMIM
"""
BLOCKED = """
title: x
set:
  finetune.data.roots: [/nowhere]
variants:
  - name: a
"""


def test_a_failed_run_keeps_its_reason_and_does_not_stop_the_others(
    finished: Finished, results: Path, tmp_path: Path
) -> None:
    file = tmp_path / "two_rows.yaml"
    file.write_text(TWO_ROWS)
    output = run_experiment(file, results)
    assert output.returncode == 1
    assert "diverged" in output.stderr
    assert "learning rate" in output.stderr
    assert "3 of 7 runs" in output.stderr
    assert any("NonFiniteLoss" in path.read_text() for path in results.glob("runs/*/traceback.txt"))
    assert "| diverges " in output.stdout
    assert "missing" in output.stdout
    assert artifacts(results).keys() >= artifacts(finished[0]).keys()


def test_a_defect_leaves_its_traceback_and_the_next_command_tries_again(
    experiment: Path, results: Path
) -> None:
    folder = Path(runs_by_stage(experiment, results)["teacher"]["folder"])
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"no_step": 1}\n')
    output = run_experiment(experiment, results)
    assert output.returncode == 1
    assert "KeyError: 'step'" in (folder / "traceback.txt").read_text()
    assert str(folder / "traceback.txt") in output.stderr
    (folder / "metrics.jsonl").unlink()
    assert run_experiment(experiment, results).returncode == 0


def test_a_teacher_of_another_shape_is_refused_and_one_of_the_right_shape_used(
    finished: Finished, experiment: Path, results: Path
) -> None:
    folder = Path(runs_by_stage(experiment, finished[0])["teacher"]["folder"])
    teacher = ("--set", f"teacher.file={folder / 'model.safetensors'}")
    output = run_experiment(experiment, results, *teacher, "--set", "encoder.depth=3")
    assert output.returncode == 2
    assert "encoder.blocks.2." in output.stderr
    assert "Traceback" not in output.stderr
    assert run_experiment(experiment, results, *teacher).returncode == 0


def test_an_experiment_without_its_data_is_left_out_and_the_others_run(
    experiment: Path, results: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked.yaml"
    blocked.write_text(BLOCKED)
    both = run_py("run", blocked, results)
    both.insert(both.index(str(blocked)), str(experiment))
    output = run_command(both)
    assert output.returncode == 2
    assert "blocked was left out" in output.stderr
    assert "/nowhere" in output.stderr
    assert "# Table 1: one row" in output.stdout
    states = {run["state"] for run in runs_by_stage(experiment, results).values()}
    assert states == {"complete"}


def test_an_experiment_without_its_data_alone_is_refused(results: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked.yaml"
    blocked.write_text(BLOCKED)
    output = run_experiment(blocked, results)
    assert output.returncode == 2
    assert "/nowhere" in output.stderr
    assert "data.mdb is missing" in output.stderr
    assert "experiments/scales/smoke.yaml" in output.stderr
