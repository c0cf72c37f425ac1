"""The report of `plan`: its JSON keys, its text, its estimates."""

import json
import re
from pathlib import Path

import pytest
from conftest import call
from plans import TABLE1, plan_of

from experiments.cli.plan_description import PlanDescription
from experiments.cli.plan_report import describe_plan
from experiments.cli.plan_text import COLUMNS, plan_text
from experiments.planning.disk_estimate import disk_use
from experiments.planning.plan import Plan
from experiments.running.capacity import bytes_of_targets, bytes_text, bytes_to_decode
from results.store import State, StateName, Store

PLAN_KEYS = {
    "scale",
    "experiments",
    "runs",
    "summary",
    "complete",
    "shared",
    "without_sharing",
    "reported",
    "images_seen",
    "hours_taken",
    "estimate",
    "disk_bytes",
    "disk_bytes_together",
    "free_disk_bytes",
    "memory_bytes",
    "device_memory_bytes",
}
RUN_KEYS = {
    "id",
    "stage",
    "rows",
    "shared",
    "state",
    "device",
    "inputs",
    "data",
    "missing",
    "images",
    "parameters",
    "petaflop",
    "disk_bytes",
    "memory_bytes",
    "estimated_hours",
    "hours",
}
TRAINING_KEYS = RUN_KEYS | {"peak_lr", "batch", "epochs", "steps"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Table 1 at scale smoke."""
    return plan_of(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def write_state(store: Store, run: str, name: StateName, device: str = "") -> None:
    store.run(run).set_state(name, device=device)


def test_the_json_has_its_keys(plan: Plan, store: Store) -> None:
    content = json.loads(json.dumps(describe_plan(plan, store).as_json()))
    assert content.keys() == PLAN_KEYS
    for run in content["runs"]:
        assert run.keys() == (RUN_KEYS if run["stage"] == "evaluate" else TRAINING_KEYS)
    assert content["estimate"].keys() == {"hours", "hours_left", "of"}
    assert [run["id"] for run in content["runs"]] == list(plan.runs)
    (rows,) = content["reported"].values()
    assert all(row.keys() == {"reported", "rows"} for row in rows)


def test_sums_follow_from_the_runs(plan: Plan, store: Store) -> None:
    content = describe_plan(plan, store).as_json()
    runs = content["runs"]
    assert sum(content["summary"].values()) == len(runs)
    assert content["shared"] == sum(len(run["rows"]) > 1 for run in runs)
    assert content["without_sharing"] == sum(len(run["rows"]) for run in runs)
    assert content["memory_bytes"] == max(run["memory_bytes"] for run in runs)
    largest_run = max(run["disk_bytes"] for run in runs)
    cached = bytes_to_decode(plan.runs.values(), plan, store)
    cached += bytes_of_targets(plan.runs.values(), store)
    words = content["disk_bytes"] - cached - sum(run["disk_bytes"] for run in runs)
    assert largest_run < content["disk_bytes"]
    assert words < 2_500_000  # 688 words; only one run at a time has temporary files


def test_complete_runs_need_no_space_any_more(plan: Plan, store: Store) -> None:
    before = describe_plan(plan, store)
    for run in list(plan.runs)[:-1]:
        write_state(store, run, "complete")
    after = describe_plan(plan, store)
    assert after.space.disk_bytes < before.space.disk_bytes
    assert after.space.memory_bytes == after.runs[-1].memory_bytes
    write_state(store, list(plan.runs)[-1], "complete")
    done = describe_plan(plan, store)
    assert (done.space.disk_bytes, done.space.memory_bytes) == (0, 0)
    assert done.complete == len(done.runs)


def test_the_estimates_of_small_runs_are_not_zero(plan: Plan, store: Store) -> None:
    description = describe_plan(plan, store)
    for run in description.runs:
        assert run.petaflop > 0
        assert run.estimated_hours > 0
    total = sum(run.estimated_hours for run in description.runs)
    assert description.estimate.hours == pytest.approx(total, rel=1e-3)
    cells = [line.split()[-1] for line in lines_of(description)[2:-2]]
    shown = [run.estimated_hours for run in description.runs]
    assert [float(cell) for cell in cells] == pytest.approx(shown, rel=0.05)


def test_a_short_time_is_printed_in_seconds(plan: Plan, store: Store) -> None:
    description = describe_plan(plan, store)
    (left,) = re.findall(r"about (.+) seconds of", plan_text(description))
    assert float(left) == pytest.approx(3600 * description.estimate.hours_left, rel=0.05)


def test_a_micro_batch_lowers_the_memory_and_nothing_else(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path, scale="paper")
    whole = describe_plan(plan, store)
    divided = describe_plan(plan, store, micro_batch=32)
    for run, other in zip(whole.runs, divided.runs, strict=True):
        assert (run.memory_bytes > other.memory_bytes) == (run.stage in ("pretrain", "finetune"))
        assert run.disk_bytes == other.disk_bytes


@pytest.mark.parametrize(
    ("state", "device", "cell"),
    [
        ("running", "cuda:2", "running on cuda:2"),
        ("running", "", "running"),
        ("complete", "cuda:2", "complete"),
        ("failed", "cuda:2", "failed"),
    ],
)
def test_only_a_running_run_shows_its_device(
    plan: Plan, store: Store, state: StateName, device: str, cell: str
) -> None:
    run = list(plan.runs)[1]
    write_state(store, run, state, device)
    with store.run(run).lock():
        description = describe_plan(plan, store)
    shown_device = device if state == "running" else ""
    assert description.as_json()["runs"][1]["device"] == shown_device
    (line,) = [line for line in plan_text(description).splitlines() if line.startswith(run)]
    assert line.split("  ")[1] == cell


def lines_of(description: PlanDescription) -> list[str]:
    return plan_text(description).splitlines()


def test_the_text_has_a_line_for_each_run_and_two_of_sums(plan: Plan, store: Store) -> None:
    title, head, *lines = lines_of(describe_plan(plan, store, device="cpu"))
    assert title.endswith("(scale smoke)")
    assert head.split() == " ".join(COLUMNS).split()
    assert [line.split()[0] for line in lines[:-2]] == list(plan.runs)
    assert lines[-2].startswith("4 pretrain, 3 finetune, 3 evaluate; ")
    disk, memory = lines[-1].split("; ")
    assert disk.startswith("disk: ")
    assert disk.endswith(" free")
    assert memory.startswith("memory: ")
    assert memory.endswith(" here")


def test_the_memory_of_an_unknown_device_is_not_shown(plan: Plan, store: Store) -> None:
    description = describe_plan(plan, store)
    assert description.as_json()["device_memory_bytes"] is None
    assert not lines_of(description)[-1].endswith("here")


def test_the_disk_space_of_all_runs_at_once_is_shown_for_other_machines(
    plan: Plan, store: Store
) -> None:
    description = describe_plan(plan, store)
    space = description.as_json()
    together = space["disk_bytes_together"]
    runs = list(plan.runs.values())
    temporary = sorted(disk_use(run).temporary for run in runs)
    assert together - space["disk_bytes"] == sum(temporary[:-1])
    assert f"({bytes_text(together)} if" in lines_of(description)[-1]
    assert "(" not in lines_of(describe_plan(plan, store, device="cpu"))[-1]


def test_a_missing_requirement_is_named_once(tmp_path: Path, store: Store) -> None:
    description = describe_plan(plan_of(tmp_path, scale="paper"), store)
    missing = [line for line in lines_of(description) if line.startswith("missing: ")]
    assert missing
    assert missing == sorted(set(missing))


@pytest.mark.parametrize(
    ("launcher", "known"), [("local", True), ("slurm", False)], ids=["local", "slurm"]
)
def test_the_command_shows_the_memory_of_this_machine_for_local_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, launcher: str, known: bool
) -> None:
    options = ("--device", "cpu", "--launcher", launcher, "--results", tmp_path, "--json")
    code, out, _ = call(capsys, "plan", TABLE1, "--scale", "smoke", *options)
    assert code == 0
    assert (json.loads(out)["device_memory_bytes"] is not None) == known


def test_a_state_without_a_device_is_read(plan: Plan, store: Store) -> None:
    run = next(iter(plan.runs))
    store.run(run).write_json("state.json", {"name": "planned"})
    assert store.run(run).state() == State("planned")
    assert describe_plan(plan, store).runs[0].device == ""
