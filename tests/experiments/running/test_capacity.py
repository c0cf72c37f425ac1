"""Whether runs fit on the disk and into memory: estimates against what the machine has."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from conftest import call
from planned_training import planned_finetuning
from plans import TABLE1, plan_of
from sweep_helpers import write_sweep

from core.runtime.errors import DiskError, UserError
from core.runtime.files import free_disk_bytes
from core.training.run_context import RunContext
from experiments.planning.disk_estimate import disk_use, rendered_bytes
from experiments.planning.plan import Plan, PlannedRun
from experiments.running import capacity
from experiments.running.capacity import (
    bytes_text,
    bytes_to_write,
    check_disk,
    check_plan,
    check_run,
    device_memory_bytes,
)
from experiments.running.execute import execute
from experiments.running.options import ComputeOptions
from results.store import Store

CPU = ComputeOptions(device="cpu")


@pytest.fixture
def training(tmp_path: Path) -> PlannedRun:
    return planned_finetuning(tmp_path / "words")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def set_free_bytes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(capacity, "free_disk_bytes", lambda folder: count)


def set_memory_bytes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(capacity, "device_memory_bytes", lambda device: count if device else None)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (9_940, "9.9 kB"),
        (9_960, "10 kB"),
        (999_499, "999 kB"),
        (999_600, "1.0 MB"),
        (2_550_000_000, "2.5 GB"),
        (3e12, "3.0 TB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_bytes_have_a_unit_and_two_digits(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_the_free_space_of_a_new_folder_is_that_of_its_disk(tmp_path: Path) -> None:
    free = free_disk_bytes(tmp_path)
    assert free_disk_bytes(tmp_path / "a" / "b") == pytest.approx(free, rel=0.1)


def test_what_a_folder_contains_is_not_written_again(training: PlannedRun, store: Store) -> None:
    use = disk_use(training)
    assert bytes_to_write([training], store) == use.peak
    folder = store.run(training.id).folder
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(bytes(use.temporary // 2))
    assert bytes_to_write([training], store) == use.peak - use.temporary // 2
    (folder / "old.bin").write_bytes(bytes(2 * use.peak))
    assert bytes_to_write([training], store) == 0


def test_runs_at_the_same_time_need_more_temporary_space(tmp_path: Path, store: Store) -> None:
    runs = [planned_finetuning(tmp_path / name) for name in ("a", "b", "c")]
    use = disk_use(runs[0])
    assert bytes_to_write(runs, store) == 3 * use.kept + use.temporary
    assert bytes_to_write(runs, store, at_once=2) == 3 * use.kept + 2 * use.temporary
    assert bytes_to_write(runs, store, at_once=9) == 3 * use.peak


def test_synthetic_words_count_once_until_they_are_rendered(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    pretrainings = [run for run in plan.runs.values() if run.stage == "pretrain"]
    root = pretrainings[0].data["train"][0]
    assert root.synthetic is not None
    store = Store(tmp_path)
    with_words = bytes_to_write(pretrainings, store)
    Path(root.path).mkdir(parents=True)
    assert with_words - bytes_to_write(pretrainings, store) == rendered_bytes(root.synthetic)


def test_a_run_that_does_not_fit_on_the_disk_is_refused(
    training: PlannedRun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = bytes_to_write([training], store)
    set_free_bytes(monkeypatch, needed)
    check_disk(training, store)
    set_free_bytes(monkeypatch, needed - 1)
    with pytest.raises(DiskError, match="--results") as error:
        check_disk(training, store)
    for part in (str(store.run(training.id).folder), f"{needed:,}", f"{needed - 1:,}", "delete"):
        assert part in str(error.value)


def test_a_run_that_does_not_fit_fails_before_its_stage_starts(
    training: PlannedRun, store: Store, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_bytes(monkeypatch, 10)
    outcome = execute(training, store, context)
    assert (outcome.state, outcome.environment_failure) == ("failed", True)
    state = store.run(training.id).last_written_state()
    assert (state.name, state.user_error) == ("failed", True)
    assert "--results" in state.message
    assert not list(store.root.rglob("metrics.jsonl"))


def test_a_run_that_needs_more_memory_than_there_is_is_refused(
    training: PlannedRun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_memory_bytes(monkeypatch, 10**6)
    with pytest.raises(UserError, match="--micro-batch") as error:
        check_run(training, store, "cpu", micro_batch=None, processes=1)
    assert training.id in str(error.value)
    assert "1.0 MB" in str(error.value)
    set_memory_bytes(monkeypatch, 10**10)
    check_run(training, store, "cpu", micro_batch=None, processes=1)


def first_run_bytes(plan: Plan, store: Store) -> int:
    return bytes_to_write([next(iter(plan.runs.values()))], store)


def test_a_plan_is_refused_only_if_its_first_run_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    store = Store(tmp_path)
    needed = first_run_bytes(plan, store)
    assert check_plan(plan, store, "cpu", CPU) == []
    set_free_bytes(monkeypatch, needed)
    (note,) = check_plan(plan, store, "cpu", CPU)
    assert bytes_text(bytes_to_write(plan.runs.values(), store)) in note
    set_free_bytes(monkeypatch, needed - 1)
    with pytest.raises(DiskError):
        check_plan(plan, store, "cpu", CPU)


def test_jobs_of_a_cluster_may_fill_the_disk_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    store = Store(tmp_path)
    runs = list(plan.runs.values())
    together = bytes_to_write(runs, store, len(runs))
    set_free_bytes(monkeypatch, bytes_to_write(runs, store))
    assert check_plan(plan, store, "cpu", CPU) == []
    (note,) = check_plan(plan, store, "", ComputeOptions(launcher="slurm"))
    assert bytes_text(together) in note


def test_complete_runs_need_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path)
    store = Store(tmp_path)
    for run in plan.runs:
        store.run(run).set_state("complete")
    set_free_bytes(monkeypatch, 0)
    set_memory_bytes(monkeypatch, 0)
    assert check_plan(plan, store, "cpu", CPU) == []


def test_runs_that_fit_only_one_at_a_time_give_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    store = Store(tmp_path)
    set_memory_bytes(monkeypatch, 10**9)
    assert check_plan(plan, store, "cpu", CPU) == []
    (note,) = check_plan(plan, store, "cpu", ComputeOptions(device="cpu", jobs=5))
    assert "--jobs" in note
    (note,) = check_plan(plan, store, "cpu", ComputeOptions(device="cpu", processes=5))
    assert "--jobs" in note


def test_the_memory_of_other_machines_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_memory_bytes(monkeypatch, 1)
    assert check_plan(plan_of(tmp_path), Store(tmp_path), "", CPU) == []
    with pytest.raises(UserError):
        check_plan(plan_of(tmp_path), Store(tmp_path), "cpu", CPU)


@pytest.mark.parametrize("limit", [10**6, None, "max"])
def test_the_limit_of_a_container_is_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | str | None
) -> None:
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(f"{limit}\n")
    monkeypatch.setattr(capacity, "CGROUP_LIMIT", file)
    memory = device_memory_bytes("cpu")
    assert memory is not None
    assert (memory == 10**6) == (limit == 10**6)
    assert memory >= 10**6


def test_the_memory_of_a_gpu_is_asked_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def properties(device: Any) -> SimpleNamespace:
        return SimpleNamespace(total_memory=1000 + device.index)

    monkeypatch.setattr("torch.cuda.get_device_properties", properties)
    assert device_memory_bytes("cuda:3") == 1003
    assert device_memory_bytes("") is None


def launched(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("runs were launched")


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ((TABLE1, "--device", "cpu"), "experiments.running.local.launch"),
        ((TABLE1, "--launcher", "slurm"), "experiments.slurm.launcher.launch_slurm"),
        (("sweep", "--device", "cpu"), "sweeps.engine.local_workers.launch_local"),
        (("sweep", "--launcher", "slurm"), "sweeps.engine.slurm_workers.launch_slurm"),
    ],
)
def test_a_command_refuses_to_launch_what_does_not_fit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    target: str,
) -> None:
    monkeypatch.setattr(target, launched)
    set_free_bytes(monkeypatch, 1234)
    file, *options = arguments
    if file == "sweep":
        file = write_sweep(tmp_path / "sweep")
    results = tmp_path / "results"
    shared = ("--scale", "smoke", "--results", results)
    code, out, err = call(capsys, "run", file, *shared, *options)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out, len(errors)) == (2, "", 1)
    assert f"{results}/runs/" in errors[0]
    assert "1,234 bytes" in errors[0]
