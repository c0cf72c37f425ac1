"""What is left of a plan, from the states of its runs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from plans import plan_of

from experiments.cli.remaining_time import nothing_left, work_left, work_rate
from experiments.planning.plan import PlannedRun
from experiments.running.display import duration
from results.store import State, StateName

WORK = {"a": 10.0, "b": 20.0, "c": 40.0, "d": 80.0}
RUNNING = State("running", done=50, total=200, unit="steps", seconds_left=30)


@pytest.fixture
def planned(tmp_path: Path) -> list[PlannedRun]:
    """The runs of Table 1, inputs first."""
    return list(plan_of(tmp_path).runs.values())


def states_of(runs: list[PlannedRun], state: StateName) -> Mapping[str, State]:
    return {run.id: State(state) for run in runs}


def test_nothing_is_left_of_complete_and_failed_runs(planned: list[PlannedRun]) -> None:
    complete = states_of(planned, "complete")
    assert nothing_left(planned, complete)
    assert nothing_left(planned, {**complete, planned[-1].id: State("failed")})


@pytest.mark.parametrize("state", ["planned", "queued", "running", "preempted", "lost"])
def test_a_run_in_another_state_is_left(planned: list[PlannedRun], state: StateName) -> None:
    states = {**states_of(planned, "complete"), planned[-1].id: State(state)}
    assert not nothing_left(planned, states)


def test_runs_that_need_a_failed_run_are_not_left(planned: list[PlannedRun]) -> None:
    states = {**states_of(planned, "planned"), planned[0].id: State("failed")}
    assert nothing_left(planned, states)
    assert not nothing_left(planned, {**states, planned[-1].id: State("running")})


def test_the_rate_of_work_is_that_of_the_running_trainings() -> None:
    states = {
        "a": State("complete"),
        "b": replace(RUNNING, done=100),
        "c": State("planned"),
        "d": State("failed"),
    }
    assert work_left(states, WORK) == 50
    assert work_rate(states, WORK) == pytest.approx(10 / 30)


def test_progress_in_images_says_nothing_about_the_rate_of_work() -> None:
    states = {"b": replace(RUNNING, unit="images"), "c": State("running")}
    assert work_left(states, WORK) == 60
    assert work_rate(states, WORK) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00"), (187.9, "03:07"), (3787, "01:03:07"), (183787, "51:03:07")],
)
def test_a_duration_has_hours_only_from_one_hour_on(seconds: float, text: str) -> None:
    assert duration(seconds) == text
