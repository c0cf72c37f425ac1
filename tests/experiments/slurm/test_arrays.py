"""Runs of a plan are grouped into arrays whose jobs wait for one another."""

from pathlib import Path

import pytest
from conftest import call
from plans import CATALOGUE, TABLE1, plan_of

from experiments.planning.plan import Plan, PlannedRun
from experiments.slurm.arrays import Array, make_arrays


def checked_arrays(
    plan: Plan, names: list[str], jobs: dict[str, str] | None = None, size: int = 1000
) -> list[Array]:
    """The arrays of some runs of a plan. Each run is in one array and waits for its own input."""
    jobs = jobs or {}
    arrays = make_arrays([plan.runs[name] for name in names], jobs, size)
    assert sorted(run.id for array in arrays for run in array.runs) == sorted(names)
    for number, array in enumerate(arrays):
        assert len(array.runs) <= size
        assert array.parent is None or array.parent in arrays[:number]
        for position, run in enumerate(array.runs):
            check_dependency(array, position, run, names, jobs)
    return arrays


def check_dependency(
    array: Array, position: int, run: PlannedRun, names: list[str], jobs: dict[str, str]
) -> None:
    inputs = [name for name in run.inputs.values() if name in names]
    if array.parent is None:
        assert not inputs
        submitted = tuple(jobs[name] for name in run.inputs.values() if name in jobs)
        assert array.earlier_jobs == submitted
    else:
        parents = array.parent.runs
        assert len(parents) in (1, len(array.runs))
        assert inputs == [parents[position if len(parents) > 1 else 0].id]


def test_table_1_is_four_arrays_at_one_seed_and_ten_at_three_seeds(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert len(checked_arrays(plan, list(plan.runs))) == 4
    plan = plan_of(tmp_path, seeds=[0, 1, 2])
    # One array of teachers, and three stages of each of three rows.
    assert len(checked_arrays(plan, list(plan.runs))) == 10
    assert len(checked_arrays(plan, list(plan.runs), size=2)) > 10


def test_every_run_of_the_catalogue_waits_for_its_own_input(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, seeds=[0, 1])
    assert len(checked_arrays(plan, list(plan.runs))) < len(plan.runs) / 2
    complete = [run.id for run in plan.runs.values() if run.stage == "pretrain"][::2]
    remaining = [name for name in plan.runs if name not in complete]
    checked_arrays(plan, remaining)
    jobs = {name: f"7_{number}" for number, name in enumerate(remaining[:10])}
    checked_arrays(plan, [name for name in remaining if name not in jobs], jobs)


def dry_run(
    capsys: pytest.CaptureFixture[str], results: Path, *more: str | Path, scale: str = "smoke"
) -> tuple[int, str]:
    """Exit code and messages of a dry run of Table 1. results: folder. more: options."""
    options = ("--scale", scale, "--results", results, "--launcher", "slurm", "--dry-run")
    code, _, errors = call(capsys, TABLE1, *options, *more)
    return code, errors


def test_a_dry_run_prints_requests_and_dependencies_and_submits_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, errors = dry_run(capsys, tmp_path)
    assert code == 0
    size = "1 node x 1 task, 1 CPU per task, 60 minutes at most"
    assert f"array 2: pretrain x 3 ({size}), afterok:array 1" in errors
    assert f"array 4: evaluate x 3 ({size}), aftercorr:array 3" in errors
    assert "would submit 10 jobs in 4 arrays" in errors
    assert not list(tmp_path.glob("jobs/lmim*"))


def test_a_dry_run_prints_gpus_and_memory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("gpus_per_node: 1\ncpus_per_task: 12\nmem: 48G\ntime: 90\n")
    code, errors = dry_run(capsys, tmp_path, "--cluster", cluster)
    assert code == 0
    size = "12 CPUs per task, 1 GPU per node, memory 48G per node, 90 minutes at most"
    assert f"array 1: pretrain x 1 (1 node x 1 task, {size})" in errors


def test_more_processes_than_a_batch_can_be_divided_among_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("tasks_per_node: 17\n")
    code, errors = dry_run(capsys, tmp_path, "--cluster", file)
    assert code == 2
    assert "64 images can be divided among 16 processes, not 17" in errors


def test_a_scale_without_a_known_precision_asks_for_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, errors = dry_run(capsys, tmp_path, scale="small")
    assert code == 2
    assert "--precision bf16" in errors


def test_options_of_a_cluster_are_refused_without_the_launcher(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--scale", "smoke", "--results", tmp_path)
    code, _, errors = call(capsys, TABLE1, *options, "--no-wait")
    assert code == 2
    assert "--no-wait" in errors
    assert "--launcher slurm" in errors
    code, _, errors = call(capsys, TABLE1, *options, "--dry-run")
    assert code == 0
    assert errors.endswith("nothing was run\n")
    assert not list(tmp_path.glob("runs/*"))
