"""The control row of a recipe: an untrained encoder beside the rows of an experiment."""

from pathlib import Path

import pytest
from plans import TABLE1, plan_of

from core.runtime.errors import UserError

CONTROL = {"control": "scratch"}


def test_a_control_row_is_added_and_every_row_is_compared_with_it(tmp_path: Path) -> None:
    experiment = plan_of(tmp_path, overrides=CONTROL).experiments[TABLE1.stem]
    *rows, control = experiment.variants
    assert (control.name, control.method) == ("control: scratch", "scratch")
    assert [experiment.compared_rows(number) for number in range(len(rows))] == [
        ("control: scratch",),
        ("no guidance", "control: scratch"),
        ("guidance", "control: scratch"),
    ]
    assert experiment.compared_rows(len(rows)) == ()


def test_the_control_row_does_not_change_the_other_runs(tmp_path: Path) -> None:
    plain = plan_of(tmp_path)
    with_control = plan_of(tmp_path, overrides=CONTROL)
    assert plain.runs.keys() < with_control.runs.keys()
    added = with_control.runs.keys() - plain.runs.keys()
    assert sorted(with_control.runs[name].stage for name in added) == ["evaluate", "finetune"]


def test_rows_that_are_compared_with_the_row_above_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("title: t\nvariants:\n  - name: a\n    method: MIM\n  - name: b\n")
    experiment = plan_of(tmp_path, path, overrides=CONTROL).experiments["x"]
    assert experiment.compared_rows(1) == ("a", "control: scratch")


def test_an_experiment_that_has_the_control_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("title: t\nvariants:\n  - name: none\n    method: scratch\n  - name: b\n")
    experiment = plan_of(tmp_path, path, overrides=CONTROL).experiments["x"]
    assert [row.name for row in experiment.variants] == ["none", "b"]


def test_an_unknown_control_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown method 'nothing'"):
        plan_of(tmp_path, overrides={"control": "nothing"})
