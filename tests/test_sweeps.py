"""Sweeps: what a file may say, what is drawn, that totals are exact whatever dies, pruning, the report."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from commands import PATIENCE, run_command, started, wait_until
from conftest import call
from optuna.trial import TrialState
from rich.console import Console

from analysis.sweep_report import figures
from analysis.sweep_report.report import make_report, write_experiment, write_report
from core.runtime.artifacts import CHECKPOINT
from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml, read_yaml
from core.training.run_context import RunContext
from experiments.planning.planner import make_plan
from results.store import Store
from sweeps.engine import trials as trials_module
from sweeps.engine import worker as worker_module
from sweeps.engine.schema import read_sweep
from sweeps.engine.search import Search, make_search
from sweeps.engine.space import active
from sweeps.engine.status import SweepWatch
from sweeps.engine.trials import ClaimedTrial, Trials
from sweeps.engine.worker import search_on, validations

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = sorted((REPOSITORY / "sweeps").glob("*.yaml"))
ROW = {"title": "one row", "variants": [{"name": "LMIM"}]}
TINY = {
    "synthetic.train": 128,
    "synthetic.validation": 16,
    "synthetic.test": 2,
    "pretrain.optimizer.batch": 32,
}
TINY |= {"finetune.optimizer.batch": 32, "finetune.optimizer.epochs": 4}
SWEEP: dict[str, Any] = {
    "title": "a sweep",
    "scale": "smoke",
    "set": TINY,
    "trials": 4,
    "sampler": {"kind": "random"},
}
SWEEP["space"] = {"pretrain.mask.ratio": {"float": [0.5, 0.9]}}
DECAY = {"finetune.optimizer.layer_decay": {"float": [0.5, 1]}}


def write(folder: Path, **changes: Any) -> Path:
    """A sweep file beside its experiment."""
    (folder / "row.yaml").write_text(dump_yaml(ROW))
    file = folder / "tiny.yaml"
    content = {
        key: value
        for key, value in (SWEEP | {"experiment": "row.yaml"} | changes).items()
        if value is not None
    }
    file.write_text(dump_yaml(content))
    return file


def search_of(file: Path, results: Path, scale: str | None = None, **overrides: Any) -> Search:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return make_search(
        file, scale, Store(results), precision=lambda: "fp32", overrides=settings, seeds=None
    )


def begun(folder: Path, **changes: Any) -> Trials:
    """A sweep of which nothing was drawn yet."""
    trials = Trials(
        search_of(write(folder, **changes), folder / "results"), Store(folder / "results")
    )
    trials.begin()
    return trials


def drawn(
    trials: Trials, value: Callable[[ClaimedTrial], float] = lambda taken: 0.5
) -> list[dict[str, Any]]:
    """Draw all trials, without computing any; their values."""
    found = []
    while True:
        with trials.take(0.0) as taken:
            if taken is None:
                return found
            found.append(taken.values)
            trials.finish(taken, TrialState.COMPLETE, value(taken))


# Files


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_short_and_can_be_run_at_every_scale_that_validates(
    file: Path, tmp_path: Path
) -> None:
    assert len(file.read_text().splitlines()) <= 40
    assert f"python run.py sweeps/{file.name}" in file.read_text()
    for scale in ("smoke", "mini", "small"):
        search = search_of(file, tmp_path, scale)
        assert all("leaves none of" in note for note in search.notes)
        assert search.first is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": "general"}, "objective: general is read on test images"),
        (
            {"objective": "test_avg"},
            "is read on test images, and settings that were chosen by them",
        ),
        ({"objective": "validation_loss"}, "choose from validation_avg, validation_wavg"),
        ({"space": {}}, "space"),
        (
            {"space": {"pretrain.mask.ratio": {"float": [0.9, 0.5]}}},
            "give the lower end, then the higher one",
        ),
        (
            {"space": {"pretrain.mask.ratio": {"float": [0.5, 0.9], "int": [1, 2]}}},
            "give one of float",
        ),
        (
            {"space": {"pretrain.mask.ratio": {"flaot": [0.5, 0.9]}}},
            "unknown key; allowed: categorical, float, int, log",
        ),
        ({"space": {"a.b": {"float": [0, 1], "log": True}}}, "begins above 0"),
        ({"space": {"a.b": {"float": [0, 1], "when": {"c": 1}}}}, "c is not searched above it"),
        (
            {"space": {"a": {"categorical": [1]}, "b": {"float": [0, 1], "when": {"a": 2}}}},
            "a is never 2",
        ),
        ({"sampler": {"kind": "grid"}}, "a grid needs a step"),
        ({"sampler": {"kind": "tep"}}, "'tep'"),
        ({"sampler": {"kind": "tpe", "n_trials": 3}}, "unknown key"),
        ({"pruner": {"kind": "median", "at": [0.5, 0.25]}}, "must rise"),
        ({"pruner": {"kind": "median", "at": [1.5]}}, "is not below 1"),
        ({"trials": 0}, "is not above 0"),
        ({"experiment": "nowhere.yaml"}, "nowhere.yaml: no such file"),
        ({"variant": "MIM"}, "variant: MIM: "),
        (
            {"space": {"pretrain.mask.ratoi": {"float": [0.5, 0.9]}}},
            "pretrain.mask.ratoi: unknown key; allowed: focus, kind",
        ),
        ({"space": {"pretrain.mask.ratio": {"float": [1.1, 1.9]}}}, "no end of it can be run"),
        (
            {"space": {"pretrain.target.nothing": {"float": [1, 2], "relative": True}}},
            "the base row has no number there",
        ),
        (
            {
                "space": {"pretrain.mask.ratio": {"float": [0.6, 1.4], "step": 0.2}},
                "sampler": {"kind": "grid"},
            },
            "trials 4 is more than the grid's 2 points that can be run",
        ),
        ({"space": {"a": {"categorical": {}}}}, "give a list of choices"),
        ({"space": {"a": {"categorical": 0.7}}}, "give a list of choices"),
        ({"space": {"a": {"categorical": [{"kind": "random"}]}}}, "need names"),
        ({"space": {"a": {"categorical": [0.7, 0.7]}}}, "no choice may stand twice"),
        (
            {"space": {"a": {"categorical": [1, 2]}, "b": {"float": [0, 1], "when": {"a": []}}}},
            "is never met",
        ),
        (
            {"space": {"a": {"float": [0, 1]}, "b": {"float": [0, 1], "when": {"a": 0.5}}}},
            "is a float, which next to never",
        ),
        ({"space": {"a": {"float": ["0", "1"]}}}, "give two numbers"),
        ({"space": {"a": {"float": [0, 1], "step": 2}}}, "step 2 is larger than the range"),
        ({"space": {"a": {"int": [1, 10**12]}}}, "too large"),
        ({"space": {"a.b": {"float": [0, 1]}, "a": {"categorical": [1]}}}, "a.b is searched too"),
        ({"seeds": [0, 0]}, "duplicate"),
        ({"trials": True}, "trials"),
        ({"spaces": {}}, "unknown key; allowed: budget"),
        (
            {"pruner": {"kind": "hyperband", "min_resource": 50, "max_resource": 25}},
            "max_resource 25 is less",
        ),
        ({"pruner": {"kind": "halving", "min_resource": 80}}, "is after the last comparison"),
        (
            {
                "space": {
                    "finetune.validation.roots": {"categorical": {"a": ["synthetic:validation"]}}
                }
            },
            "is not for choosing",
        ),
        (
            {"space": {"finetune.data.roots": {"categorical": {"a": ["synthetic:validation"]}}}},
            "is not for choosing",
        ),
        (
            {"space": {"evaluate.labels": {"categorical": ["strict", "released"]}}},
            "is not for choosing",
        ),
        (
            {
                "space": {"pretrain.mask.ratio": {"float": [0.5, 0.9]}},
                "set": TINY | {"init.encoder": "scratch"},
            },
            "nothing that is",
        ),
        (
            {
                "space": {
                    "pretrain.optimizer.final_lr": {
                        "float": [0.1, 1],
                        "log": True,
                        "relative": True,
                    }
                }
            },
            "row's 0.0",
        ),
        (
            {"set": TINY | {"finetune.validation": {"roots": ["synthetic:train"]}}},
            "synthetic:train is trained on",
        ),
        (
            {"set": TINY | {"finetune.validation": None}},
            "scale smoke has no validation set; name one",
        ),
        ({"set": TINY | {"init.recognizer": "file.pth"}}, "the base row trains nothing"),
    ],
)
def test_a_mistake_in_a_sweep_is_told_in_one_sentence(
    changes: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(
        capsys, write(tmp_path, **changes), "--results", tmp_path / "results", "--dry-run"
    )
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "results" / "sweeps").exists()


@pytest.mark.parametrize("roots", [["synthetic:curve"], ["general"]])
def test_a_validation_set_that_is_a_test_set_is_refused(
    roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, set=TINY | {"finetune.validation": {"roots": roots}})
    code, _, err = call(capsys, file, "--results", tmp_path / "results", "--dry-run")
    assert code == 2
    assert (
        f"finetune.validation: {roots[0].replace('general', 'synthetic:general')} is the test set"
        in err
    )


def test_a_benchmark_that_the_row_does_not_read_is_no_validation_set_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--results", tmp_path, "--precision", "fp32", "--scale", "paper")
    code, _, err = call(
        capsys, "plan", SHIPPED[0], *where, "--set", "finetune.validation.roots=[svt]"
    )
    assert code == 2
    assert "finetune.validation: svt is the test set svt: it is read on test images" in err
    subsets = {"general": {"roots": ["synthetic:general"]}}
    file = write(
        tmp_path,
        set=TINY
        | {"finetune.validation": {"roots": ["synthetic:curve"]}, "evaluate.subsets": subsets},
    )
    code, _, err = call(capsys, file, "--results", tmp_path, "--dry-run")
    assert (code, "synthetic:curve is the test set" in err) == (2, True)


def test_options_of_sweeps_and_of_experiments_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, row = write(tmp_path), tmp_path / "row.yaml"
    for arguments, told in (
        ((file, "--jobs", 2), "a sweep takes --workers"),
        ((row, "--workers", 2), "--workers is for sweeps"),
        ((row, "--storage", "sqlite://"), "--storage is for sweeps"),
        ((file, row), "a sweep; give it alone"),
        (("compare", file), "a sweep has no table"),
        (("sweep-report", row), "not a sweep"),
        (("sweep-report", file), "this sweep has not been run"),
        ((file, "--set", "pretrain.mask.ratio=0.7"), "the sweep searches pretrain.mask.ratio"),
        ((file, "--storage", "nonsense"), "not an address like"),
        ((file, "--storage", "sqlite:////nowhere/at/all.db"), "unable to open database file"),
        ((file, "--storage", "oracle+none://x/y"), "--storage oracle+none://x/y"),
    ):
        code, _, err = call(
            capsys, *arguments, "--scale", "smoke", "--results", tmp_path / "results"
        )
        assert code == 2, err
        assert told in err.splitlines()[-1]


# What is drawn


@pytest.mark.parametrize("kind", ["tpe", "random", "gp"])
def test_one_worker_draws_the_same_trials_again_and_after_a_stop(kind: str, tmp_path: Path) -> None:
    def value(taken: ClaimedTrial) -> float:
        return 1 - (float(str(taken.values["pretrain.mask.ratio"])) - 0.7) ** 2

    changes = {
        "sampler": {"kind": kind, "seed": 3}
        | ({} if kind == "random" else {"n_startup_trials": 3}),
        "trials": 7,
    }
    places = [tmp_path / name for name in ("first", "again", "stopped")]
    for place in places:
        place.mkdir()
    first, again = (drawn(begun(place, **changes), value) for place in places[:2])
    assert first == again
    assert len(first) == len({json.dumps(one) for one in first}) == 7
    assert first[0] == {"pretrain.mask.ratio": 0.8}  # the recipe's own
    parts = [
        values
        for trials in (2, 5, 7)
        for values in drawn(begun(places[2], **changes | {"trials": trials}), value)
    ]
    assert parts == first
    assert (
        drawn(begun(places[2], **changes), value) == []
    )  # the number is the total, not further ones


def test_a_grid_is_walked_through_once_and_a_parameter_is_drawn_only_under_its_condition(
    tmp_path: Path,
) -> None:
    grid = {
        "pretrain.mask.kind": {"categorical": ["random", "block"]},
        "pretrain.mask.ratio": {"float": [0.5, 0.7], "step": 0.1},
    }
    (tmp_path / "grid").mkdir()
    found = drawn(begun(tmp_path / "grid", space=grid, sampler={"kind": "grid"}, trials=6))
    assert len({json.dumps(one) for one in found}) == 6
    space = {"pretrain.mask.kind": {"categorical": ["random", "density"]}}
    space["pretrain.mask.focus"] = {"float": [0.5, 2], "when": {"pretrain.mask.kind": "density"}}
    trials = begun(tmp_path, space=space, trials=8)
    found = drawn(trials)
    assert {values["pretrain.mask.kind"] for values in found} == {"random", "density"}
    for values in found:
        assert ("pretrain.mask.focus" in values) == (values["pretrain.mask.kind"] == "density")
        assert active(trials.search.space["pretrain.mask.focus"], values) == (
            "pretrain.mask.focus" in values
        )


def test_named_choices_set_whole_sections_and_relative_ranges_are_multiples_of_the_recipe(
    tmp_path: Path,
) -> None:
    choices = {"none": None, "strong": {"strength": "strong"}}
    space = {
        "pretrain.guidance": {"categorical": choices},
        "finetune.optimizer.base_lr": {"float": [0.1, 10], "relative": True},
    }
    row = {"pretrain.alignment": None, "pretrain.decoder.order": "SA-CA-FFN"}
    search = search_of(write(tmp_path, space=space, set=TINY | row), tmp_path)
    assert search.space["finetune.optimizer.base_lr"].real == (1e-4, 1e-2)
    plan = search.plan(
        "one", {"pretrain.guidance": "strong", "finetune.optimizer.base_lr": 2e-4}, Store(tmp_path)
    )
    configs = {run.stage: run.config for run in plan.runs.values()}
    assert configs["pretrain"].guidance.strength == "strong"  # type: ignore[union-attr]
    assert configs["finetune"].optimizer.base_lr == 2e-4  # type: ignore[union-attr]
    assert "order" in search.notes[0]  # without guidance the decoder has another order
    assert "no trial is compared" in search.notes[1]  # the base row's guidance is medium


def test_a_step_is_relative_too_and_conditions_may_hang_on_conditions(tmp_path: Path) -> None:
    rate = {"float": [0.5, 2], "relative": True, "step": 0.5}
    search = search_of(write(tmp_path, space={"finetune.optimizer.base_lr": rate}), tmp_path)
    assert search.space["finetune.optimizer.base_lr"].grid() == [0.0005, 0.001, 0.0015, 0.002]
    space: dict[str, Any] = {"pretrain.mask.kind": {"categorical": ["random", "density"]}}
    space["pretrain.mask.focus"] = {
        "categorical": [0.5, 2.0],
        "when": {"pretrain.mask.kind": "density"},
    }
    space["pretrain.mask.ratio"] = {"float": [0.5, 0.9], "when": {"pretrain.mask.focus": [2.0]}}
    found = drawn(begun(tmp_path, space=space, trials=12))
    assert {len(values) for values in found} == {1, 2, 3}


def test_the_sweeps_own_settings_go_on_top_of_the_row_and_the_command_lines_on_top_of_both(
    tmp_path: Path,
) -> None:
    file = write(
        tmp_path, set=TINY | {"pretrain.mask": {"kind": "block", "ratio": 0.55}}, space=DECAY
    )
    row = ROW | {"variants": [{"name": "LMIM", "set": {"pretrain.mask.ratio": 0.7}}]}
    (tmp_path / "row.yaml").write_text(dump_yaml(row))

    def ratio(**overrides: Any) -> float:
        plan = search_of(file, tmp_path, **overrides).plan("one", {}, Store(tmp_path))
        return next(
            run.config.mask.ratio
            for run in plan.runs.values()
            if "trial" not in run.rows[0] and run.rows == ("one",)
        )  # type: ignore[union-attr]

    assert ratio() == 0.55
    assert ratio(pretrain__mask__ratio=0.6) == 0.7  # the row defines it, and a note says so
    assert any(
        "has no effect" in note
        for note in search_of(file, tmp_path, pretrain__mask__ratio=0.6).notes
    )


def test_more_trials_go_on_with_the_same_search_and_another_space_begins_another(
    tmp_path: Path,
) -> None:
    ids = {
        name: search_of(write(tmp_path, **changes), tmp_path).id
        for name, changes in {
            "plain": {},
            "more": {"trials": 9, "budget": {"hours": 1}, "title": "another"},
            "space": {"space": {"pretrain.mask.ratio": {"float": [0.5, 0.8]}}},
            "seeds": {"seeds": [0, 1]},
            "sampler": {"sampler": {"kind": "random", "seed": 1}},
            "recipe": {"set": TINY | {"finetune.optimizer.epochs": 3}},
        }.items()
    }
    assert ids["plain"] == ids["more"]
    assert len(set(ids.values())) == 5


def test_a_trial_that_no_run_can_have_fails_and_another_takes_its_place(tmp_path: Path) -> None:
    space = SWEEP["space"] | {"pretrain.mask.kind": {"categorical": ["random", "diagonal"]}}
    trials = begun(tmp_path, space=space, trials=6)
    assert "trials there fail, and others take their place" in trials.search.notes[0]
    assert len(drawn(trials)) == 6
    states = [trial.state for trial in trials.all()]
    assert states.count(TrialState.COMPLETE) == 6
    assert states.count(TrialState.FAIL) > 0
    assert all(
        "diagonal" in trials.state(one).message
        for one in trials.all()
        if one.state == TrialState.FAIL
    )
    space["pretrain.mask.kind"] = {
        "categorical": ["random", *(f"kind {number}" for number in range(30))]
    }
    with pytest.raises(UserError, match="trials failed, so no more are drawn"):
        drawn(begun(tmp_path, space=space, trials=6))


@pytest.mark.parametrize(
    ("key", "parameter", "left"),
    [
        (
            "pretrain.mask.ratio",
            {"float": [0.5, 1.5]},
            {"float": (0.5, 0.9843)},
        ),  # 1 of 64 patches is left visible
        ("pretrain.mask.ratio", {"float": [0.5, 1.3], "step": 0.2}, {"float": (0.5, 0.9)}),
        (
            "finetune.optimizer.epochs",
            {"float": [0.25, 4]},
            {"float": (0.5001, 4)},
        ),  # which warm-up must be less than
        ("finetune.max_length", {"int": [0, 32]}, {"int": (2, 32)}),
    ],
)
def test_what_no_run_can_have_is_cut_off_the_space(
    key: str, parameter: dict[str, Any], left: dict[str, Any], tmp_path: Path
) -> None:
    search = search_of(write(tmp_path, space={key: parameter}), tmp_path)
    found = search.space[key]
    assert (found.real or found.whole) == pytest.approx(left.get("float") or left["int"], abs=1e-3)
    assert f"{key} is searched" in search.notes[0]
    for end in found.real or found.whole or ():
        search.plan("one", {key: end}, Store(tmp_path))


def test_no_trial_is_begun_once_the_budget_is_used_up(tmp_path: Path) -> None:
    trials = begun(tmp_path, budget={"hours": 0.5})
    with trials.take(0.0) as taken:
        assert taken is not None
        taken.trial.set_user_attr("seconds", 1900)
        trials.finish(taken, TrialState.COMPLETE, 0.5)
    assert drawn(trials) == []
    assert trials.over(trials.all())


# Workers that die


def pretend(search: Search, store: Store, url: str | None, seed: int, pause: float) -> None:
    """A worker that computes nothing: holds each trial for a while, and tells that it is complete."""
    trials, source = Trials(search, store, url), random.Random(seed)
    while True:
        with trials.take(0.0) as taken:
            if taken is None:
                if trials.over(trials.all()):
                    return
            else:
                time.sleep(pause * (1 + source.random()))
                trials.finish(taken, TrialState.COMPLETE, source.random())
                continue
        time.sleep(0.05)


def count_with_killed_workers(trials: Trials) -> None:
    """Four workers, each of which is killed in some trial's middle, and then others: the total must be exact."""
    context = get_context("spawn")

    def start(number: int, pause: float) -> Any:
        worker = context.Process(
            target=pretend, args=(trials.search, trials.store, trials.url, number, pause)
        )
        worker.start()
        return worker

    first = [start(number, 0.5) for number in range(2)]
    wait_until(lambda: sum(trial.state == TrialState.COMPLETE for trial in trials.all()) >= 4)
    for worker in first:
        worker.kill()
        worker.join()
    left = [trial.number for trial in trials.all() if not trial.state.is_finished()]
    assert left, "both were killed between two trials"
    assert {trials.state(trials.all()[number]).name for number in left} <= {"preempted", "planned"}
    for worker in [start(number, 0.02) for number in range(10, 12)]:
        worker.join(PATIENCE)
        assert worker.exitcode == 0
    found = trials.all()
    assert [trial.state for trial in found if trial.state == TrialState.COMPLETE] == [
        TrialState.COMPLETE
    ] * 12
    assert all(
        "killed while it was drawn" in trials.state(one).message
        for one in found
        if one.state == TrialState.FAIL
    )
    assert (
        len(
            {one.params["pretrain.mask.ratio"] for one in found if one.state == TrialState.COMPLETE}
        )
        == 12
    )


def test_the_total_is_exact_whatever_worker_is_killed(tmp_path: Path) -> None:
    count_with_killed_workers(begun(tmp_path, trials=12))


def test_the_total_is_exact_on_sqlite_too_and_another_storage_is_not_mixed_in(
    tmp_path: Path,
) -> None:
    search, url = (
        search_of(write(tmp_path, trials=12), tmp_path / "results"),
        f"sqlite:///{tmp_path}/sweep.db",
    )
    trials = Trials(search, Store(tmp_path / "results"), url)
    trials.begin()
    count_with_killed_workers(trials)
    with pytest.raises(UserError, match=r"its trials are kept in sqlite:.*name it with --storage"):
        Trials(search, Store(tmp_path / "results")).check_storage()


def test_a_trial_held_by_another_worker_is_left_alone_and_a_free_one_is_gone_on_with(
    tmp_path: Path,
) -> None:
    trials = begun(tmp_path)
    other = Trials(trials.search, trials.store)
    with trials.take(0.0) as mine, other.take(0.0) as theirs:
        assert mine is not None
        assert theirs is not None
        assert (mine.number, theirs.number) == (0, 1)
        assert trials.state(trials.all()[0]).name == "running"
    with other.take(0.0) as again:
        assert again is not None
        assert (again.number, again.values) == (0, mine.values)


@pytest.mark.parametrize("kind", ["random", "grid"])
def test_a_worker_that_is_killed_while_it_draws_changes_no_trial(kind: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"sampler": {"kind": kind}, "trials": 4}
    changes["space"] = {
        "pretrain.mask.ratio": {"float": [0.6, 0.9], "step": 0.1},
        **({} if kind == "grid" else DECAY),
    }
    (tmp_path / "quiet").mkdir()
    undisturbed = drawn(begun(tmp_path / "quiet", **changes))
    trials = begun(tmp_path, **changes)
    trials.study().ask()  # and no more
    assert trials.state(trials.all()[0]).name == "planned"
    found = drawn(trials)
    assert sorted(found, key=str) == sorted(undisturbed, key=str)
    assert [one.state for one in trials.all()] == [TrialState.COMPLETE] * 4
    assert all(one.state == TrialState.COMPLETE for one in trials.all())


def test_a_storage_of_another_results_folder_is_refused(tmp_path: Path) -> None:
    search, url = search_of(write(tmp_path), tmp_path / "results"), f"sqlite:///{tmp_path}/sweep.db"
    Trials(search, Store(tmp_path / "results"), url).begin()
    Trials(search, Store(tmp_path / "results"), url).begin()
    with pytest.raises(UserError, match="its trials are of another results folder"):
        Trials(search, Store(tmp_path / "others"), url).begin()


def test_a_look_at_a_sweep_makes_no_files(tmp_path: Path) -> None:
    trials = begun(tmp_path)
    with trials.take(0.0) as taken:
        assert taken is not None
    (trials.place(0).folder / ".lock").unlink()
    before = sorted(trials.folder.rglob("*"))
    assert trials.state(trials.all()[0]).name == "preempted"
    assert sorted(trials.folder.rglob("*")) == before


def test_a_trial_of_another_machine_is_gone_only_after_a_long_silence(tmp_path: Path) -> None:
    trials = begun(tmp_path)
    with trials.take(0.0) as taken:
        assert taken is not None
    place = trials.place(0).folder / "state.json"
    state = json.loads(place.read_text())
    for updated, number in ((time.time() - 60, 1), (time.time() - 3600, 0)):
        place.write_text(json.dumps(state | {"process": "elsewhere:1", "updated": updated}))
        with trials.take(0.0) as taken:
            assert taken is not None
            assert taken.number == number


def test_a_journal_that_was_cut_in_the_middle_of_a_line_is_mended_and_a_damaged_one_is_told(
    tmp_path: Path,
) -> None:
    trials = begun(tmp_path)
    drawn(trials)
    journal = trials.folder / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":')
    for again in (trials, begun(tmp_path, trials=5)):  # one that was open already, and a new one
        again.study().set_user_attr("a", "b")
        journal.open("ab").write(b'{"op_code":')
        assert [trial.state for trial in again.all()] == [TrialState.COMPLETE] * 4
    assert len(drawn(begun(tmp_path, trials=5))) == 1
    journal.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(UserError, match="damaged"):
        Trials(trials.search, trials.store).all()


# Real runs


@pytest.fixture
def alone() -> RunContext:
    torch.set_num_threads(1)
    return RunContext(torch.device("cpu"))


class Every:
    """A pruner that stops every second trial half-way."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number % 2 == 1 and max(trial.intermediate_values) >= 50


def test_pruned_trials_stop_at_a_milestone_and_their_checkpoints_are_collected_at_the_end(
    tmp_path: Path, alone: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials_module, "make_pruner", lambda search: Every())
    trials = begun(tmp_path, space=DECAY, pruner={"kind": "median", "at": [0.25, 0.5]})
    kept: list[bool] = []
    finish = trials.finish

    def watched(taken: ClaimedTrial, state: TrialState, *rest: Any, **named: Any) -> None:
        finish(taken, state, *rest, **named)
        if state == TrialState.PRUNED:
            run = trials.all()[taken.number].user_attrs["recognizers"]["0"]
            kept.append((trials.store.run(run).folder / CHECKPOINT).exists())

    monkeypatch.setattr(trials, "finish", watched)
    assert search_on(trials, alone, 0.0, threads=1, wait_for_others=True).ended == 4
    found = trials.all()
    assert [one.state for one in found] == [TrialState.COMPLETE, TrialState.PRUNED] * 2
    assert [sorted(one.intermediate_values) for one in found] == [[25, 50]] * 4
    assert kept == [True, True]  # until the sweep ended
    assert not list(trials.store.root.glob(f"runs/finetune-*/{CHECKPOINT}"))
    assert (
        len(list(trials.store.root.glob("runs/pretrain-*"))) == 2
    )  # LMIM and its teacher: one pre-training for all trials
    run = trials.store.run(found[1].user_attrs["recognizers"]["0"])
    assert run.state().name == "preempted"
    assert "pruned" in run.state().message
    assert [share for share, _ in validations(run, (0.25, 0.5))] == [0.25, 0.5]


def test_a_verdict_is_kept_though_its_worker_dies_and_a_run_that_others_went_on_with_is_not_collected(
    tmp_path: Path, alone: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials_module, "make_pruner", lambda search: Every())
    trials = begun(tmp_path, space=DECAY, pruner={"kind": "median", "at": [0.5]}, trials=2)
    finish = Trials.finish

    def dies(
        self: Trials, taken: ClaimedTrial, state: TrialState, *rest: Any, **named: Any
    ) -> None:
        if state == TrialState.PRUNED:
            raise MemoryError("the worker dies here")
        finish(self, taken, state, *rest, **named)

    monkeypatch.setattr(Trials, "finish", dies)
    with pytest.raises(MemoryError):
        search_on(trials, alone, 0.0, threads=1, wait_for_others=True)
    monkeypatch.setattr(Trials, "finish", finish)
    run = trials.store.run(trials.all()[1].user_attrs["recognizers"]["0"])
    run.set_state(
        "preempted", message="stopped after step 11 of 16; its checkpoint is kept"
    )  # by another command since
    assert search_on(trials, alone, 0.0, threads=1, wait_for_others=True).ended == 1
    assert [one.state for one in trials.all()] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert (run.folder / CHECKPOINT).exists()


def test_a_storage_that_is_away_for_a_moment_fails_no_trial(
    tmp_path: Path, alone: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, calls = optuna.Trial.report, []

    def away(self: optuna.Trial, *rest: Any) -> None:
        calls.append(rest)
        if len(calls) == 2:
            raise optuna.exceptions.StorageInternalError("connection reset by peer")
        report(self, *rest)

    monkeypatch.setattr(optuna.Trial, "report", away)
    monkeypatch.setattr(worker_module, "AWAY_SECONDS", 0.01)
    trials = begun(tmp_path, space=DECAY, pruner={"kind": "median", "at": [0.25, 0.5]}, trials=2)
    assert search_on(trials, alone, 0.0, threads=1, wait_for_others=True).ended == 2
    assert [one.state for one in trials.all()] == [TrialState.COMPLETE] * 2
    assert [sorted(one.intermediate_values) for one in trials.all()] == [[25, 50]] * 2


def test_a_worker_waits_for_a_storage_that_is_away_between_two_trials(
    tmp_path: Path, alone: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = Trials.read, []

    def away(self: Trials) -> list[optuna.trial.FrozenTrial]:
        calls.append(self)
        if len(calls) in (
            1,
            2,
            5,
            9,
            14,
            20,
            27,
            35,
        ):  # here and there, so that no step is met by it for ever
            raise optuna.exceptions.StorageInternalError("server closed the connection")
        return read(self)

    monkeypatch.setattr(worker_module, "AWAY_SECONDS", 0.01)
    trials = begun(tmp_path, space=DECAY, trials=2)
    monkeypatch.setattr(Trials, "read", away)
    search_on(trials, alone, 0.0, threads=1, wait_for_others=True)
    monkeypatch.setattr(Trials, "read", read)
    assert [one.state for one in trials.all()] == [TrialState.COMPLETE] * 2
    assert len(calls) > 20
    watch = SweepWatch(trials, 1, Console(quiet=True))
    calls.clear()
    monkeypatch.setattr(Trials, "read", away)
    for _ in range(4):
        watch.looked = 0.0
        watch.look()  # it shows nothing new where there is no answer, and does not end the command


def test_a_pruned_run_that_goes_on_ends_as_one_that_was_never_stopped(
    tmp_path: Path, alone: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials_module, "make_pruner", lambda search: Every())
    monkeypatch.setattr(Trials, "collect", lambda self: None)
    pruner = {"kind": "median", "at": [0.3, 0.6]}
    trials = begun(tmp_path, space=DECAY, pruner=pruner, trials=2)
    search_on(trials, alone, 0.0, threads=1, wait_for_others=True)
    name = trials.all()[1].user_attrs["recognizers"]["0"]
    run = trials.store.run(name)
    assert (run.folder / CHECKPOINT).exists()
    from experiments.running.execute import execute

    planned = trials.search.plan("again", trials.all()[1].params, trials.store).runs[name]
    with run.lock():
        assert execute(planned, trials.store, alone).state == "complete"
    went_on = (run.folder / "model.safetensors").read_bytes()
    shutil.rmtree(run.folder)
    with run.lock():
        assert execute(planned, trials.store, alone).state == "complete"
    assert (run.folder / "model.safetensors").read_bytes() == went_on


def test_a_run_that_fails_by_itself_fails_its_trial_and_one_that_can_be_mended_stops_the_sweep(
    tmp_path: Path, alone: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    import experiments.running.execute as module
    from core.training.loop import NonFiniteLoss

    run_stage, calls = module.run_stage, []

    def diverges(run: Any, *rest: Any) -> Any:
        calls.append(run.id)
        if (
            run.stage == "finetune"
            and len([one for one in calls if one.startswith("finetune")]) == 1
        ):
            raise NonFiniteLoss("loss is nan at step 3: training diverged")
        return run_stage(run, *rest)

    monkeypatch.setattr(module, "run_stage", diverges)
    trials = begun(tmp_path, space=DECAY, trials=2)
    assert search_on(trials, alone, 0.0, threads=1, wait_for_others=True).ended == 3
    assert [one.state.name for one in trials.all()] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "diverged" in trials.state(trials.all()[0]).message

    def full(run: Any, *rest: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "run_stage", full)
    more = begun(tmp_path, space=DECAY, trials=3)
    for _ in range(2):
        with pytest.raises(UserError, match="No space left"):
            search_on(more, alone, 0.0, threads=1, wait_for_others=True)
    monkeypatch.setattr(module, "run_stage", run_stage)
    assert search_on(more, alone, 0.0, threads=1, wait_for_others=True).ended == 1
    assert [one.state.name for one in more.all()] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_a_trial_that_is_wrong_in_itself_stops_a_new_sweep_once_and_is_then_replaced(
    tmp_path: Path, alone: RunContext
) -> None:
    space = {"finetune.max_length": {"categorical": [2, 16]}}  # labels have three letters at least
    trials = begun(
        tmp_path, space=space, trials=2, recipe_first=False, sampler={"kind": "random", "seed": 4}
    )
    if drawn_first(trials) == 2:
        with pytest.raises(UserError, match="no usable label"):
            search_on(trials, alone, 0.0, threads=1, wait_for_others=True)
    search_on(trials, alone, 0.0, threads=1, wait_for_others=True)
    states = [(one.params["finetune.max_length"], one.state.name) for one in trials.all()]
    assert (2, "FAIL") in states
    assert states.count((16, "COMPLETE")) == 2


def drawn_first(trials: Trials) -> Any:
    """The first trial's value, which is drawn and let go of."""
    with trials.take(0.0) as taken:
        assert taken is not None
        return next(iter(taken.values.values()))


def command(file: Path, results: Path, *options: object) -> list[str]:
    return [
        sys.executable,
        "run.py",
        str(file),
        "--results",
        str(results),
        "--device",
        "cpu",
        *map(str, options),
    ]


def children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout.split()
    return [int(one) for one in found]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep by two workers, one of which was killed in the middle of a trial; and the same command again."""
    folder = tmp_path_factory.mktemp("swept")
    file = write(folder, space=DECAY, seeds=[0, 1], trials=5)
    with started(
        command(file, folder / "results", "--workers", 2), stderr=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: list(folder.glob("results/sweeps/*/trials/0002/state.json")), process)
        workers = [
            pid
            for pid in children(process.pid)
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        assert process.wait(PATIENCE) == 0
    return file


def test_a_killed_worker_loses_nothing(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = swept.parent / "results"
    code, out, _ = call(capsys, swept, "--results", results)  # it is over: nothing is computed
    assert code == 0
    assert "5 complete, of 5" in out
    code, out, _ = call(capsys, "status", swept, "--results", results, "--json")
    status = json.loads(out)
    assert (code, status["over"], status["counts"]) == (0, True, {"complete": 5})
    assert [one["number"] for one in status["trials"]] == list(range(5))
    assert all(
        set(one["recognizers"]) == {"0", "1"} and one["value"] is not None
        for one in status["trials"]
    )
    assert len(list(results.glob("runs/pretrain-*"))) == 4  # two seeds, each with a teacher
    code, out, _ = call(capsys, "status", swept, "--results", results)
    assert out.count("complete") == 6


def test_a_report_states_the_best_trial_with_an_interval_and_writes_it_as_an_experiment(
    swept: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results, written = swept.parent / "results", tmp_path / "best.yaml"
    code, page, err = call(
        capsys, "sweep-report", swept, "--results", results, "--write-experiment", written
    )
    assert code == 0, err
    (folder,) = (results / "sweeps").iterdir()
    assert (folder / "report.md").read_text() == page
    assert "covers validation images and seeds" in page
    assert "the best of 5 by this very number" in page
    assert len((folder / "trials.csv").read_text().splitlines()) == 6
    for picture in ("history.png", "slices.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert "No picture of contours: " in page
    content = read_yaml(written)
    assert content["seeds"] == [2, 3, 4]  # none of which chose it
    assert len(written.read_text().splitlines()) <= 25
    plan = make_plan(
        [written], None, Store(results), precision=lambda: "fp32", overrides={}, seeds=None
    )
    assert plan.scale == "smoke"
    chosen = json.loads((folder / "report.json").read_text())
    best = chosen["trials"][chosen["best"]]["values"]["finetune.optimizer.layer_decay"]
    decays = {
        run.config.optimizer.layer_decay for run in plan.runs.values() if run.stage == "finetune"
    }  # type: ignore[union-attr]
    assert best in decays
    assert {
        run.config.optimizer.batch for run in plan.runs.values() if run.stage == "finetune"
    } == {32}  # type: ignore[union-attr]
    code, _, err = call(
        capsys, "sweep-report", swept, "--results", results, "--write-experiment", written
    )
    assert (code, "there is a file already" in err) == (2, True)


def stored(trials: Trials, number: int, correct: list[list[bool]]) -> None:
    """Give a trial's recognizers readings, and a record of them."""
    for run, bits in zip(
        trials.all()[number].user_attrs["recognizers"].values(), correct, strict=True
    ):
        place = trials.store.run(run)
        place.write_validation({"a": bits})
        for name in trials.all()[number].user_attrs["runs"]:
            metrics = {"validation_correct": sum(bits), "validation_images": len(bits)}
            data = {"validation": [{"root": "a", "fingerprint": "f", "images": len(bits)}]}
            record = {
                "stage": "finetune",
                "metrics": metrics,
                "data": data,
                "code": {"commit": "c" * 40},
                "seconds": 1.0,
            }
            trials.store.run(name).write_json("record.json", record)


def test_a_report_pairs_the_best_trial_with_the_recipe_and_says_what_cannot_be_told_from_it(
    tmp_path: Path,
) -> None:
    trials = begun(tmp_path, space={"pretrain.mask.ratio": {"float": [0.5, 0.9]}}, trials=3)
    with pytest.raises(UserError, match="no trial is complete yet"):
        make_report(trials)
    right = {0: 60, 1: 90, 2: 89}
    drawn(trials, lambda taken: right[taken.number] / 100)
    for number, count in right.items():
        stored(trials, number, [[place < count for place in range(100)]])
    page, report = write_report(trials, "")
    assert report["best"] == 1
    assert report["estimate"]["value"] == pytest.approx(0.9)
    assert report["estimate"]["low"] < 0.9 < report["estimate"]["high"]
    assert report["first"]["trial"] == 0
    assert report["first"]["difference"]["value"] == pytest.approx(0.3)
    assert report["first"]["difference"]["low"] > 0.15
    assert (report["compared"], report["undecided"]) == ([0, 2], [2])
    assert "a difference" in page
    out = tmp_path / "out.yaml"
    write_experiment(trials, report, out)
    content = read_yaml(out)
    assert [row["name"] for row in content["variants"]] == ["LMIM", "best of tiny"]
    assert content["variants"][1]["compare_with"] == "LMIM"


def test_a_report_tells_of_the_sweep_as_it_was_run_whatever_the_file_says_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = begun(tmp_path, seeds=[4, 7], trials=2)
    drawn(trials, lambda taken: 0.5 + taken.number / 10)
    for number in range(2):
        stored(trials, number, [[True, False], [True, True]])
    file = write(tmp_path, trials=2, direction="minimize", space=DECAY)
    out = tmp_path / "out.yaml"
    code, page, err = call(
        capsys, "sweep-report", file, "--results", tmp_path / "results", "--write-experiment", out
    )
    assert code == 0, err
    assert f"run as {trials.search.id}" in page
    assert "Trial 1: pretrain.mask.ratio=" in page
    assert "maximized; seeds 4 7" in page
    assert read_yaml(out)["seeds"] == [8, 9, 10]


def test_settings_of_the_command_line_mean_the_same_in_the_written_experiment(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, space=DECAY, trials=1, set=TINY | {"epoch_multiplier.finetune": 2})
    for overrides, inside in (
        ({"finetune__optimizer__batch": 16}, True),
        ({"finetune__optimizer__epochs": 3}, False),
    ):
        store = Store(tmp_path / f"results {inside}")
        search = search_of(file, store.root, **overrides)
        trials = Trials(search, store)
        trials.begin()
        drawn(trials)
        stored(trials, 0, [[True, False]])
        out = tmp_path / f"{inside}.yaml"
        command = write_experiment(trials, make_report(trials), out)
        assert ("--set" in command) is not inside
        typed = {} if inside else search.overrides
        plan = make_plan([out], None, store, precision=lambda: "fp32", overrides=typed, seeds=[0])
        assert set(trials.all()[0].user_attrs["runs"]) <= plan.runs.keys()


def test_slices_name_the_parameter_that_they_show() -> None:
    study = optuna.create_study()
    for value in (0.1, 0.2, 0.3):
        study.tell(study.ask({"b.kind": optuna.distributions.FloatDistribution(0, 1)}), value)
    for value in (0.1, 0.2):
        trial = study.ask()
        trial.suggest_float("b.kind", 0, 1)
        trial.suggest_float("a.lr", 100, 200)
        study.tell(trial, value)
    shown = {
        axes.get_xlabel(): axes.get_xlim()
        for axes in figures.slices(study, ["b.kind", "a.lr"], "%")
    }
    assert shown.keys() == {"b.kind", "a.lr"}
    assert shown["a.lr"][0] > 50
    assert shown["b.kind"][1] < 50


# PostgreSQL


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own, of Debian's package; its address."""
    if not os.environ.get("LMIM_POSTGRESQL") or os.getuid() != 0:
        pytest.skip(
            "LMIM_POSTGRESQL is not set: as root on Debian, it lets this test start a PostgreSQL server"
        )
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        installed = subprocess.run(
            ["apt-get", "install", "-y", "-qq", "postgresql"], capture_output=True, text=True
        )
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            pytest.skip(
                f"PostgreSQL cannot be installed here: {installed.stderr.strip().splitlines()[-1:]}"
            )
    folder = Path(
        subprocess.run(
            ["mktemp", "-d", "/tmp/lmim-pg.XXXXXX"], capture_output=True, text=True
        ).stdout.strip()
    )
    shutil.chown(folder, "postgres")

    def server(*arguments: str) -> None:
        quoted = " ".join(f"'{one}'" for one in arguments)
        subprocess.run(
            ["su", "postgres", "-s", "/bin/sh", "-c", quoted],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )

    server(str(programs[-1] / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "postgres")
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    server(
        str(programs[-1] / "pg_ctl"),
        "-D",
        f"{folder}/data",
        "-w",
        "-l",
        f"{folder}/log",
        "-o",
        options,
        "start",
    )
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server(str(programs[-1] / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_the_total_is_exact_on_postgresql_too(postgresql: str, tmp_path: Path) -> None:
    search = search_of(write(tmp_path, trials=12), tmp_path / "results")
    trials = Trials(search, Store(tmp_path / "results"), postgresql)
    trials.begin()
    count_with_killed_workers(trials)


def test_a_sweep_is_run_and_reported_on_postgresql(
    postgresql: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, results = write(tmp_path, space=DECAY, trials=3), tmp_path / "results"
    done = run_command(command(file, results, "--workers", 2, "--storage", postgresql))
    assert done.returncode == 0
    code, page, err = call(
        capsys, "sweep-report", file, "--results", results, "--storage", postgresql
    )
    assert code == 0, err
    assert "3 complete, of 3" in page


def test_a_sweep_file_is_no_experiment_and_the_other_way_about(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a sweep"):
        read_sweep(REPOSITORY / "experiments" / "ablation_mask.yaml")


def test_the_published_sweep_is_told_again_from_its_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(REPOSITORY / "results" / "published" / "mini", tmp_path / "mini")
    (folder,) = (tmp_path / "mini" / "sweeps").iterdir()
    before = json.loads((folder / "report.json").read_text())
    code, page, err = call(
        capsys,
        "sweep-report",
        REPOSITORY / "sweeps" / "mask_ratio.yaml",
        "--results",
        tmp_path / "mini",
    )
    assert code == 0, err
    after = json.loads((folder / "report.json").read_text())
    assert before | {"note": ""} == after | {"note": ""}
    assert after["counts"]["complete"] + after["counts"].get("pruned", 0) == after["total"] == 12
    assert after["estimate"]["low"] < after["estimate"]["value"] < after["estimate"]["high"]
    assert f"Trial {after['best']}: " in page
