"""What is handed to a cluster and what is made of its answers, without one (`tests/slurm` has a real one)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from rich.console import Console

from core.runtime.errors import UserError
from core.runtime.safetensors_io import save
from experiments.planning.plan import Plan
from experiments.planning.planner import make_plan
from experiments.planning.schema import HERE
from experiments.running.options import ComputeOptions
from experiments.slurm import scheduler as slurm
from experiments.slurm.cluster import CLUSTER, Resources, minutes, read_cluster
from experiments.slurm.job import JobLimits, RunJob
from experiments.slurm.launcher import arrays_to_submit, settled_statuses
from experiments.slurm.scheduler import Entry, NoAnswer, Scheduler, parse
from experiments.slurm.status import current_statuses, resolve_state
from experiments.slurm.submissions import Submission, latest_submissions, write_submission
from experiments.slurm.submit import make_arrays, parameters
from results.store import State, Store

TABLE1 = HERE / "ablation_alignment.yaml"
OPTIONS = ComputeOptions(device="cpu", threads=1, num_workers=0, checkpoint_seconds=600)
LIMITS = JobLimits(warning_seconds=30, limit_seconds=130, max_idle_stops=2)


def plan(store: Store, *files: Path, seeds: Any = None) -> Plan:
    return make_plan(
        files or [TABLE1], "smoke", store, precision=lambda: "fp32", overrides={}, seeds=seeds
    )


# What jobs ask for


@pytest.mark.parametrize(
    ("time", "limit"),
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
def test_times_are_read_as_sbatch_reads_them(time: int | str, limit: int) -> None:
    assert minutes(time) == limit


@pytest.mark.parametrize("time", ["a day", "0", "1:2:3:4", "-5"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        minutes(time)


def test_stages_go_before_scales_and_these_before_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "{mem: 1024, time: 24:00:00, setup: module load cuda, stages: {evaluate: {mem: 2G}},"
        " scales: {paper: {mem: 3G, gpus_per_node: 4, stages: {pretrain: {gpus_per_node: 8, tasks_per_node: 2}}}}}"
    )
    found = {scale: read_cluster(file, scale)[1] for scale in ("mini", "paper")}
    assert [found["mini"][stage].mem for stage in ("pretrain", "finetune", "evaluate")] == [
        "1024",
        "1024",
        "2G",
    ]
    assert [found["paper"][stage].mem for stage in ("pretrain", "finetune", "evaluate")] == [
        "3G",
        "3G",
        "2G",
    ]
    assert [found["paper"][stage].tasks for stage in ("pretrain", "finetune", "evaluate")] == [
        2,
        4,
        4,
    ]
    assert found["mini"]["pretrain"].tasks == 1
    assert (found["mini"]["pretrain"].time, found["mini"]["pretrain"].setup) == (
        1440,
        ("module load cuda",),
    )


def test_the_shipped_file_asks_for_gpus_at_the_papers_scale_only() -> None:
    assert {one.gpus_per_node for one in read_cluster(None, "mini")[1].values()} == {0}
    paper = read_cluster(None, "paper")[1]
    assert (paper["pretrain"].gpus_per_node, paper["evaluate"].gpus_per_node) == (8, 1)
    assert 512 % paper["pretrain"].tasks == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{scales: {papr: {mem: 1G}}}", "unknown scale 'papr'; choose from"),
        ("{sbatch: {job-name: x}}", "sbatch: job-name is what this suite says to sbatch itself"),
        ("{time: -1:00:00}", "time: must be minutes"),
        ("{partitions: gpu}", "partitions: unknown key; allowed: account,"),
        ("{time: soon}", 'time: must be minutes, or a text like "24:00:00"'),
        ("{stages: {train: {}}}", "stages.train"),
        ("{stages: {pretrain: {cpus: 3}}}", "cpus: unknown key; allowed: account,"),
        ("{scales: {paper: {gpus: 3}}}", "gpus: unknown key"),
        ("{scales: {paper: {stages: {pretrain: {mem: [1]}}}}}", "mem"),
    ],
)
def test_a_mistake_in_a_cluster_file_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_cluster(file, "paper")
    assert told in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cluster_file_that_is_missing_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = (
        "--scale",
        "smoke",
        "--results",
        tmp_path,
        "--launcher",
        "slurm",
        "--cluster",
        tmp_path / "no.yaml",
    )
    code, _, errors = call(capsys, TABLE1, *options)
    assert code == 2
    assert "no.yaml" in errors.splitlines()[-1]


def test_a_job_is_requeued_never_left_pending_and_asks_for_its_own_resources() -> None:
    cluster, resources = read_cluster(CLUSTER, "paper")
    asked = replace_resources(
        resources["pretrain"],
        partition="gpu",
        sbatch={"exclude": "n7"},
        setup=("module load cuda",),
    )
    told = parameters("afterok:7", cluster, asked, "a name")
    assert told["additional_parameters"] == {
        "requeue": True,
        "kill-on-invalid-dep": "yes",
        "exclude": "n7",
    }
    assert (told["gpus_per_node"], told["ntasks_per_node"], told["time"], told["partition"]) == (
        8,
        8,
        1440,
        "gpu",
    )
    assert told["dependency"] == "afterok:7"
    setup = told["setup"]
    assert isinstance(setup, list)
    assert setup[0] == "module load cuda"
    assert setup[1].startswith("export PYTHONPATH=")
    assert "account" not in told


def replace_resources(asked: Resources, **changes: Any) -> Resources:
    return Resources.model_validate(asked.model_dump() | changes)


# Arrays


def check_arrays(found: Plan, jobs: dict[str, str], left: list[str], size: int = 1000) -> int:
    """Every run once, parents first, and place by place after its own input; the number of arrays."""
    arrays = make_arrays([found.runs[name] for name in left], jobs, size)
    assert sorted(run.id for array in arrays for run in array.runs) == sorted(left)
    for number, array in enumerate(arrays):
        assert len(array.runs) <= size
        assert array.parent is None or array.parent in arrays[:number]
        for place, run in enumerate(array.runs):
            inputs = [name for name in run.inputs.values() if name in left]
            if array.parent is None:
                assert not inputs
                assert array.before == tuple(
                    jobs[name] for name in run.inputs.values() if name in jobs
                )
            else:
                others = array.parent.runs
                assert len(others) in (1, len(array.runs))
                assert inputs == [others[place if len(others) > 1 else 0].id]
    return len(arrays)


def test_table_1_is_four_arrays_and_its_seeds_add_none_but_for_the_rows(tmp_path: Path) -> None:
    found = plan(Store(tmp_path))
    assert check_arrays(found, {}, list(found.runs)) == 4
    found = plan(Store(tmp_path), seeds=[0, 1, 2])
    assert check_arrays(found, {}, list(found.runs)) == 10, (
        "teachers, and three stages of each of three rows"
    )
    assert check_arrays(found, {}, list(found.runs), size=2) > 10


def test_every_plan_becomes_arrays_that_wait_for_their_own_inputs(tmp_path: Path) -> None:
    files = sorted(HERE.glob("*.yaml"))
    found = plan(Store(tmp_path), *files, seeds=[0, 1])
    assert check_arrays(found, {}, list(found.runs)) < len(found.runs) / 2
    complete = [run.id for run in found.runs.values() if run.stage == "pretrain"][::2]
    left = [name for name in found.runs if name not in complete]
    check_arrays(found, {}, left)
    alive = {name: f"7_{number}" for number, name in enumerate(left[:10])}
    closed: set[str] = set(alive)
    check_arrays(found, alive, [name for name in left if name not in closed])


def test_a_dry_run_says_what_waits_for_what_and_submits_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--scale", "smoke", "--results", tmp_path, "--launcher", "slurm", "--dry-run")
    code, _, errors = call(capsys, TABLE1, *options)
    assert code == 0
    assert "array 2: pretrain x 3 (1 node x 1 task), afterok:array 1" in errors
    assert "array 4: evaluate x 3 (1 node x 1 task), aftercorr:array 3" in errors
    assert "would submit 10 jobs in 4 arrays" in errors
    assert not list(tmp_path.glob("jobs/lmim*"))


# SLURM's answers


def test_lines_of_squeue_and_sacct_are_read() -> None:
    seen = parse("7|lmim-a|RUNNING|None\n8_0|lmim-b|PENDING|Dependency\n")
    assert seen == [
        Entry("7", "lmim-a", "RUNNING", "None"),
        Entry("8_0", "lmim-b", "PENDING", "Dependency"),
    ]
    assert [entry.alive for entry in seen] == [True, True]
    (told,) = parse("8_1|lmim-b|CANCELLED by 0\n8_1.batch|batch|CANCELLED\n")
    assert (told.state, told.alive) == ("CANCELLED", False)


def test_what_slurm_says_becomes_one_line() -> None:
    text = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition name\n"
    assert slurm.reason_of(text) == "invalid partition specified: x; Invalid partition name"
    text = (
        "sbatch: unrecognized option '--nonsense=1'\nTry \"sbatch --help\" for more information\n"
    )
    assert slurm.reason_of(text) == "unrecognized option '--nonsense=1'"
    assert (
        slurm.reason_of("slurm_load_jobs error: Unable to contact slurm controller")
        == "Unable to contact slurm controller"
    )


def test_elements_that_were_never_split_off_an_array_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """sacct names them together; one that was cancelled by hand is in neither list."""
    assert slurm.elements("7_[0-2,5%3]") == ["7_0", "7_1", "7_2", "7_5"]
    answers = {
        "squeue": "8_0|b|PENDING|Resources\n8_2|b|PENDING|Resources\n",
        "sacct": "7_[0-1%2]|a|CANCELLED by 0\n",
    }
    monkeypatch.setattr(slurm, "_ask", lambda *command: answers[command[0]])
    scheduler = Scheduler(0)
    scheduler.poll(["7_0", "7_1", "8_0", "8_1", "8_2", "9_0"])
    states = {job: entry.state for job, entry in sorted(scheduler.entries.items())}
    assert states == {
        "7_0": "CANCELLED",
        "7_1": "CANCELLED",
        "8_0": "PENDING",
        "8_1": "CANCELLED",
        "8_2": "PENDING",
    }


def test_squeue_is_asked_once_for_all_and_sacct_for_what_it_forgot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(*command: str) -> str:
        asked.append(command)
        return "8_0|b|RUNNING|None\n" if command[0] == "squeue" else "7|a|COMPLETED\n9|c|TIMEOUT\n"

    monkeypatch.setattr(slurm, "_ask", answer)
    scheduler = Scheduler(3600)
    scheduler.poll(["7", "8_0", "9"])
    scheduler.poll(["7", "8_0", "9"])
    assert [command[0] for command in asked] == ["squeue", "sacct"]
    assert asked[1][-1] == "7,9"
    assert {job: entry.state for job, entry in scheduler.entries.items()} == {
        "7": "COMPLETED",
        "8_0": "RUNNING",
        "9": "TIMEOUT",
    }
    scheduler.poll(["7", "8_0", "9"], now=True)
    assert len(asked) == 3, "what ended is not asked for again"


def test_without_accounting_squeue_and_the_state_files_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(*command: str) -> str:
        if command[0] == "sacct":
            raise NoAnswer("Slurm accounting storage is disabled")
        return ""

    monkeypatch.setattr(slurm, "_ask", answer)
    scheduler = Scheduler(0)
    scheduler.poll(["7"])
    assert (scheduler.problem, scheduler.sources) == ("", ["squeue"])


SUBMITTED = 1000.0
ALIVE, ENDED = Entry("7", "n", "RUNNING"), Entry("7", "n", "COMPLETED")
CASES: list[tuple[State, Entry | None, bool, str, str]] = [
    (
        State("planned"),
        replace(ALIVE, state="PENDING", reason="Priority"),
        True,
        "queued",
        "job 7, Priority",
    ),
    (State("failed", "old", updated=900), replace(ALIVE, state="PENDING"), True, "queued", "job 7"),
    (State("failed", "new", updated=1100), replace(ENDED, state="FAILED"), True, "failed", "new"),
    (State("failed", "new", updated=1100), ALIVE, True, "failed", "new"),
    (
        State("failed", "new", updated=1100),
        replace(ALIVE, state="PENDING", reason="BeginTime"),
        True,
        "queued",
        "job 7, BeginTime",
    ),
    (State("running", updated=1100, done=3, total=9), ALIVE, True, "running", ""),
    (
        State("preempted", "stopped", updated=1100),
        replace(ALIVE, state="PENDING"),
        True,
        "queued",
        "job 7; stopped",
    ),
    (
        State("running", updated=1100),
        replace(ALIVE, state="PENDING", reason="BeginTime"),
        True,
        "queued",
        "job 7, BeginTime",
    ),
    (State("planned"), ALIVE, True, "running", "job 7 starts"),
    (State("complete", updated=1100), None, True, "complete", ""),
    (
        State("running", updated=1100),
        replace(ENDED, state="OUT_OF_MEMORY"),
        True,
        "failed",
        "SLURM: OUT_OF_MEMORY (job 7)",
    ),
    (
        State("running", updated=1100),
        replace(ENDED, state="NODE_FAIL"),
        True,
        "failed",
        "SLURM: NODE_FAIL (job 7)",
    ),
    (
        State("running", updated=1100),
        ENDED,
        True,
        "lost",
        "job 7 ended without a record; run the same command again to resume",
    ),
    (
        State("running", updated=1100),
        None,
        True,
        "lost",
        "SLURM no longer lists job 7; run the same command again to resume",
    ),
    (State("running", updated=1100), None, False, "running", ""),
    (State("planned"), None, False, "queued", "job 7, as it was submitted"),
    (State("planned"), replace(ENDED, state="CANCELLED"), True, "planned", "CANCELLED"),
    (
        State("preempted", updated=1100),
        replace(ENDED, state="CANCELLED"),
        True,
        "preempted",
        "CANCELLED",
    ),
]


@pytest.mark.parametrize(("own", "entry", "answered", "name", "message"), CASES)
def test_a_runs_own_file_and_the_scheduler_make_one_state(
    tmp_path: Path, own: State, entry: Entry | None, answered: bool, name: str, message: str
) -> None:
    run = Store(tmp_path).run("pretrain-1")
    run.folder.mkdir(parents=True)
    (run.folder / "state.json").write_text(json.dumps(vars(own)))
    found = resolve_state(
        run,
        Submission("n", "pretrain", ("pretrain-1",), SUBMITTED, "7"),
        "7",
        entry,
        answered=answered,
    )
    assert (found.name, found.message) == (name, message)


def test_a_submission_that_was_interrupted_is_taken_back_and_done_anew(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was killed between sbatch and the writing of its answer: submitit's files are not in their place yet."""
    asked: list[tuple[str, ...]] = []

    def answer(*command: str) -> str:
        asked.append(command)
        return ""

    monkeypatch.setattr(slurm, "_ask", answer)
    store = Store(tmp_path)
    run = next(iter(plan(store).runs.values()))
    write_submission(store, Submission("lmim-x", "pretrain", (run.id,), SUBMITTED))
    assert current_statuses([run], store, Scheduler(0)).states[run.id].name == "planned"
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, errors = call(
        capsys, TABLE1, "--scale", "smoke", "--results", tmp_path, "--launcher", "slurm"
    )
    assert code == 2
    assert "no srun and sbatch here" in errors
    assert ("scancel", "--name=lmim-x", "--me") in asked
    assert not list(tmp_path.glob("jobs/lmim-*"))


def test_jobs_whose_input_will_not_come_are_cancelled_and_submitted_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, lines = (
        Store(tmp_path),
        {"7": "RUNNING|None", "8": "PENDING|Dependency", "9": "PENDING|Dependency"},
    )
    runs = [
        run
        for run in plan(store).runs.values()
        if "no guidance" in run.rows[0] and not run.rows[0].startswith("teacher")
    ]
    for number, run in zip(lines, runs, strict=True):
        write_submission(
            store, Submission(f"lmim-{number}", run.stage, (run.id,), SUBMITTED, number)
        )

    def answer(command: str, *arguments: str) -> str:
        if command == "scancel":
            for number in arguments:
                lines[number] = "CANCELLED|None"
        return (
            "".join(f"{number}|lmim-{number}|{told}\n" for number, told in lines.items())
            if command == "squeue"
            else ""
        )

    monkeypatch.setattr(slurm, "_ask", answer)
    console, cluster = Console(quiet=True), read_cluster(None, "smoke")[0]
    scheduler = Scheduler(0)
    now = current_statuses(runs, store, scheduler, now=True)
    assert (
        arrays_to_submit(
            runs, settled_statuses(runs, store, scheduler, now, console), cluster, console
        )
        == []
    )
    lines["7"] = "FAILED|NonZeroExitCode"
    now = settled_statuses(
        runs, store, scheduler, current_statuses(runs, store, scheduler, now=True), console
    )
    assert lines["8"] == lines["9"] == "CANCELLED|None"
    assert [array.stage for array in arrays_to_submit(runs, now, cluster, console)] == [
        "pretrain",
        "finetune",
        "evaluate",
    ]


def test_the_last_submission_of_a_run_counts_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, when in (("second", 20.0), ("first", 10.0)):
        write_submission(
            store,
            Submission(name, "pretrain", ("a", "b") if name == "first" else ("a",), when, "7"),
        )
    found = latest_submissions(store)
    assert {run: submission.name for run, submission in found.items()} == {
        "a": "second",
        "b": "first",
    }
    assert (found["a"].job("a"), found["b"].job("b")) == ("7", "7_1")
    (tmp_path / "jobs" / "first" / "submission.json").write_text("{")
    with pytest.raises(UserError, match=r"first/submission\.json: not a file of this suite"):
        latest_submissions(store)


def test_without_slurm_nothing_is_submitted_and_one_sentence_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_ask", silent)
    store = Store(tmp_path)
    write_submission(
        store, Submission("n", "pretrain", (next(iter(plan(store).runs)),), SUBMITTED, "7")
    )
    options = ("--scale", "smoke", "--results", tmp_path)
    code, _, errors = call(capsys, TABLE1, *options, "--launcher", "slurm")
    assert code == 2
    assert errors.splitlines()[-1] == (
        "error: SLURM does not answer: squeue: no such command here; nothing was submitted, nothing is changed"
    )
    code, out, _ = call(capsys, "status", TABLE1, *options)
    assert code == 0
    assert "1 queued" in out.splitlines()[-1]
    assert "(source: state files; SLURM does not answer: squeue: no such command here)" in out
    code, _, errors = call(capsys, "cancel", TABLE1, *options)
    assert code == 2
    assert "nothing was cancelled" in errors


def silent(*command: str) -> str:
    raise NoAnswer(f"{command[0]}: no such command here")


def test_options_of_a_cluster_go_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, errors = call(capsys, TABLE1, "--scale", "smoke", "--results", tmp_path, "--no-wait")
    assert (code, errors) == (2, "error: --no-wait goes with --launcher slurm\n")
    code, _, errors = call(capsys, TABLE1, "--scale", "smoke", "--results", tmp_path, "--dry-run")
    assert code == 0
    assert errors.endswith("nothing was run\n")
    assert not list(tmp_path.glob("runs/*"))


def test_more_processes_than_a_batch_has_parts_are_refused_before_anything_waits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("{tasks_per_node: 17}")
    options = (
        "--scale",
        "smoke",
        "--results",
        tmp_path,
        "--launcher",
        "slurm",
        "--cluster",
        file,
        "--dry-run",
    )
    code, _, errors = call(capsys, TABLE1, *options)
    assert code == 2
    assert "a batch of 64 images can be divided among 16 processes, not 17; use fewer" in errors


def test_precision_is_said_where_jobs_run_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, errors = call(
        capsys,
        TABLE1,
        "--scale",
        "small",
        "--results",
        tmp_path,
        "--launcher",
        "slurm",
        "--dry-run",
    )
    assert code == 2
    assert "--precision bf16" in errors


# The job


def test_a_run_that_is_stopped_again_and_again_without_getting_on_is_given_up(
    tmp_path: Path,
) -> None:
    from experiments.running.execute import Outcome

    store = Store(tmp_path)
    run = next(iter(plan(store).runs.values()))
    job, place = RunJob(run, tmp_path, OPTIONS, LIMITS), store.run(run.id)
    stopped = Outcome("preempted", "stopped")
    assert job._count_stop(stopped, place, 90) == stopped
    assert job._count_stop(stopped, place, 20) == stopped
    assert job.idle_stops == 1, "a preemption soon after its start is nobody's fault"
    save(place.folder / "checkpoint.safetensors", {}, {"step": 7})
    assert job._count_stop(stopped, place, 90) == stopped
    assert job.idle_stops == 0, "it came further"
    job.steps = 7
    should_give_up = [job._count_stop(stopped, place, 90) for _ in range(2)][-1]
    assert should_give_up.state == place.state().name == "failed"
    assert "increase time in the cluster's file" in place.state().message


def test_what_is_requeued_is_the_same_run(tmp_path: Path) -> None:
    job = RunJob(next(iter(plan(Store(tmp_path)).runs.values())), tmp_path, OPTIONS, LIMITS)
    assert job.checkpoint().function is job


# Logs


@pytest.mark.slow
def test_logs_show_state_traceback_and_the_jobs_output(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    for name in ("pretrain-ab1", "pretrain-ab2"):
        store.run(name).set_state("failed", message="it broke")
        (store.run(name).folder / "traceback.txt").write_text("Traceback\nKeyError: 'x'\n")
    submission = Submission("n", "pretrain", ("pretrain-ab1", "pretrain-ab2"), SUBMITTED, "7")
    write_submission(store, submission)
    (tmp_path / "jobs" / "n" / "7_1_0_log.err").write_text(
        "".join(f"line {number}\n" for number in range(100))
    )
    code, out, _ = call(capsys, "logs", "pretrain-ab2", "--results", tmp_path, "--lines", "2")
    assert code == 0
    assert out.startswith("pretrain-ab2: failed  it broke\n")
    assert "KeyError: 'x'" in out
    assert out.endswith("line 98\nline 99\n")
    assert "line 97" not in out
    for name, told in (
        ("pretrain-ab", "more than one begins so: pretrain-ab1, pretrain-ab2"),
        ("x", "no run below it"),
    ):
        code, _, errors = call(capsys, "logs", name, "--results", tmp_path)
        assert code == 2
        assert told in errors
