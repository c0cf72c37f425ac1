"""`plan --power`: the seeds and the time that decide a difference."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from plans import TABLE1, plan_of
from table_records import write_evaluation

from results.store import Store

WORDS = 200


def write_words(store: Store, run_id: str, correct: int) -> None:
    """A complete evaluation whose first `correct` words are right."""
    values = {"x": [1] * correct + [0] * (WORDS - correct)}
    nll = {"x": [2.0] * WORDS}
    write_evaluation(store, run_id, values, nll=nll, config={"protocol": "waics"})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Complete evaluations of two rows of Table 1 at three seeds."""
    plan = plan_of(tmp_path, TABLE1, seeds=(0, 1, 2))
    for cell in plan.cells:
        if cell.variant < 2:
            seed_effect = (0, 10, 20)[cell.seed] * cell.variant
            write_words(Store(tmp_path), cell.evaluate, 100 + seed_effect)
    return tmp_path


def decisions(
    capsys: pytest.CaptureFixture[str], results: Path, points: float
) -> list[dict[str, Any]]:
    options = ("--scale", "smoke", "--seeds", "0,1,2", "--results", results, "--power", points)
    code, out, _ = call(capsys, "plan", TABLE1, *options, "--json")
    assert code == 0
    costs: list[dict[str, Any]] = json.loads(out)["decisions"]
    return costs


def test_smaller_differences_need_more_seeds_and_time(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, small = (
        {one["endpoint"]: one for one in decisions(capsys, results, points)} for points in (20, 10)
    )
    assert large["fine-tuned words"]["measured_seeds"] == 3
    assert 2 <= large["fine-tuned words"]["seeds"] < small["fine-tuned words"]["seeds"]
    assert large["fine-tuned words"]["hours"] <= small["fine-tuned words"]["hours"]
    assert large["fine-tuned words"]["row"] == "guidance"
    assert "fine-tuned nll" not in large  # a difference of it is not in points


def test_without_two_seeds_the_variance_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert decisions(capsys, tmp_path, 2) == []
    options = ("--scale", "smoke", "--results", tmp_path, "--power", 2)
    code, out, _ = call(capsys, "plan", TABLE1, *options)
    assert code == 0
    assert "at least 2 seeds" in out


@pytest.mark.parametrize("points", ["0", "-1", "nan", "inf", "1000", "two"])
def test_a_difference_that_is_no_number_of_points_is_refused(
    points: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "plan", TABLE1, "--power", points)
    assert (code, out) == (2, "")
    assert "--power" in err
