"""LMDB folders of users: broken images, filters, mixed data and label policies are counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import jpeg, write_lmdb
from whole_runs import run_experiment

from core.data.lmdb_folder import fingerprint

pytestmark = pytest.mark.slow

Samples = list[tuple[bytes | None, str | None]]


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    """80 labeled words, and the first 20 of them: 2 broken images and a label of 40 characters."""
    samples: Samples = [(jpeg(3 * index), f"Word{index % 7}!") for index in range(80)]
    samples[5:8] = [(b"broken", "lost"), (None, "gone"), (jpeg(9), "x" * 40)]
    return {
        "train": write_lmdb(tmp_path / "train", samples),
        "test": write_lmdb(tmp_path / "test", samples[:20]),
    }


def set_options(settings: dict[str, str]) -> list[str]:
    """Options `--set KEY=VALUE`."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def data_options(roots: dict[str, str]) -> list[str]:
    """Options that train and test on LMDB folders."""
    train = json.dumps([roots["train"]])
    subsets = json.dumps({"mine": {"roots": [roots["test"]]}})
    return set_options(
        {"pretrain.data.roots": train, "finetune.data.roots": train, "evaluate.subsets": subsets}
    )


def records_by_stage(results: Path) -> dict[str, dict[str, Any]]:
    """Stage -> record. A pre-training without inputs is stage `teacher`."""
    records = {}
    for path in results.glob("runs/*/record.json"):
        record = json.loads(path.read_text())
        is_teacher = record["stage"] == "pretrain" and not record["inputs"]
        records["teacher" if is_teacher else record["stage"]] = record
    return records


def test_broken_images_of_own_data_are_counted_and_every_image_is_scored(
    experiment: Path, tmp_path: Path, roots: dict[str, str]
) -> None:
    results = tmp_path / "results"
    options = (*data_options(roots), "--set", "finetune.validation=null")
    output = run_experiment(experiment, results, *options)
    assert output.returncode == 0, output.stderr
    dropped = "2 images missing or undecodable, 1 labels too long"
    assert f"Test subset mine, every image scored: {dropped}" in output.stdout
    assert f"Data of finetune: {dropped}" in output.stdout
    (predictions,) = results.glob("runs/evaluate-*/predictions.csv")
    assert len(predictions.read_text().splitlines()) == 1 + 20


@pytest.mark.parametrize(
    ("changed", "path", "expected"),
    [("test", "/nowhere", "/nowhere"), ("train", None, "num-samples is 0")],
)
def test_missing_or_empty_data_is_an_error_without_traceback(
    experiment: Path,
    tmp_path: Path,
    roots: dict[str, str],
    changed: str,
    path: str | None,
    expected: str,
) -> None:
    roots[changed] = path or write_lmdb(tmp_path / "empty", [])
    output = run_experiment(experiment, tmp_path / "results", *data_options(roots))
    assert output.returncode == 2
    assert expected in output.stderr
    assert "Traceback" not in output.stderr


def write_nested_unlabeled(folder: Path) -> Path:
    """Two LMDB folders of 20 images without labels, whose num-samples is 21."""
    for part in ("a", "b"):
        samples: Samples = [(jpeg(number), None) for number in range(20)]
        write_lmdb(folder / part, samples, count=21)
    return folder


def test_nested_filtered_mixed_and_broken_data_are_counted_in_records(
    experiment: Path, tmp_path: Path, results: Path
) -> None:
    unlabeled = write_nested_unlabeled(tmp_path / "unlabeled")
    samples: Samples = [(jpeg(number), f"w{number}") for number in range(38)]
    root = write_lmdb(tmp_path / "labeled", [*samples, (b"broken", "x"), (jpeg(9), "y" * 20)])
    filter_list = tmp_path / "filter.tsv"
    filter_list.write_text(f"fingerprint\tindex\n{fingerprint(root)[0]}\t3\n")
    filtered = {"roots": [root], "filters": [str(filter_list)]}
    mixed = filtered | {"mix": {"roots": ["synthetic:train"], "share": 0.5}}
    settings = {
        "pretrain.data": json.dumps({"roots": [str(unlabeled)]}),
        "finetune.data": json.dumps(mixed),
        "finetune.labels": "released",
        "evaluate.labels": "released",
        "evaluate.subsets": json.dumps({"mine": filtered}),
    }
    output = run_experiment(experiment, results, *set_options(settings))
    assert output.returncode == 0, output.stderr
    assert "num-samples is 21, but the last image is number 20" in output.stderr
    assert "1 left out by a filter list" in output.stdout
    metrics = {stage: record["metrics"] for stage, record in records_by_stage(results).items()}
    assert metrics["pretrain"]["dropped"]["unreadable"] == 2
    in_training = {"filtered": 1, "over_long": 1, "replaced": 1, "unreadable": 1}
    assert metrics["finetune"]["dropped"].items() >= in_training.items()
    assert metrics["evaluate"]["counts"]["mine"]["images"] == 39
    in_test = {"replaced": 2, "filtered": 1, "unreadable": 1}
    assert metrics["evaluate"]["dropped"]["mine"].items() >= in_test.items()
