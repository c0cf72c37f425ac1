"""The space of a sweep: values that are suggested, conditions, cut ends, and the search's id."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import REPOSITORY
from optuna.trial import TrialState
from sweep_helpers import (
    DECAY,
    RATIO,
    ROW,
    TINY,
    create_trials,
    finish_all,
    load_search,
    states_of,
    write_sweep,
)

from core.config import Finetune, Pretrain
from core.runtime.errors import UserError
from core.runtime.yaml import dump_yaml
from results.store import Store
from sweeps.engine.make_search import make_search
from sweeps.engine.space import TrialValues, is_active
from sweeps.engine.trials import ClaimedTrial

pytestmark = pytest.mark.slow

SHIPPED_ID = "mask_ratio.former_mini-58a60bb9"  # of results/published/former_mini


def ratio_value(claimed: ClaimedTrial) -> float:
    """An objective with its maximum at ratio 0.7."""
    return 1 - (float(str(claimed.values["pretrain.mask.ratio"])) - 0.7) ** 2


@pytest.mark.parametrize("kind", ["tpe", "random", "gp"])
def test_one_worker_suggests_the_same_values_again_and_after_a_stop(
    kind: str, tmp_path: Path
) -> None:
    sampler = {"kind": kind, "seed": 3} | ({} if kind == "random" else {"n_startup_trials": 3})
    changes = {"sampler": sampler, "trials": 7}
    first = finish_all(create_trials(tmp_path / "first", **changes), ratio_value)
    again = finish_all(create_trials(tmp_path / "again", **changes), ratio_value)
    assert first == again
    assert len(first) == len({json.dumps(values) for values in first}) == 7
    assert first[0] == {"pretrain.mask.ratio": 0.8}  # the recipe's value
    stopped: list[dict[str, Any]] = []
    for total in (2, 5, 7):
        trials = create_trials(tmp_path / "stopped", **changes | {"trials": total})
        stopped += finish_all(trials, ratio_value)
    assert stopped == first
    assert finish_all(trials, ratio_value) == []  # `trials` is the total


def test_a_grid_tries_each_point_once(tmp_path: Path) -> None:
    grid = {
        "pretrain.mask.kind": {"categorical": ["random", "block"]},
        "pretrain.mask.ratio": {"float": [0.5, 0.7], "step": 0.1},
    }
    trials = create_trials(tmp_path, space=grid, sampler={"kind": "grid"}, trials=6)
    assert len({json.dumps(values) for values in finish_all(trials)}) == 6


def test_a_parameter_is_suggested_only_under_its_condition(tmp_path: Path) -> None:
    space: dict[str, Any] = {"pretrain.mask.kind": {"categorical": ["random", "density"]}}
    space["pretrain.mask.focus"] = {"float": [0.5, 2], "when": {"pretrain.mask.kind": "density"}}
    trials = create_trials(tmp_path, space=space, trials=8)
    suggested = finish_all(trials)
    focus = trials.search.space["pretrain.mask.focus"]
    assert {values["pretrain.mask.kind"] for values in suggested} == {"random", "density"}
    for values in suggested:
        is_density = values["pretrain.mask.kind"] == "density"
        assert ("pretrain.mask.focus" in values) == is_density
        assert is_active(focus, values) == is_density


def test_a_condition_may_depend_on_a_conditional_parameter(tmp_path: Path) -> None:
    space: dict[str, Any] = {"pretrain.mask.kind": {"categorical": ["random", "density"]}}
    space["pretrain.mask.focus"] = {
        "categorical": [0.5, 2.0],
        "when": {"pretrain.mask.kind": "density"},
    }
    space["pretrain.mask.ratio"] = {"float": [0.5, 0.9], "when": {"pretrain.mask.focus": [2.0]}}
    suggested = finish_all(create_trials(tmp_path, space=space, trials=12))
    assert {len(values) for values in suggested} == {1, 2, 3}


def test_named_choices_set_sections_and_relative_ranges_are_multiples(tmp_path: Path) -> None:
    choices = {"none": None, "strong": {"strength": "strong"}}
    space = {
        "pretrain.guidance": {"categorical": choices},
        "finetune.optimizer.base_lr": {"float": [0.1, 10], "relative": True},
    }
    row = {"pretrain.alignment": None, "pretrain.decoder.order": "SA-CA-FFN"}
    search = load_search(write_sweep(tmp_path, space=space, set=TINY | row), tmp_path)
    assert search.space["finetune.optimizer.base_lr"].float_range == (1e-4, 1e-2)
    values: TrialValues = {"pretrain.guidance": "strong", "finetune.optimizer.base_lr": 2e-4}
    plan = search.plan("one", values, Store(tmp_path))
    configs = {run.stage: run.config for run in plan.runs.values()}
    pretrain = configs["pretrain"]
    finetune = configs["finetune"]
    assert isinstance(pretrain, Pretrain)
    assert isinstance(finetune, Finetune)
    assert pretrain.guidance is not None
    assert pretrain.guidance.strength == "strong"
    assert finetune.optimizer.base_lr == 2e-4
    assert "order" in search.notes[0]  # without guidance the decoder has another order
    assert "no trial is compared" in search.notes[1]  # the base row's guidance is medium


def test_the_step_of_a_relative_range_is_relative(tmp_path: Path) -> None:
    rate = {"float": [0.5, 2], "relative": True, "step": 0.5}
    search = load_search(
        write_sweep(tmp_path, space={"finetune.optimizer.base_lr": rate}), tmp_path
    )
    grid = search.space["finetune.optimizer.base_lr"].grid()
    assert grid == [0.0005, 0.001, 0.0015, 0.002]


def test_the_sweeps_settings_replace_the_rows_and_typed_ones_replace_the_sweeps(
    tmp_path: Path,
) -> None:
    mask = {"pretrain.mask": {"kind": "block", "ratio": 0.55}}
    file = write_sweep(tmp_path, set=TINY | mask, space=DECAY)
    row = ROW | {"variants": [{"name": "LMIM", "set": {"pretrain.mask.ratio": 0.7}}]}
    (tmp_path / "row.yaml").write_text(dump_yaml(row))

    def ratio(**overrides: Any) -> float:
        plan = load_search(file, tmp_path, **overrides).plan("one", {}, Store(tmp_path))
        (config,) = (
            run.config
            for run in plan.runs.values()
            if list(run.rows) == ["one"] and isinstance(run.config, Pretrain)
        )
        return config.mask.ratio

    assert ratio() == 0.55
    assert ratio(pretrain__mask__ratio=0.6) == 0.7  # the row sets it, and a note says so
    notes = load_search(file, tmp_path, pretrain__mask__ratio=0.6).notes
    assert any("pretrain.mask.ratio" in note for note in notes)


def test_more_trials_keep_the_id_and_another_search_has_another_id(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "more": {"trials": 9, "budget": {"hours": 1}, "title": "another"},
        "space": {"space": {"pretrain.mask.ratio": {"float": [0.5, 0.8]}}},
        "seeds": {"seeds": [0, 1]},
        "sampler": {"sampler": {"kind": "random", "seed": 1}},
        "recipe": {"set": TINY | {"finetune.optimizer.epochs": 3}},
    }
    ids = {
        name: load_search(write_sweep(tmp_path, **change), tmp_path).id
        for name, change in changes.items()
    }
    assert ids["plain"] == ids["more"]
    assert len(set(ids.values())) == 5


def test_sweeps_keep_the_ids_of_version_0_1(tmp_path: Path) -> None:
    search = load_search(REPOSITORY / "sweeps" / "mask_ratio.yaml", tmp_path)
    assert search.id == SHIPPED_ID
    search = load_search(REPOSITORY / "sweeps" / "finetune.yaml", tmp_path)
    assert search.id == "finetune.former_mini-ae92e2f8"  # its keys were spelled differently


def test_keys_of_version_0_1_are_accepted(tmp_path: Path) -> None:
    former = {"finetune.optimiser.base_lr": {"float": [0.1, 10], "relative": True}}
    current = {"finetune.optimizer.base_lr": {"float": [0.1, 10], "relative": True}}
    ids = {
        load_search(write_sweep(tmp_path, space=space), tmp_path).id for space in (former, current)
    }
    assert len(ids) == 1


def test_a_trial_that_cannot_be_run_fails_and_is_replaced(tmp_path: Path) -> None:
    space: dict[str, Any] = RATIO | {"pretrain.mask.kind": {"categorical": ["random", "diagonal"]}}
    trials = create_trials(tmp_path, space=space, trials=6)
    assert "diagonal" in trials.search.notes[0]
    assert len(finish_all(trials)) == 6
    assert states_of(trials).count("COMPLETE") == 6
    failed = [trial for trial in trials.all() if trial.state == TrialState.FAIL]
    assert failed
    assert all("diagonal" in trials.state(trial).message for trial in failed)
    kinds = ["random", *(f"kind {number}" for number in range(30))]
    space["pretrain.mask.kind"] = {"categorical": kinds}
    with pytest.raises(UserError, match="trials failed"):
        finish_all(create_trials(tmp_path, space=space, trials=6))


@pytest.mark.parametrize(
    ("key", "parameter", "expected"),
    [
        ("pretrain.mask.ratio", {"float": [0.5, 1.5]}, (0.5, 0.9843)),  # 1 of 64 patches is visible
        ("pretrain.mask.ratio", {"float": [0.5, 1.3], "step": 0.2}, (0.5, 0.9)),
        ("finetune.optimizer.epochs", {"float": [0.25, 4]}, (0.5001, 4)),  # above the warm-up
        ("finetune.max_length", {"int": [0, 32]}, (2, 32)),
    ],
)
def test_values_that_no_run_can_have_are_cut_off_the_space(
    key: str, parameter: dict[str, Any], expected: tuple[float, float], tmp_path: Path
) -> None:
    search = load_search(write_sweep(tmp_path, space={key: parameter}), tmp_path)
    ends = search.space[key].ends()
    assert ends == pytest.approx(expected, abs=1e-3)
    assert f"{key} is searched" in search.notes[0]
    for end in ends or ():
        search.plan("one", {key: end}, Store(tmp_path))


def test_no_trial_begins_once_the_budget_is_used_up(tmp_path: Path) -> None:
    trials = create_trials(tmp_path, budget={"hours": 0.5})
    with trials.claim(0.0) as claimed:
        assert claimed is not None
        claimed.trial.set_user_attr("seconds", 1900)
        trials.finish(claimed, TrialState.COMPLETE, 0.5)
    assert finish_all(trials) == []
    assert trials.is_over(trials.all())


def test_automatic_precision_is_asked_for_only_if_the_recipe_needs_it(tmp_path: Path) -> None:
    def refuse() -> str:
        raise AssertionError("asked")

    file = write_sweep(tmp_path, set=TINY | {"precision": "fp32"})
    search = make_search(file, None, Store(tmp_path), precision=refuse, overrides={}, seeds=None)
    assert search.precision == "fp32"
