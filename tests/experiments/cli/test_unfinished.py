"""The report of `run` about runs that are not complete, and its exit code."""

from pathlib import Path

import pytest
from plans import plan_of

from experiments.cli.unfinished import report_unfinished
from experiments.planning.plan import Plan
from experiments.running.execute import TRACEBACK
from experiments.running.local import LaunchResult
from results.store import State, Store

FAILED = State("failed", "a reason")
USER_ERROR = State("failed", "a reason", user_error=True)
COMPLETE = State("complete")
PLANNED = State("planned")
INTERRUPTED = LaunchResult(interrupted=True)
LEFT = LaunchResult(left=True)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Table 1 at scale smoke."""
    return plan_of(tmp_path)


def states_of(plan: Plan, *first: State) -> dict[str, State]:
    """The states of the plan's first runs; the others are complete."""
    states = dict.fromkeys(plan.runs, COMPLETE)
    return states | dict(zip(plan.runs, first, strict=False))


@pytest.mark.parametrize(
    ("states", "result", "code"),
    [
        ((), LaunchResult(), 0),
        ((FAILED,), LaunchResult(), 1),
        ((PLANNED,), LaunchResult(), 1),
        ((USER_ERROR,), LaunchResult(), 2),
        ((USER_ERROR, FAILED), LaunchResult(), 1),
        ((PLANNED,), LaunchResult(unwritable=True), 2),
        ((PLANNED,), INTERRUPTED, 130),
        ((FAILED,), INTERRUPTED, 1),
        ((PLANNED,), LEFT, 130),
    ],
)
def test_the_exit_code_follows_from_states_and_the_launch(
    plan: Plan, tmp_path: Path, states: tuple[State, ...], result: LaunchResult, code: int
) -> None:
    assert report_unfinished(plan, Store(tmp_path), states_of(plan, *states), result) == code


def test_each_unfinished_run_is_named_with_its_reason(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = states_of(plan, USER_ERROR, PLANNED)
    report_unfinished(plan, Store(tmp_path), states, LaunchResult())
    out, err = capsys.readouterr()
    head, failed, planned = err.splitlines()
    assert out == ""
    assert head.startswith(f"2 of {len(plan.runs)} ")
    first, second, *_ = plan.runs
    assert failed.split()[:2] == ["failed", first]
    assert failed.endswith("a reason")
    assert planned.split()[:2] == ["planned", second]


@pytest.mark.parametrize(("state", "shown"), [(FAILED, True), (USER_ERROR, False)])
def test_a_traceback_is_shown_for_unexpected_errors_only(
    plan: Plan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    state: State,
    shown: bool,
) -> None:
    store = Store(tmp_path)
    folder = store.run(next(iter(plan.runs))).folder
    folder.mkdir(parents=True)
    (folder / TRACEBACK).write_text("Traceback\nValueError: the end\n")
    report_unfinished(plan, store, states_of(plan, state), LaunchResult())
    assert ("ValueError: the end" in capsys.readouterr().err) == shown


@pytest.mark.parametrize("result", [INTERRUPTED, LEFT])
def test_a_command_that_stopped_says_how_to_continue(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str], result: LaunchResult
) -> None:
    report_unfinished(plan, Store(tmp_path), states_of(plan, PLANNED), result)
    assert "the same command again" in capsys.readouterr().err.splitlines()[-1]
