"""Whole runs at smoke scale, in processes of their own: resume, kill, join, fail, interrupt, broken data."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE, REPOSITORY, run_command, started, wait_until
from conftest import jpeg, write_lmdb

from core.data.lmdb_folder import fingerprint
from experiments.cli.describe import describe_status
from experiments.planning.planner import make_plan
from results.store import Store

pytestmark = pytest.mark.slow

ONE_ROW = "title: one row\ntable: table1\nvariants: [{name: LMIM, reported: {guidance: true, alignment: true}}]\n"


def command(
    file: Path, results: Path, *options: str, verb: str = "run", scale: str = "smoke"
) -> list[str]:
    return [
        sys.executable,
        "run.py",
        verb,
        str(file),
        "--scale",
        scale,
        "--results",
        str(results),
        "--device",
        "cpu",
        *options,
    ]


def call(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return run_command(command(*arguments, **options))


def status(file: Path, results: Path, **overrides: Any) -> dict[str, dict[str, Any]]:
    """Stage (the teacher apart) -> that run's entry."""
    store = Store(results)
    overrides = {key.replace("__", "."): value for key, value in overrides.items()}
    plan = make_plan(
        [file], "smoke", store, precision=lambda: "fp32", overrides=overrides, seeds=None
    )
    runs = describe_status(plan, store)["runs"]
    return {
        "teacher" if run["rows"][0].startswith("teacher") else run["stage"]: run for run in runs
    }


def artefacts(results: Path) -> dict[str, bytes]:
    """What must be equal, bit by bit, however a run was interrupted."""
    names = ("model.safetensors", "predictions.csv")
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for name in names
        for path in results.glob(f"runs/*/{name}")
    }


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("experiment") / "one_row.yaml"
    file.write_text(ONE_ROW)
    return file


@pytest.fixture(scope="module")
def finished(
    experiment: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An experiment that ran through without a disturbance."""
    results = tmp_path_factory.mktemp("finished")
    output = call(experiment, results)
    assert output.returncode == 0, output.stderr
    return results, output


def with_data_of(finished: Path, results: Path) -> Path:
    """A fresh results folder that has the rendered words already."""
    shutil.copytree(finished / "data", results / "data")
    return results


def test_an_experiment_runs_to_its_table(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path
) -> None:
    results, output = finished
    assert re.search(r"\| LMIM +\| reported +\| 85\.0", output.stdout)
    assert (results / "tables" / "one_row.smoke.md").read_text() in output.stdout
    assert {run["state"] for run in status(experiment, results).values()} == {"complete"}


def test_the_record_says_where_its_numbers_come_from(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path
) -> None:
    runs = status(experiment, finished[0])
    record = json.loads((Path(runs["evaluate"]["folder"]) / "record.json").read_text())
    assert record["inputs"] == {"recognizer": runs["finetune"]["id"]}
    assert set(record["metrics"]["counts"]) == set(record["data"])
    assert sum(count["images"] for count in record["metrics"]["counts"].values()) == 7 * 16
    assert all(root["fingerprint"] for roots in record["data"].values() for root in roots)
    assert {"commit", "clean"} == record["code"].keys()
    assert record["versions"]["torch"].startswith("2.")
    assert record["hardware"]["cores"] >= 1
    training = json.loads((Path(runs["pretrain"]["folder"]) / "record.json").read_text())
    assert training["inputs"] == {"teacher": runs["teacher"]["id"]}
    assert training["config"]["seed"] == training["seed"] == 0
    assert training["metrics"]["images_seen"] == 1024
    assert training["metrics"]["train_seconds"] > 0
    rows = (Path(runs["evaluate"]["folder"]) / "predictions.csv").read_text().splitlines()
    assert rows[0] == "subset,index,label,prediction,confidence,readable"
    assert len(rows) == 1 + 7 * 16


def test_the_same_command_again_trains_nothing(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path
) -> None:
    results, first = finished
    before = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/*")}
    again = call(experiment, results)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/*/*")} == before


def kill_when(arguments: list[str], reached: Callable[[], bool]) -> None:
    """Start a command and kill -9 all its processes once a condition holds."""
    with started(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(reached, process, pause=0.005)


def test_a_killed_experiment_ends_with_the_same_bits(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path, tmp_path: Path
) -> None:
    """kill -9 in the middle of every stage, and the same command again each time."""
    results = with_data_of(finished[0], tmp_path)
    runs = status(experiment, results)
    options = ("--checkpoint-minutes", "0")
    for stage in ("teacher", "pretrain", "finetune"):
        checkpoint = Path(runs[stage]["folder"]) / "checkpoint.safetensors"
        kill_when(command(experiment, results, *options), checkpoint.exists)
        assert checkpoint.exists(), f"{stage} was killed in its middle"
        # a busy machine takes a moment to end killed processes
        wait_until(lambda name=stage: status(experiment, results)[name]["state"] != "running")
        assert status(experiment, results)[stage]["state"] == "preempted"
    state = Path(runs["evaluate"]["folder"]) / "state.json"
    kill_when(command(experiment, results, *options), lambda: state.exists())
    assert not (Path(runs["evaluate"]["folder"]) / "record.json").exists()
    assert call(experiment, results, *options).returncode == 0
    assert artefacts(results) == artefacts(finished[0])


def test_ctrl_c_leaves_a_checkpoint_and_the_state_preempted(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path, tmp_path: Path
) -> None:
    results = with_data_of(finished[0], tmp_path)
    options = ("--set", "finetune.optimizer.epochs=400")
    folder = Path(
        status(experiment, results, finetune__optimizer__epochs=400)["finetune"]["folder"]
    )
    log = folder / "metrics.jsonl"
    with started(
        command(experiment, results, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: log.exists() and log.read_text(), process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "the same command goes on from here" in errors
    assert (folder / "checkpoint.safetensors").exists()
    assert (
        status(experiment, results, finetune__optimizer__epochs=400)["finetune"]["state"]
        == "preempted"
    )


def test_two_commands_at_once_compute_every_run_once(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path, tmp_path: Path
) -> None:
    results = with_data_of(finished[0], tmp_path)
    arguments = command(experiment, results)
    with ExitStack() as ends:
        both = [
            ends.enter_context(
                started(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            )
            for _ in range(2)
        ]
        outputs = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert artefacts(results) == artefacts(finished[0])
    for path in results.glob("runs/*/metrics.jsonl"):
        steps = [line for line in map(json.loads, path.read_text().splitlines()) if "loss" in line]
        assert len(steps) == len({line["step"] for line in steps}), (
            "a run that two processes wrote has steps twice"
        )


def test_a_failed_run_keeps_its_reason_and_does_not_stop_the_others(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    results = with_data_of(finished[0], tmp_path / "results")
    file = tmp_path / "two_rows.yaml"
    bad = "{name: diverges, set: {pretrain.optimizer.base_lr: 1.0e+30}}"
    file.write_text(f"title: two rows\nvariants: [{bad}, {{name: LMIM}}]\n")
    output = call(file, results)
    assert output.returncode == 1
    assert "training diverged; lower the learning rate" in output.stderr
    assert "3 of 7 runs are not complete" in output.stderr
    assert any("NonFiniteLoss" in path.read_text() for path in results.glob("runs/*/traceback.txt"))
    assert "| diverges |" in output.stdout.replace("diverges  ", "diverges ")
    assert "missing" in output.stdout
    assert artefacts(results).keys() >= artefacts(finished[0]).keys(), "the other row is complete"


def test_a_defect_leaves_its_traceback_in_the_runs_folder(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path, tmp_path: Path
) -> None:
    results = with_data_of(finished[0], tmp_path)
    folder = Path(status(experiment, results)["teacher"]["folder"])
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"no_step": 1}\n')  # as no version of ours wrote it
    output = call(experiment, results)
    assert output.returncode == 1
    assert "KeyError: 'step'" in (folder / "traceback.txt").read_text()
    assert str(folder / "traceback.txt") in output.stderr
    (folder / "metrics.jsonl").unlink()
    assert call(experiment, results).returncode == 0, (
        "a failed run is tried again by the next command"
    )


@pytest.fixture
def real_like(tmp_path: Path) -> dict[str, str]:
    """Labelled LMDB roots that do not come from us, one with broken images."""
    words = [(jpeg(3 * index), f"Word{index % 7}!") for index in range(80)]
    words[5:8] = [(b"broken", "lost"), (None, "gone"), (jpeg(9), "x" * 40)]
    return {
        "train": write_lmdb(tmp_path / "train", words),
        "test": write_lmdb(tmp_path / "test", words[:20]),
    }


def own_roots(roots: dict[str, str]) -> list[str]:
    subsets = json.dumps({"mine": {"roots": [roots["test"]]}})
    pairs = {
        "pretrain.data.roots": json.dumps([roots["train"]]),
        "finetune.data.roots": json.dumps([roots["train"]]),
        "evaluate.subsets": subsets,
    }
    return [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]


def test_own_data_with_broken_images_is_counted_and_every_image_scored(
    experiment: Path, tmp_path: Path, real_like: dict[str, str]
) -> None:
    results = tmp_path / "results"
    output = call(experiment, results, *own_roots(real_like), "--set", "finetune.validation=null")
    assert output.returncode == 0, output.stderr
    assert (
        "Test subset mine, every image scored: 2 images missing or undecodable, 1 labels too long"
        in output.stdout
    )
    assert "Data of finetune: 2 images missing or undecodable, 1 labels too long" in output.stdout
    rows = [
        path.read_text().splitlines() for path in results.glob("runs/evaluate-*/predictions.csv")
    ]
    assert [len(lines) for lines in rows] == [1 + 20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": "/nowhere"}, "/nowhere: no LMDB here (data.mdb is missing)"),
        ({"train": "EMPTY"}, "the data set is empty (num-samples is 0)"),
    ],
)
def test_missing_or_empty_data_end_with_one_sentence(
    experiment: Path,
    tmp_path: Path,
    real_like: dict[str, str],
    change: dict[str, str],
    message: str,
) -> None:
    empty = write_lmdb(tmp_path / "empty", [])
    roots = real_like | {role: empty if path == "EMPTY" else path for role, path in change.items()}
    output = call(experiment, tmp_path / "results", *own_roots(roots))
    assert output.returncode == 2
    assert message in output.stderr
    assert "Traceback" not in output.stderr


def test_a_teacher_of_another_shape_is_refused_with_one_sentence(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path, tmp_path: Path
) -> None:
    results = with_data_of(finished[0], tmp_path)
    teacher = Path(status(experiment, finished[0])["teacher"]["folder"]) / "model.safetensors"
    own = ("--set", f"teacher.file={teacher}")
    output = call(experiment, results, *own, "--set", "encoder.depth=3")
    assert output.returncode == 2
    assert "weights matched (first missing: encoder.blocks.2." in output.stderr
    assert "Traceback" not in output.stderr
    assert call(experiment, results, *own).returncode == 0, (
        "a file of the right shape serves as teacher"
    )


def test_real_images_go_through_the_same_code(shared: Path, tmp_path: Path) -> None:
    """Planned only: the whole takes minutes, README says how."""
    file = REPOSITORY / "experiments" / "ablation_alignment.yaml"
    output = call(file, tmp_path, "--json", verb="plan", scale="real_smoke")
    runs = json.loads(output.stdout)["runs"]
    assert {run["images"] for run in runs if run["stage"] == "evaluate"} == {3647}
    assert not any(run["missing"] for run in runs)


def test_real_folders_mixed_filtered_and_broken_run_to_their_table(
    experiment: Path, tmp_path: Path, finished: tuple[Path, Any]
) -> None:
    """Two nested roots without labels to pre-train on; a labeled one with a broken image, filtered and mixed with rendered
    words, to fine-tune on; the policy of the released code in training and in the test."""
    for part in ("a", "b"):
        write_lmdb(
            tmp_path / "unlabeled" / part, [(jpeg(number), None) for number in range(20)], count=21
        )
    samples = [(jpeg(number), f"w{number}") for number in range(38)] + [
        (b"broken", "x"),
        (jpeg(9), "y" * 20),
    ]
    root = write_lmdb(tmp_path / "labeled", samples)
    filters = tmp_path / "filter.tsv"
    filters.write_text(f"fingerprint\tindex\n{fingerprint(root)[0]}\t3\n")
    mix = f"{{roots: [{root}], mix: {{roots: ['synthetic:train'], share: 0.5}}, filters: [{filters}]}}"
    settings = {
        "pretrain.data": f"{{roots: [{tmp_path / 'unlabeled'}]}}",
        "finetune.data": mix,
        "finetune.labels": "released",
        "evaluate.labels": "released",
        "evaluate.subsets": f"{{mine: {{roots: [{root}], filters: [{filters}]}}}}",
    }
    results = with_data_of(finished[0], tmp_path / "results")
    output = call(
        experiment,
        results,
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    )
    assert output.returncode == 0, output.stderr
    assert "num-samples is 21, but the last image is number 20" in output.stderr
    records = {}
    for path in results.glob("runs/*/record.json"):
        record = json.loads(path.read_text())
        records[
            record["stage"] if record["inputs"] or record["stage"] != "pretrain" else "teacher"
        ] = record
    assert records["pretrain"]["metrics"]["dropped"]["unreadable"] == 2
    dropped = records["finetune"]["metrics"]["dropped"]
    assert (
        dropped["filtered"],
        dropped["over_long"],
        dropped["replaced"],
        dropped["unreadable"],
    ) == (1, 1, 1, 1)
    assert records["evaluate"]["metrics"]["counts"]["mine"]["images"] == 39
    dropped = records["evaluate"]["metrics"]["dropped"]["mine"]
    assert (dropped["replaced"], dropped["filtered"], dropped["unreadable"]) == (2, 1, 1)
    assert "1 left out by a filter list" in output.stdout


def test_a_file_that_lacks_its_data_is_left_out_and_the_others_run(
    finished: tuple[Path, subprocess.CompletedProcess[str]], experiment: Path, tmp_path: Path
) -> None:
    results = with_data_of(finished[0], tmp_path / "results")
    blocked_experiments = tmp_path / "lacking.yaml"
    blocked_experiments.write_text(
        "title: x\nset: {finetune.data.roots: [/nowhere]}\nvariants: [{name: a}]\n"
    )
    both = command(experiment, results)
    both.insert(both.index(str(experiment)), str(blocked_experiments))
    output = run_command(both)
    assert output.returncode == 2
    assert "error: lacking was left out: /nowhere: no LMDB here" in output.stderr
    assert "# Table 1: one row" in output.stdout
    assert {run["state"] for run in status(experiment, results).values()} == {"complete"}
    alone = call(blocked_experiments, results)
    assert alone.returncode == 2
    assert (
        "error: /nowhere: no LMDB here (data.mdb is missing); experiments/scales/smoke.yaml names what"
        in alone.stderr
    )
