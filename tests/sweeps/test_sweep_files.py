"""Sweep files: the shipped ones, mistakes in a file, and options of the command line."""

import re
from pathlib import Path
from typing import Any

import pytest
from commands import REPOSITORY
from conftest import call
from sweep_helpers import RATIO, TINY, load_search, write_sweep

from core.runtime.errors import UserError
from sweeps.engine.schema import read_sweep

pytestmark = pytest.mark.slow

SHIPPED = sorted((REPOSITORY / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_can_be_run_at_every_scale_with_validation(
    file: Path, tmp_path: Path
) -> None:
    assert len(file.read_text().splitlines()) <= 40
    assert f"python run.py sweeps/{file.name}" in file.read_text()
    for scale in ("smoke", "mini", "former_mini", "small"):
        search = load_search(file, tmp_path, scale)
        assert all("leaves none of" in note for note in search.notes)
        assert search.base_values is not None


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_has_a_scale_where_whole_words_are_recognized(
    file: Path, tmp_path: Path
) -> None:
    assert load_search(file, tmp_path).scale == "former_mini"


@pytest.mark.parametrize(
    ("in_file", "typed", "chosen"),
    [(None, None, "mini"), ("smoke", None, "smoke"), ("smoke", "small", "small")],
)
def test_a_typed_scale_precedes_the_sweeps_and_that_the_experiments(
    in_file: str | None, typed: str | None, chosen: str, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path, scale=in_file)
    search = load_search(file, tmp_path / "results", typed)
    assert search.scale == chosen
    assert search.id.startswith(f"tiny.{chosen}-")


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    file = write_sweep(tmp_path)
    text = file.read_text()
    head, _, _ = text.partition("space:")
    space = "space:\n  pretrain.optimizer.base_lr: {float: [1e-5, 1e-3], log: true}\n"
    file.write_text(head + space)
    search = load_search(file, tmp_path / "results")
    assert search.space["pretrain.optimizer.base_lr"].float_range == (0.00001, 0.001)


def test_the_example_of_the_guide_can_be_run(tmp_path: Path) -> None:
    guide = (REPOSITORY / "sweeps" / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    file = tmp_path / "example.yaml"
    file.write_text(example)
    search = load_search(file, tmp_path / "results", "smoke")
    assert search.space["pretrain.optimizer.base_lr"].float_range == (1e-5, 1e-3)
    assert search.base_values is not None


SPACE_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "space"),
    ({"pretrain.mask.ratio": {"float": [0.9, 0.5]}}, "lower end first"),
    ({"pretrain.mask.ratio": {"float": [0.5, 0.9], "int": [1, 2]}}, "give one of float"),
    (
        {"pretrain.mask.ratio": {"flaot": [0.5, 0.9]}},
        "unknown key; allowed: categorical, float, int, log",
    ),
    ({"a.b": {"float": [0, 1], "log": True}}, "begins above 0"),
    ({"a.b": {"float": [0, 1], "when": {"c": 1}}}, "c is not searched above it"),
    ({"a": {"categorical": [1]}, "b": {"float": [0, 1], "when": {"a": 2}}}, "a is never 2"),
    (
        {"pretrain.mask.ratoi": {"float": [0.5, 0.9]}},
        "pretrain.mask.ratoi: unknown key; allowed: block_share, focus, kind",
    ),
    ({"pretrain.mask.ratio": {"float": [1.1, 1.9]}}, "no end of it can be run"),
    (
        {"pretrain.target.nothing": {"float": [1, 2], "relative": True}},
        "the base row has no number there",
    ),
    ({"a": {"categorical": {}}}, "give a list of choices"),
    ({"a": {"categorical": 0.7}}, "give a list of choices"),
    ({"a": {"categorical": [{"kind": "random"}]}}, "need names"),
    ({"a": {"categorical": [0.7, 0.7]}}, "duplicate choice"),
    ({"a": {"categorical": [1, "1"]}}, "duplicate choice"),
    ({"a": {"categorical": [1, 2]}, "b": {"float": [0, 1], "when": {"a": []}}}, "is never met"),
    ({"a": {"float": [0, 1]}, "b": {"float": [0, 1], "when": {"a": 0.5}}}, "a is a float"),
    ({"a": {"float": ["0", "1"]}}, "give two numbers"),
    ({"a": {"float": [0, 1], "step": 2}}, "step 2 is larger than the range"),
    ({"a": {"int": [1, 10**12]}}, "too large"),
    ({"a.b": {"float": [0, 1]}, "a": {"categorical": [1]}}, "a.b is searched too"),
    (
        {"pretrain.optimizer.final_lr": {"float": [0.1, 1], "log": True, "relative": True}},
        "row's 0.0",
    ),
]
SPACE_OF_DATA: list[dict[str, Any]] = [
    {"finetune.validation.roots": {"categorical": {"a": ["synthetic:validation"]}}},
    {"finetune.data.roots": {"categorical": {"a": ["synthetic:validation"]}}},
    {"evaluate.labels": {"categorical": ["strict", "released"]}},
]
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"objective": "general"}, "objective: general is measured on test images"),
    ({"objective": "test_avg"}, "test_avg is measured on test images"),
    ({"objective": "validation_loss"}, "choose from validation_avg, validation_wavg"),
    ({"sampler": {"kind": "grid"}}, "a grid needs a step"),
    ({"sampler": {"kind": "tep"}}, "'tep'"),
    ({"sampler": {"kind": "tpe", "n_trials": 3}}, "unknown key"),
    ({"pruner": {"kind": "median", "at": [0.5, 0.25]}}, "must rise"),
    ({"pruner": {"kind": "median", "at": [1.5]}}, "at.0: 1.5"),
    ({"pruner": {"kind": "hyperband", "min_resource": 50, "max_resource": 25}}, "max_resource 25"),
    ({"pruner": {"kind": "halving", "min_resource": 80}}, "min_resource 80"),
    ({"trials": 0}, "trials: 0"),
    ({"trials": True}, "trials"),
    ({"seeds": [0, 0]}, "duplicate"),
    ({"spaces": {}}, "unknown key; allowed: budget"),
    ({"experiment": "nowhere.yaml"}, "nowhere.yaml: no such file"),
    ({"variant": "MIM"}, "variant: MIM: "),
    (
        {
            "space": {"pretrain.mask.ratio": {"float": [0.6, 1.4], "step": 0.2}},
            "sampler": {"kind": "grid"},
        },
        "trials 4 is more than the grid's 2 points that can be run",
    ),
    ({"space": RATIO, "set": TINY | {"init.encoder": "scratch"}}, "nothing that is trained"),
    (
        {"set": TINY | {"finetune.validation": {"roots": ["synthetic:train"]}}},
        "synthetic:train is trained on",
    ),
    ({"set": TINY | {"finetune.validation": None}}, "scale smoke has no validation set"),
    ({"set": TINY | {"init.recognizer": "file.pth"}}, "the base row trains nothing"),
    *(({"space": space}, message) for space, message in SPACE_MISTAKES),
    *(({"space": space}, "must not be chosen by accuracy") for space in SPACE_OF_DATA),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_a_mistake_in_a_sweep_file_is_reported_in_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    file = write_sweep(tmp_path, **changes)
    code, out, err = call(capsys, file, "--results", results, "--dry-run")
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert not (results / "sweeps").exists()


@pytest.mark.parametrize(("root", "subset"), [("synthetic:curve", "curve"), ("general", "general")])
def test_a_validation_set_that_is_a_test_set_is_refused(
    root: str, subset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path, set=TINY | {"finetune.validation": {"roots": [root]}})
    code, _, err = call(capsys, file, "--results", tmp_path / "results", "--dry-run")
    assert code == 2
    assert f"finetune.validation: synthetic:{subset} is the test set" in err


def test_a_benchmark_that_the_row_does_not_evaluate_is_refused_for_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--results", tmp_path, "--precision", "fp32", "--scale", "paper")
    setting = ("--set", "finetune.validation.roots=[svt]")
    code, _, err = call(capsys, "plan", SHIPPED[0], *options, *setting)
    assert code == 2
    assert "finetune.validation: svt is the test set svt" in err
    changes = {
        "finetune.validation": {"roots": ["synthetic:curve"]},
        "evaluate.subsets": {"general": {"roots": ["synthetic:general"]}},
    }
    file = write_sweep(tmp_path, set=TINY | changes)
    code, _, err = call(capsys, file, "--results", tmp_path, "--dry-run")
    assert code == 2
    assert "synthetic:curve is the test set" in err


def test_options_of_sweeps_and_of_experiments_are_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path)
    row = tmp_path / "row.yaml"
    for arguments, message in (
        ((file, "--jobs", 2), "--workers"),
        ((row, "--workers", 2), "--workers is for sweeps"),
        ((row, "--storage", "sqlite://"), "--storage is for sweeps"),
        ((file, row), str(file)),
        (("compare", file), "sweep"),
        (("sweep-report", row), "not a sweep"),
        (("sweep-report", file), "this sweep has not been run"),
        ((file, "--set", "pretrain.mask.ratio=0.7"), "the sweep searches pretrain.mask.ratio"),
        ((file, "--storage", "nonsense"), "not an address like"),
        ((file, "--storage", "sqlite:////nowhere/at/all.db"), "unable to open database file"),
        ((file, "--storage", "oracle+none://x/y"), "--storage oracle+none://x/y"),
    ):
        results = tmp_path / "results"
        code, _, err = call(capsys, *arguments, "--scale", "smoke", "--results", results)
        assert code == 2, err
        assert message in err.splitlines()[-1]


def test_an_experiment_file_is_not_read_as_a_sweep() -> None:
    with pytest.raises(UserError, match="not a sweep"):
        read_sweep(REPOSITORY / "experiments" / "ablation_mask.yaml")
