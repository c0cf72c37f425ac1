"""Truth values and texts are never numbers: in experiments, `--set`, clusters and sweeps."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from commands import REPOSITORY
from conftest import call
from plans import TABLE1, plan_of

from core.config import FrozenModel, Optimizer
from core.runtime.errors import UserError
from experiments.planning.registry import user_roots
from experiments.slurm.cluster import read_cluster
from results.reported import find_row


def plan_text(folder: Path, *lines: str) -> set[int]:
    """The seeds of the plan of an experiment file with these lines."""
    file = folder / "mine.yaml"
    file.write_text("\n".join(["title: t", *lines, "variants: [{name: a}]"]))
    return {cell.seed for cell in plan_of(folder, file).cells}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("pretrain.optimizer.batch", "true"),
        ("pretrain.optimizer.batch", '"64"'),
        ("pretrain.optimizer.batch", "64.5"),
        ("pretrain.optimizer.batch", ".inf"),
        ("pretrain.optimizer.epochs", "true"),
        ("pretrain.optimizer.epochs", "yes"),
        ("pretrain.optimizer.epochs", ".inf"),
        ("finetune.optimizer.epochs", '"5"'),
        ("encoder.image", "[32, true]"),
        ("pretrain.guidance.strength", "true"),
        ("synthetic.train", "true"),
        ("epoch_multiplier.finetune", "on"),
        ("teacher.images", "true"),
        ("evaluate.last", "true"),
        ("transfers", "yes"),
    ],
)
def test_a_setting_refuses_what_is_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, value: str
) -> None:
    options = ("--scale", "smoke", "--results", tmp_path, "--set", f"{setting}={value}")
    code, _, err = call(capsys, "plan", TABLE1, *options)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"--set: {setting}" in line
    with pytest.raises(UserError, match=r"must be|multiplier"):
        plan_text(tmp_path, f"set: {{{setting}: {value}}}")


@pytest.mark.parametrize("seeds", ["[yes, no]", "[true]", '["1"]', "[1.5]", "3"])
def test_seeds_are_integers_in_a_list(tmp_path: Path, seeds: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml: seeds"):
        plan_text(tmp_path, f"seeds: {seeds}")


@pytest.mark.parametrize(("seeds", "chosen"), [("[010]", {10}), ("[2.0, 1]", {1, 2})])
def test_a_leading_zero_is_decimal_and_2_0_is_an_integer(
    tmp_path: Path, seeds: str, chosen: set[int]
) -> None:
    assert plan_text(tmp_path, f"seeds: {seeds}") == chosen


def test_a_float_without_fraction_is_an_integer() -> None:
    assert Optimizer(base_lr=1, batch=64.0) == Optimizer(base_lr=1, batch=64)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("nodes: true", "nodes"),
        ("time: true", "time"),
        ("parallelism: '64'", "parallelism"),
        ("poll_seconds: .inf", "poll_seconds"),
        ("scales: {mini: {nodes: true}}", "scales.mini.nodes"),
        ("stages: {probe: {nodes: yes}}", "stages.probe.nodes"),
        (
            "scales: {mini: {stages: {probe: {cpus_per_task: true}}}}",
            "scales.mini.stages.probe.cpus_per_task",
        ),
    ],
)
def test_a_cluster_file_refuses_what_is_no_number(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        read_cluster(file, "smoke")
    assert f"{file}: {key}: must be" in str(raised.value)


@pytest.mark.parametrize("key", ["compare_with: true", "compare_with: [1]", "method: true"])
def test_names_are_texts(tmp_path: Path, key: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"title: t\nvariants: [{{name: a, {key}}}]")
    with pytest.raises(UserError, match=r"variants\.0\.(compare_with|method): must be text"):
        plan_of(tmp_path, file)


def test_a_reported_truth_value_is_not_the_number_1() -> None:
    keys: dict[str, Any] = {"guidance": True, "alignment": True}
    assert find_row("table1", keys) is not None
    for value in (1, 1.0, "yes"):
        with pytest.raises(UserError, match="guidance"):
            find_row("table1", keys | {"guidance": value})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("svt: true", "svt: must be a folder"),
        ("svt: &a [*a]", "line 1: svt.0: an alias"),
        ("svt: /a\nsvt: /b", "line 2: duplicate key svt"),
        ("- svt", "a list"),
    ],
)
def test_a_mistake_in_the_users_data_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, part: str
) -> None:
    file = tmp_path / "data.local.yaml"
    file.write_text(text)
    monkeypatch.setenv("LMIM_DATA_FILE", str(file))
    with pytest.raises(UserError) as raised:
        user_roots()
    assert str(raised.value).startswith(f"{file}: {part}")


def models() -> list[type[FrozenModel]]:
    """All models of settings, of all modules."""
    for package in ("core", "experiments", "results", "sweeps", "analysis"):
        for path in (REPOSITORY / package).rglob("*.py"):
            if "(FrozenModel)" in path.read_text():
                import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    found: list[type[FrozenModel]] = [FrozenModel]
    for model in found:
        found += model.__subclasses__()
    return found


def numbers_in(schema: Any) -> list[dict[str, Any]]:
    """The schemas of numbers inside a pydantic schema."""
    if isinstance(schema, list | tuple):
        return [number for part in schema for number in numbers_in(part)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if schema.get("type") in ("int", "float") else []
    return here + [
        number for key in schema if key != "metadata" for number in numbers_in(schema[key])
    ]


def test_every_number_of_every_model_is_strict() -> None:
    lax = {
        model.__name__
        for model in models()
        for number in numbers_in(model.__pydantic_core_schema__)
        if not number.get("strict")
    }
    assert lax <= {"Resources", "ScaleResources", "Cluster"}  # texts of sbatch's options
