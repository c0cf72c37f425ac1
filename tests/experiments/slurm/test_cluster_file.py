"""Cluster files: the resources of jobs, and the parameters of submitit."""

from pathlib import Path

import pytest
from conftest import call
from plans import TABLE1

from core.runtime.errors import UserError
from experiments.slurm.cluster import CLUSTER_FILE, Resources, read_cluster, time_limit_minutes
from experiments.slurm.submit import executor_parameters

STAGES = ("pretrain", "finetune", "evaluate")
NESTED = """
mem: 1024
time: 24:00:00
setup: module load cuda
stages:
  evaluate:
    mem: 2G
scales:
  paper:
    mem: 3G
    gpus_per_node: 4
    stages:
      pretrain:
        gpus_per_node: 8
        tasks_per_node: 2
"""


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        (90, 90),
        ("90", 90),
        ("1:30", 2),
        ("24:00:00", 1440),
        ("1-12", 2160),
        ("2-0:30", 2910),
        ("0-0:0:1", 1),
        ("0:00:30", 1),
    ],
)
def test_time_limits_are_converted_as_sbatch_converts_them(time: int | str, minutes: int) -> None:
    assert time_limit_minutes(time) == minutes


@pytest.mark.parametrize("time", ["a day", "0", "1:2:3:4", "-5"])
def test_other_formats_of_time_limits_are_refused(time: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        time_limit_minutes(time)


@pytest.mark.parametrize(
    ("scale", "mem", "tasks"),
    [("mini", ["1024", "1024", "2G"], [1, 1, 1]), ("paper", ["3G", "3G", "2G"], [2, 4, 4])],
)
def test_stages_take_precedence_over_scales_and_scales_over_the_top_level(
    tmp_path: Path, scale: str, mem: list[str], tasks: list[int]
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(NESTED)
    resources = read_cluster(file, scale)[1]
    assert [resources[stage].mem for stage in STAGES] == mem
    assert [resources[stage].tasks for stage in STAGES] == tasks
    assert {resources[stage].time for stage in STAGES} == {1440}
    assert {resources[stage].setup for stage in STAGES} == {("module load cuda",)}


def test_the_suites_file_requests_gpus_only_at_large_scales() -> None:
    assert {asked.gpus_per_node for asked in read_cluster(None, "mini")[1].values()} == {0}
    paper = read_cluster(None, "paper")[1]
    assert paper["pretrain"].gpus_per_node == 8
    assert paper["evaluate"].gpus_per_node == 1
    assert 512 % paper["pretrain"].tasks == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{scales: {papr: {mem: 1G}}}", "unknown scale 'papr'; choose from"),
        ("{sbatch: {job-name: x}}", "sbatch: job-name is set by this suite"),
        ("{sbatch: {open_mode: append}}", "sbatch: open_mode is set by this suite"),
        ("{sbatch: {cpus_per_task: 2}}", "sbatch: cpus_per_task is set by a key"),
        ("{time: -1:00:00}", "time: must be minutes"),
        ("{partitions: gpu}", "partitions: unknown key; allowed: account,"),
        ("{time: soon}", 'time: must be minutes, or a text like "24:00:00"'),
        ("{stages: {train: {}}}", "stages.train"),
        ("{stages: {pretrain: {cpus: 3}}}", "cpus: unknown key; allowed: account,"),
        ("{scales: {paper: {gpus: 3}}}", "gpus: unknown key"),
        ("{scales: {paper: {stages: {pretrain: {mem: [1]}}}}}", "mem"),
    ],
)
def test_a_mistake_in_a_cluster_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_cluster(file, "paper")
    assert expected in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_cluster_file_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--scale", "smoke", "--results", tmp_path, "--launcher", "slurm")
    code, _, errors = call(capsys, TABLE1, *options, "--cluster", tmp_path / "no.yaml")
    assert code == 2
    assert "no.yaml" in errors.splitlines()[-1]


def test_jobs_are_requeued_and_request_the_resources_of_their_stage() -> None:
    cluster, resources = read_cluster(CLUSTER_FILE, "paper")
    changes = {
        "partition": "gpu",
        "sbatch": {"exclude": "n7"},
        "setup": ("module load cuda",),
    }
    requested = Resources.model_validate(resources["pretrain"].model_dump() | changes)
    parameters = executor_parameters("afterok:7", cluster, requested, "a name")
    assert parameters["additional_parameters"] == {
        "requeue": True,
        "kill-on-invalid-dep": "yes",
        "exclude": "n7",
    }
    assert parameters["gpus_per_node"] == 8
    assert parameters["ntasks_per_node"] == 8
    assert parameters["time"] == 1440
    assert parameters["partition"] == "gpu"
    assert parameters["dependency"] == "afterok:7"
    assert parameters["wckey"] is None
    assert "account" not in parameters
    setup = parameters["setup"]
    assert isinstance(setup, list)
    assert setup[0] == "module load cuda"
    assert setup[1].startswith("export PYTHONPATH=")


def test_an_option_of_sbatch_that_is_false_is_left_out() -> None:
    cluster, _ = read_cluster(None, "smoke")
    requested = Resources(sbatch={"requeue-hold": False, "exclusive": True})
    further = executor_parameters(None, cluster, requested, "a name")["additional_parameters"]
    assert further == {"requeue": True, "kill-on-invalid-dep": "yes", "exclusive": True}
