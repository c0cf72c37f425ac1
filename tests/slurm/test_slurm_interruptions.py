"""Whole experiments on a real SLURM, which `tests/slurm/up` starts on this machine. Nothing here is simulated.

They run where LMIM_SLURM is set, as root on Debian (the scripts install its packages): never on somebody's own cluster."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE, REPOSITORY, run_command, started, wait_until

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
LONG = "title: long\nvariants: [{name: MIM, method: MIM, set: {pretrain.optimizer.epochs: 40}}]\n"  # half a minute of steps
CLUSTER = {
    "partition": "cpu",
    "cpus_per_task": 1,
    "mem": "1500M",
    "time": 60,
    "poll_seconds": 1,
    "warning_seconds": 30,
}


@pytest.fixture(scope="module", autouse=True)
def slurm() -> Iterator[None]:
    """A SLURM of our own for these tests; what was up before is left up."""
    if not os.environ.get("LMIM_SLURM"):
        pytest.skip(
            "LMIM_SLURM is not set: as root on Debian, it lets these tests start a SLURM on this machine"
        )
    was_up = (
        subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0
        if shutil.which("scontrol")
        else False
    )
    configuration = Path("/etc/slurm/slurm.conf")
    if was_up and "# slurm-ci" not in configuration.read_text():
        pytest.skip("this machine belongs to a cluster that is not these tests'")
    brought_up = subprocess.run([HERE / "up"], capture_output=True, text=True)
    if "apt-get install" in brought_up.stderr:
        pytest.skip(
            f"SLURM's packages cannot be installed here: {brought_up.stderr.splitlines()[-1]}"
        )
    assert brought_up.returncode == 0, brought_up.stderr
    yield
    if not was_up:
        subprocess.run([HERE / "down"], check=True)


@pytest.fixture(autouse=True)
def _cancel_jobs(slurm: None) -> Iterator[None]:
    """Cancel the jobs that a test leaves behind."""
    yield
    subprocess.run(["scancel", "--user", "root"])


def words(*arguments: Any) -> str:
    """What a command of SLURM's says."""
    return run_command(arguments, check=True).stdout


def command(file: Path, results: Path, *options: str, verb: str = "run") -> list[str]:
    """Of run.py on the smoke scale, with one thread a run, so that it ends with the same bits here and there."""
    common = ("--scale", "smoke", "--device", "cpu") if verb != "logs" else ()
    return [sys.executable, "run.py", verb, str(file), "--results", str(results), *common, *options]


def call(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return run_command(command(*arguments, **options))


def cluster(folder: Path, **changes: Any) -> tuple[str, ...]:
    """Options for a run on this SLURM."""
    file = folder / "cluster.yaml"
    file.write_text(json.dumps(CLUSTER | changes))
    return "--launcher", "slurm", "--cluster", str(file)


def status(file: Path, results: Path, *options: str) -> dict[str, Any]:
    return json.loads(call(file, results, "--json", *options, verb="status").stdout)


def state_of(file: Path, results: Path, stage: str = "pretrain", *options: str) -> dict[str, Any]:
    return next(run for run in status(file, results, *options)["runs"] if run["stage"] == stage)


def artefacts(results: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "predictions.csv")
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for name in names
        for path in results.glob(f"runs/*/{name}")
    }


def table(output: str) -> list[str]:
    """The accuracies of a printed table."""
    return re.findall(r"^\|[^|]*\| measured .*$", output, re.MULTILINE)


def accounting(results: Path) -> dict[str, str]:
    """Job -> state, of the jobs submitted for these results."""
    numbers = [
        json.loads(path.read_text())["number"] for path in results.glob("jobs/*/submission.json")
    ]

    def ended() -> dict[str, str]:
        lines = words(
            "sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(numbers)
        ).split()
        found = dict(line.split("|") for line in lines if "|" in line)
        return (
            {}
            if any(state in ("RUNNING", "PENDING", "COMPLETING") for state in found.values())
            else found
        )

    return wait_until(ended)


@pytest.fixture(scope="module")
def plain(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Table 1 on this machine, without SLURM: file, results, output."""
    results, file = (
        tmp_path_factory.mktemp("plain"),
        REPOSITORY / "experiments" / "ablation_alignment.yaml",
    )
    output = call(file, results, "--jobs", "2")
    assert output.returncode == 0, output.stderr
    return file, results, output.stdout


@pytest.fixture(scope="module")
def long(
    slurm: None, plain: tuple[Path, Path, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A long pre-training that nothing disturbed: file, results."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "long.yaml").write_text(LONG)
    shutil.copytree(plain[1] / "data", folder / "results" / "data")
    assert call(folder / "long.yaml", folder / "results", "--jobs", "2").returncode == 0
    return folder / "long.yaml", folder / "results"


def fresh(data_of: Path, folder: Path) -> Path:
    """Results that have the rendered words already."""
    shutil.copytree(data_of / "data", folder / "results" / "data")
    return folder / "results"


def test_table_1_by_slurm_is_the_local_one(plain: tuple[Path, Path, str], tmp_path: Path) -> None:
    file, local, printed = plain
    results = fresh(local, tmp_path)
    output = call(file, results, *cluster(tmp_path))
    assert output.returncode == 0, output.stderr
    assert artefacts(results) == artefacts(local)
    assert table(output.stdout) == table(printed)
    assert len(table(printed)) == 3
    assert "submitted 10 jobs in 4 arrays" in output.stderr
    states = accounting(results)
    assert sorted(states.values()) == ["COMPLETED"] * 10
    assert sum("_" in job for job in states) == 9, "three stages of three rows are arrays"
    scripts = {path.read_text() for path in results.glob("jobs/*/*_submission.sh")}
    dependencies = [
        match[1] for script in scripts if (match := re.search(r"--dependency=(\w+)", script))
    ]
    assert sorted(dependencies) == ["aftercorr", "aftercorr", "afterok"]
    again = call(file, results, *cluster(tmp_path))
    assert (again.returncode, again.stdout) == (0, output.stdout)
    assert "submitted 0 jobs" in again.stderr


def test_submitting_again_submits_nothing_twice_and_cancel_ends_it(
    long: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tmp_path / "longer.yaml"
    file.write_text(LONG.replace("40", "400"))  # it is cancelled in any case
    results, options = fresh(long[1], tmp_path), cluster(tmp_path)
    assert call(file, results, *options, "--no-wait").returncode == 0
    wait_until(lambda: state_of(file, results)["progress"])
    again = call(file, results, *options, "--no-wait")
    assert "submitted 0 jobs" in again.stderr
    assert "3 runs have a job that is queued or running" in again.stderr
    found = status(file, results)
    assert [run["state"] for run in found["runs"]] == ["running", "queued", "queued"]
    assert found["source"] == "state files and squeue"
    cancelled = call(file, results, verb="cancel")
    assert cancelled.returncode == 0
    assert "cancelled 3 jobs" in cancelled.stdout
    states = wait_until(
        lambda: (
            (found := [run["state"] for run in status(file, results)["runs"]])[0] == "preempted"
            and found
        )
    )
    assert states == ["preempted", "planned", "planned"]
    assert list(results.glob("runs/pretrain-*/checkpoint.safetensors")), (
        "SIGTERM lets it write a checkpoint"
    )
    assert "no job of these runs" in call(file, results, verb="cancel").stdout


@pytest.mark.parametrize("cause", ["time-out", "preemption"])
def test_a_requeued_run_ends_with_the_same_bits(
    long: tuple[Path, Path], tmp_path: Path, cause: str
) -> None:
    file, reference = long
    results = fresh(reference, tmp_path)
    options = cluster(tmp_path, **({"partition": "low"} if cause == "preemption" else {"time": 1}))
    with started(
        command(file, results, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as watched:
        if cause == "preemption":
            wait_until(
                lambda: (progress := state_of(file, results)["progress"]) and progress["done"] > 40
            )
            words(
                "srun",
                "-p",
                "cpu",
                "-c",
                words("sinfo", "-h", "-p", "cpu", "-o", "%c").strip(),
                "sleep",
                "1",
            )
        _, errors = watched.communicate(timeout=PATIENCE)
    assert watched.returncode == 0, errors
    assert re.search(r"queued .*stopped after step \d+ of \d+; its checkpoint is kept", errors), (
        "it was requeued in its middle"
    )
    assert artefacts(results) == artefacts(reference)
    assert set(accounting(results).values()) == {"COMPLETED"}


def test_a_failed_run_takes_only_its_dependents_along(
    plain: tuple[Path, Path, str], tmp_path: Path
) -> None:
    results, file = fresh(plain[1], tmp_path), tmp_path / "rows.yaml"
    file.write_text(
        "title: rows\nvariants: [{name: MIM, method: MIM}, {name: SeqCLR, method: SeqCLR}]\n"
    )
    options = cluster(tmp_path)
    broken = state_of(file, results)["id"]
    (results / "runs" / broken).mkdir(parents=True)
    (results / "runs" / broken / "metrics.jsonl").write_text(
        '{"no_step": 1}\n'
    )  # as no version of ours wrote it
    output = call(file, results, *options)
    assert output.returncode == 1
    assert f"failed    {broken}" in output.stderr
    assert "KeyError: 'step'" in output.stderr, "the last lines of its traceback"
    assert f"not started: its input {broken} is not complete" in output.stderr
    states = {run["id"]: run["state"] for run in status(file, results)["runs"]}
    assert sorted(states.values()) == ["complete"] * 3 + ["failed"] + ["planned"] * 2
    assert "KeyError: 'step'" in call(Path(broken), results, verb="logs").stdout
    kept = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/record.json")}
    (results / "runs" / broken / "metrics.jsonl").unlink()
    again = call(file, results, *options)
    assert again.returncode == 0, again.stderr
    assert "submitted 3 jobs" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, (
        "what was complete was left alone"
    )


def test_two_processes_of_a_job_compute_what_one_does(
    plain: tuple[Path, Path, str], tmp_path: Path
) -> None:
    """Every stage by one process and by two: losses of 20 steps within 1e-5, and every image read once."""
    file, found = tmp_path / "one.yaml", {}
    rows = "[{name: SeqCLR, method: SeqCLR}, {name: LMIM}]"
    file.write_text(f"title: one\nset: {{pretrain.optimizer.epochs: 2.5}}\nvariants: {rows}\n")
    for tasks in (1, 2):
        results = found[tasks] = fresh(plain[1], tmp_path / str(tasks))
        output = call(file, results, *cluster(tmp_path, tasks_per_node=tasks))
        assert output.returncode == 0, output.stderr
    for one in found[1].glob("runs/*/metrics.jsonl"):
        other = found[2] / one.relative_to(found[1])
        lines = [
            [json.loads(line) for line in path.read_text().splitlines()] for path in (one, other)
        ]
        losses = [
            {line["step"]: line["loss"] for line in part if "loss" in line and line["step"] <= 20}
            for part in lines
        ]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for one in found[1].glob("runs/evaluate-*/predictions.csv"):
        other = found[2] / one.relative_to(found[1])
        columns = [
            [line.split(",")[:2] for line in path.read_text().splitlines()] for path in (one, other)
        ]
        assert columns[0] == columns[1]
    records = [json.loads(path.read_text()) for path in found[2].glob("runs/*/record.json")]
    assert {record["hardware"]["processes"] for record in records} == {2}


def test_a_job_goes_on_through_every_signal(long: tuple[Path, Path], tmp_path: Path) -> None:
    """SIGTERM, which comes before every end, to a job whose images are read by a process of its own; then the warning."""
    file, reference = long
    results, options = fresh(reference, tmp_path), cluster(tmp_path, cpus_per_task=1)
    assert call(file, results, *options, "--no-wait", "--num-workers", "1").returncode == 0
    job = wait_until(lambda: (run := state_of(file, results))["progress"] and run["job"])
    words("scancel", "--signal=TERM", job)
    wait_until(lambda: list(results.glob("runs/pretrain-*/checkpoint.safetensors")))
    assert state_of(file, results)["state"] == "running"
    words("scancel", "--signal=USR2", job)
    wait_until(lambda: "stopped after step" in state_of(file, results)["detail"])
    wait_until(lambda: {run["state"] for run in status(file, results)["runs"]} == {"complete"})
    assert artefacts(results) == artefacts(reference)


def test_a_controller_that_restarts_loses_nothing(long: tuple[Path, Path], tmp_path: Path) -> None:
    file, reference = long
    results, options = fresh(reference, tmp_path), cluster(tmp_path)
    with started(
        command(file, results, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as watched:
        wait_until(lambda: state_of(file, results)["progress"])
        number = int(Path("/var/lib/slurm-ci/run/slurmctld.pid").read_text())
        os.kill(number, 15)
        wait_until(
            lambda: subprocess.run(["scontrol", "ping"], capture_output=True).returncode != 0
        )
        silent = status(file, results)
        assert "SLURM does not answer" in silent["source"]
        assert [run["state"] for run in silent["runs"]] == ["running", "queued", "queued"], (
            "its own files tell"
        )
        refused = call(file, results, *options)
        assert refused.returncode == 2
        assert "nothing was submitted, nothing is changed" in refused.stderr
        subprocess.run([HERE / "up"], check=True)
        _, errors = watched.communicate(timeout=PATIENCE)
    assert watched.returncode == 0, errors
    assert artefacts(results) == artefacts(reference)


def test_a_refusal_is_told_in_slurms_words_and_changes_nothing(
    plain: tuple[Path, Path, str], tmp_path: Path
) -> None:
    file, results = plain[0], fresh(plain[1], tmp_path)
    options = cluster(tmp_path, stages={"evaluate": {"partition": "nowhere"}})
    before = words("squeue", "--me", "--noheader", "--states=PENDING,RUNNING", "--format=%i")
    output = call(file, results, *options)
    assert output.returncode == 2
    told = "sbatch refuses the jobs of stage evaluate: invalid partition specified: nowhere; Invalid partition name specified"
    assert f"{told}; nothing was submitted" in output.stderr
    assert "Traceback" not in output.stderr
    assert {run["state"] for run in status(file, results)["runs"]} == {"planned"}
    assert not list(results.glob("jobs/lmim-*"))
    queued = words("squeue", "--me", "--noheader", "--states=PENDING,RUNNING", "--format=%i")
    assert queued == before
    without = run_command(command(file, results, *cluster(tmp_path)), env={"PATH": "/nowhere"})
    assert without.returncode == 2
    assert (
        "SLURM: no srun and sbatch here; submit from a login node, or use --launcher local"
        in without.stderr
    )


def test_submitting_from_inside_a_job_works(plain: tuple[Path, Path, str], tmp_path: Path) -> None:
    file, results = tmp_path / "one.yaml", fresh(plain[1], tmp_path)
    file.write_text("title: one\nvariants: [{name: SeqCLR, method: SeqCLR}]\n")
    line = " ".join(command(file, results, *cluster(tmp_path), "--no-wait"))
    inside = [
        "srun",
        "-n",
        "1",
        "-c",
        "2",
        "--mem=1500M",
        "--gpus=1",
        "bash",
        "-c",
        f"cd {REPOSITORY} && {line}",
    ]
    run_command(inside, check=True)
    wait_until(lambda: {run["state"] for run in status(file, results)["runs"]} == {"complete"})


def test_a_job_that_was_killed_is_told_and_done_again(
    long: tuple[Path, Path], tmp_path: Path
) -> None:
    """No signal is heard, nothing is written: as where memory ran out."""
    file, reference = long
    results, options = fresh(reference, tmp_path), cluster(tmp_path)
    assert call(file, results, *options, "--no-wait", "--checkpoint-minutes", "0").returncode == 0
    run = wait_until(lambda: (run := state_of(file, results))["progress"] and run)
    wait_until(lambda: list(results.glob("runs/pretrain-*/checkpoint.safetensors")))
    process = json.loads((Path(run["folder"]) / "state.json").read_text())["process"]
    os.kill(int(process.partition(":")[2]), 9)
    told = wait_until(lambda: (run := state_of(file, results))["state"] == "failed" and run)
    assert told["detail"] == f"SLURM: FAILED (job {run['job']})"
    again = call(file, results, *options)
    assert again.returncode == 0, again.stderr
    assert "submitted 3 jobs" in again.stderr
    assert artefacts(results) == artefacts(reference)


def test_a_sweep_by_jobs_ends_with_exactly_its_trials_whatever_worker_is_killed_or_warned(
    plain: tuple[Path, Path, str], tmp_path: Path
) -> None:
    results, file = fresh(plain[1], tmp_path), REPOSITORY / "sweeps" / "mask_ratio.yaml"
    options = (*cluster(tmp_path), "--workers", "2")
    submitted = call(file, results, *options, "--no-wait")
    assert submitted.returncode == 0, submitted.stderr
    assert "submitted 2 workers" in submitted.stderr

    def ended(least: int) -> dict[str, Any]:
        found = status(file, results)
        return found if found["counts"].get("complete", 0) >= least else {}

    workers = list(wait_until(lambda: ended(1))["workers"].values())
    assert len(workers) == 2
    words(
        "scancel", "--signal=USR2", workers[0]
    )  # the warning: it lets go of its trial, and is requeued
    words("scancel", "--signal=KILL", workers[1])
    wait_until(lambda: ended(3))
    again = call(file, results, *options)
    assert again.returncode == 0, again.stderr
    found = status(file, results)
    assert (found["counts"], found["over"], found["workers"]) == ({"complete": 12}, True, {})
    assert [one["number"] for one in found["trials"]] == list(range(12))
    assert accounting(results)[workers[1]] in ("FAILED", "CANCELLED", "OUT_OF_MEMORY")
    assert accounting(results)[workers[0]] == "COMPLETED"
    parts = words(
        "sacct", "-X", "--duplicates", "-n", "-P", "-o", "State", "-j", workers[0]
    ).split()
    assert len(parts) > 1, "it was requeued"
    assert "12 complete, of 12" in call(file, results, verb="sweep-report").stdout.replace(
        "trials: ", ""
    )
