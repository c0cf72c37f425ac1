"""The report of a sweep: intervals, comparisons, the written experiment, figures."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from commands import REPOSITORY
from conftest import call
from published import PUBLISHED
from sweep_helpers import (
    DECAY,
    TINY,
    create_trials,
    finish_all,
    load_search,
    store_validation,
    write_sweep,
)

from analysis.sweep_report import figures
from analysis.sweep_report.best_experiment import write_experiment
from analysis.sweep_report.page import write_report
from analysis.sweep_report.report import make_report
from core.runtime.errors import UserError
from core.runtime.yaml import read_yaml
from experiments.planning.planner import make_plan
from results.store import Store
from sweeps.engine.trials import ClaimedTrial, Trials

pytestmark = pytest.mark.slow


def test_the_best_trial_is_paired_with_the_recipe_and_the_other_trials(tmp_path: Path) -> None:
    trials = create_trials(tmp_path, trials=3)
    with pytest.raises(UserError, match="no trial is complete yet"):
        make_report(trials)
    correct = {0: 60, 1: 90, 2: 89}
    finish_all(trials, lambda claimed: correct[claimed.number] / 100)
    for number, count in correct.items():
        store_validation(trials, number, [[image < count for image in range(100)]])
    page, report = write_report(trials, "")
    assert report.status.best == 1
    assert report.estimate is not None
    assert report.estimate.value == pytest.approx(0.9)
    assert report.estimate.low < 0.9 < report.estimate.high
    assert report.first is not None
    assert report.first.trial == 0
    assert report.first.difference is not None
    assert report.first.difference.value == pytest.approx(0.3)
    assert report.first.difference.low > 0.15
    assert (report.compared, report.undecided) == ((0, 2), (2,))
    assert "a difference" in page
    out = tmp_path / "out.yaml"
    write_experiment(trials, report, out)
    content = read_yaml(out)
    assert [row["name"] for row in content["variants"]] == ["LMIM", "best of tiny"]
    assert content["variants"][1]["compare_with"] == "LMIM"


def test_a_report_has_the_settings_that_the_sweep_was_run_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def value(claimed: ClaimedTrial) -> float:
        return 0.5 + claimed.number / 10

    trials = create_trials(tmp_path, seeds=[4, 7], trials=2)
    finish_all(trials, value)
    for number in range(2):
        store_validation(trials, number, [[True, False], [True, True]])
    changed = write_sweep(tmp_path, trials=2, direction="minimize", space=DECAY)
    out = tmp_path / "out.yaml"
    options = ("--results", tmp_path / "results", "--write-experiment", out)
    code, page, err = call(capsys, "sweep-report", changed, *options)
    assert code == 0, err
    assert f"run as {trials.search.id}" in page
    assert "Trial 1: pretrain.mask.ratio=" in page
    assert "maximized; seeds 4 7" in page
    assert read_yaml(out)["seeds"] == [8, 9, 10]


@pytest.mark.parametrize(
    ("overrides", "written"),
    [({"finetune__optimizer__batch": 16}, True), ({"finetune__optimizer__epochs": 3}, False)],
)
def test_typed_settings_mean_the_same_in_the_written_experiment(
    overrides: dict[str, Any], written: bool, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path, space=DECAY, trials=1, set=TINY | {"epoch_multiplier.finetune": 2})
    store = Store(tmp_path / "results")
    search = load_search(file, store.root, **overrides)
    trials = Trials(search, store)
    trials.create()
    finish_all(trials)
    store_validation(trials, 0, [[True, False]])
    out = tmp_path / "out.yaml"
    command = write_experiment(trials, make_report(trials), out)
    assert ("--set" in command) is not written
    typed = {} if written else search.overrides
    plan = make_plan([out], None, store, precision=lambda: "fp32", overrides=typed, seeds=[0])
    assert set(trials.all()[0].user_attrs["runs"]) <= plan.runs.keys()


def test_slices_show_each_parameter_over_its_values() -> None:
    study = optuna.create_study()
    for value in (0.1, 0.2, 0.3):
        trial = study.ask()
        trial.suggest_float("b.kind", 0, 1)
        study.tell(trial, value)
    for value in (0.1, 0.2):
        trial = study.ask()
        trial.suggest_float("b.kind", 0, 1)
        trial.suggest_float("a.lr", 100, 200)
        study.tell(trial, value)
    axes = figures.slices(study, ["b.kind", "a.lr"], "%")
    limits = {panel.get_xlabel(): panel.get_xlim() for panel in axes}
    assert limits.keys() == {"b.kind", "a.lr"}
    assert limits["a.lr"][0] > 50
    assert limits["b.kind"][1] < 50


def test_figures_are_drawn_of_every_kind_of_parameter() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    keys = ["a.rate", "a.kind", "a.depth", "a.focus"]
    for number in range(12):
        trial = study.ask()
        trial.suggest_float("a.rate", 1e-5, 1e-1, log=True)
        kind = trial.suggest_categorical("a.kind", ["x", "y", None])
        trial.suggest_int("a.depth", 1, 8)
        if kind == "x":
            trial.suggest_float("a.focus", 0, 1)
        trial.report(number / 20, 50)
        if number % 4 == 3:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, number / 12)
    history = figures.history(study, "%")
    pruned = np.asarray(history[0].collections[1].get_offsets())
    assert pruned == pytest.approx(np.array([(3, 15), (7, 35), (11, 55)]))
    slices = figures.slices(study, keys, "%")
    assert [axes.get_xscale() for axes in slices] == ["log", "linear", "linear", "linear"]
    assert len(figures.contours(study, keys, "%")) == 6
    importances = figures.importances(study, keys[:3])
    shares = [float(text.get_text()) for text in importances[0].texts]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(1, abs=0.02)


def test_the_published_report_follows_from_the_published_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "published"
    shutil.copytree(PUBLISHED, results)
    (folder,) = (results / "sweeps").iterdir()
    before = json.loads((folder / "report.json").read_text())
    sweep = REPOSITORY / "sweeps" / "mask_ratio.yaml"
    code, page, err = call(capsys, "sweep-report", sweep, "--results", results)
    assert code == 0, err
    after = json.loads((folder / "report.json").read_text())
    assert before | {"note": ""} == after | {"note": ""}
    assert after["counts"]["complete"] + after["counts"].get("pruned", 0) == after["total"] == 12
    assert after["estimate"]["low"] < after["estimate"]["value"] < after["estimate"]["high"]
    assert f"Trial {after['best']}: " in page
