"""The report of `status`: its JSON keys and its text."""

import json
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from experiments.cli.status_report import StatusReport, describe_status, status_text
from experiments.planning.plan import Plan
from experiments.running.display import progress_text
from results.store import State, Store

RUN_KEYS = {"id", "stage", "rows", "state", "detail", "progress", "device", "job", "folder"}
RUNNING: dict[str, Any] = {
    "done": 50,
    "total": 200,
    "unit": "steps",
    "images_per_second": 340.0,
    "seconds_left": 30.0,
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Table 1 at scale smoke."""
    return plan_of(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def report_of_running(plan: Plan, store: Store, device: str) -> StatusReport:
    """The report while the first run is running."""
    run = store.run(next(iter(plan.runs)))
    run.set_state("running", device=device, **RUNNING)
    with run.lock():
        return describe_status(plan, store)


def test_the_json_has_its_keys(plan: Plan, store: Store) -> None:
    content = json.loads(json.dumps(describe_status(plan, store).as_json()))
    assert content.keys() == {"scale", "source", "runs"}
    assert all(run.keys() == RUN_KEYS for run in content["runs"])
    assert [run["id"] for run in content["runs"]] == list(plan.runs)
    assert content["source"] == "state files"


def test_progress_is_counted_in_its_unit(plan: Plan, store: Store) -> None:
    first, second, *_ = report_of_running(plan, store, "").as_json()["runs"]
    assert first["progress"] == {"done": 50, "total": 200, "unit": "steps"}
    assert second["progress"] is None


@pytest.mark.parametrize("device", ["cuda:2", "cuda:11", "cpu"])
def test_the_device_of_a_running_run_is_in_text_and_json(
    plan: Plan, store: Store, device: str
) -> None:
    report = report_of_running(plan, store, device)
    assert report.as_json()["runs"][0]["device"] == device
    assert f" on {device}" in status_text(report).splitlines()[0]
    assert " on " not in "".join(status_text(report).splitlines()[1:])


def test_a_run_that_does_not_run_has_no_device_in_its_text() -> None:
    assert "cuda" not in progress_text(State("complete", device="cuda:2"))
    assert progress_text(State("failed", "a reason", device="cuda:2")) == "a reason"


def test_the_text_has_a_line_for_each_run_and_counts_states(plan: Plan, store: Store) -> None:
    store.run(next(iter(plan.runs))).set_state("failed", message="a reason")
    *lines, counts = status_text(describe_status(plan, store)).splitlines()
    assert [line.split()[1] for line in lines] == list(plan.runs)
    assert lines[0].endswith("a reason")
    assert counts == f"1 failed, {len(plan.runs) - 1} planned (source: state files)"
