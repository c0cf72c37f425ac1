"""Files, settings and records of version 0.1 stay valid: each former key is an alias."""

import json
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from core.config import Data
from core.runtime.former_keys import FORMER_KEYS, current_key, current_root, with_current_keys
from core.runtime.yaml import read_yaml
from core.synthetic.dataset import dataset_fingerprint
from experiments.planning.diagnostics import Layer
from experiments.planning.registry import DataSet
from experiments.planning.schema import HERE, read_experiment
from results.store import Store
from sweeps.engine.schema import read_sweep

# One file with each key in the spelling of version 0.1, and the same file as it is spelled now
FORMER = """
title: old
set:
  length: {pretrain: 2, finetune: 1}
  rendered.train: 256
  stand_ins: true
  about: mine
variants:
  - name: scratch
    set: {given.encoder: scratch, finetune.optimiser.layer_decay: 0.9}
  - name: LMIM
    against: scratch
    set:
      pretrain.data.roots: ["rendered:train"]
      length.finetune: 3
  - name: pixels
    against: [scratch, LMIM]
    set:
      pretrain.target: {kind: pixel, normalised: false}
      methods.MIM.pretrain.optimiser.clip: 1.0
  - name: recognizer
    against: LMIM
    set: {given.recognizer: model.safetensors}
"""
TODAY = """
title: old
set:
  epoch_multiplier: {pretrain: 2, finetune: 1}
  synthetic.train: 256
  substitute_synthetic: true
  description: mine
variants:
  - name: scratch
    set: {init.encoder: scratch, finetune.optimizer.layer_decay: 0.9}
  - name: LMIM
    compare_with: scratch
    set:
      pretrain.data.roots: ["synthetic:train"]
      epoch_multiplier.finetune: 3
  - name: pixels
    compare_with: [scratch, LMIM]
    set:
      pretrain.target: {kind: pixel, normalized: false}
      methods.MIM.pretrain.optimizer.clip: 1.0
  - name: recognizer
    compare_with: LMIM
    set: {init.recognizer: model.safetensors}
"""


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("scale", ["smoke", "mini", "small"])
def test_a_file_in_the_former_spelling_plans_the_same_runs(tmp_path: Path, scale: str) -> None:
    plans = [
        plan_of(tmp_path, write(tmp_path / folder, "mine", text), scale=scale)
        for folder, text in (("former", FORMER), ("today", TODAY))
    ]
    assert list(plans[0].runs) == list(plans[1].runs)
    assert plans[0].cells == plans[1].cells
    assert plans[0].runs == plans[1].runs
    assert plans[0].description == "mine"


def test_a_former_file_compares_the_same_rows(tmp_path: Path) -> None:
    former = read_experiment(write(tmp_path, "former", FORMER))
    assert [former.compared_rows(number) for number in range(4)] == [
        (),
        ("scratch",),
        ("scratch", "LMIM"),
        ("LMIM",),
    ]


@pytest.mark.parametrize(
    ("former", "today"),
    [
        ({"given.encoder": "scratch"}, {"init.encoder": "scratch"}),
        ({"length.finetune": 2}, {"epoch_multiplier.finetune": 2}),
        ({"length": {"pretrain": 2}}, {"epoch_multiplier": {"pretrain": 2}}),
        ({"rendered.train": 128}, {"synthetic.train": 128}),
        ({"stand_ins": False}, {"substitute_synthetic": False}),
        (
            {"finetune.data.roots": ["rendered:validation"]},
            {"finetune.data.roots": ["synthetic:validation"]},
        ),
        (
            {"finetune.data.mix": {"roots": ["rendered:train"], "share": 0.5}},
            {"finetune.data.mix": {"roots": ["synthetic:train"], "share": 0.5}},
        ),
        (
            {"evaluate.subsets": {"mine": {"roots": ["rendered:curve"]}}},
            {"evaluate.subsets": {"mine": {"roots": ["synthetic:curve"]}}},
        ),
        ({"pretrain.optimiser.epochs": 3}, {"pretrain.optimizer.epochs": 3}),
    ],
)
def test_settings_of_the_command_line_may_use_former_keys(
    tmp_path: Path, former: dict[str, Any], today: dict[str, Any]
) -> None:
    runs = plan_of(tmp_path, overrides=former).runs
    assert runs == plan_of(tmp_path, overrides=today).runs
    assert runs.keys() != plan_of(tmp_path).runs.keys()


def test_a_former_key_that_a_row_sets_is_noted(tmp_path: Path) -> None:
    file = write(tmp_path, "mine", FORMER)
    notes = plan_of(tmp_path, file, overrides={"length.finetune": 2}).notes
    assert any("epoch_multiplier.finetune" in note and "'LMIM'" in note for note in notes)


def test_bases_and_scales_may_use_former_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plan_of(tmp_path).runs

    def former_layer(kind: str, name: str) -> Layer:
        tree = read_yaml(HERE / kind / f"{name}.yaml")
        text = json.dumps(_former(tree)).replace("synthetic:", "rendered:")
        written = write(tmp_path / "experiments" / kind, name, text)
        assert "stand_ins" in text or kind == "base"
        return Layer(str(written), with_current_keys(read_yaml(written)))

    monkeypatch.setattr("experiments.planning.recipe.file_layer", former_layer)
    assert plan_of(tmp_path).runs == expected


def _former(tree: Any) -> Any:
    """Settings with all keys, dotted ones too, in the spelling of version 0.1."""
    if not isinstance(tree, dict):
        return tree
    return {
        ".".join(FORMER_KEYS.get(part, part) for part in key.split(".")): _former(value)
        for key, value in tree.items()
    }


def test_sweeps_may_use_former_keys(tmp_path: Path) -> None:
    text = (
        "title: x\nexperiment: experiments/ablation_alignment.yaml\ntrials: 3\n"
        "set: {given.encoder: scratch}\n"
        "space:\n"
        "  length.finetune: {float: [1, 2]}\n"
        "  finetune.optimiser.layer_decay: {categorical: [0.5, 1.0]}\n"
        "  finetune.optimiser.base_lr:\n"
        "    {float: [1, 2], when: {finetune.optimiser.layer_decay: 0.5}}\n"
    )
    sweep = read_sweep(write(tmp_path, "mine", text))
    assert list(sweep.space) == [
        "epoch_multiplier.finetune",
        "finetune.optimizer.layer_decay",
        "finetune.optimizer.base_lr",
    ]
    assert list(sweep.space["finetune.optimizer.base_lr"].when) == [
        "finetune.optimizer.layer_decay"
    ]
    assert sweep.set == {"init.encoder": "scratch"}


def test_records_and_data_sets_of_version_0_1_are_read() -> None:
    data = Data.model_validate({"roots": ["rendered:train", "rendered_chinese:scene", "iiit5k"]})
    assert data.roots == ("synthetic:train", "synthetic_chinese:scene", "iiit5k")
    data_set = DataSet.model_validate(
        {"root": "x", "title": "x", "published": "x", "stand_in": "rendered:curve"}
    )
    assert data_set.synthetic_substitute == "synthetic:curve"


def test_validation_of_version_0_1_is_read(tmp_path: Path) -> None:
    run = Store(tmp_path).run("finetune-x")
    run.folder.mkdir(parents=True)
    run.write_validation({"rendered:validation": [True, False]})
    validation = run.validation()
    assert validation is not None
    assert list(validation) == ["synthetic:validation"]


def test_folders_of_synthetic_words_keep_their_names(tmp_path: Path) -> None:
    (run,) = {
        run.data["train"]
        for run in plan_of(tmp_path, overrides={"rendered.train": 256}).runs.values()
        if run.stage == "finetune"
    }
    (root,) = run
    assert root.synthetic is not None
    assert Path(root.path) == tmp_path / "data" / dataset_fingerprint(root.synthetic) / "train"


@pytest.mark.parametrize(
    ("former", "today"),
    [
        ("given.encoder", "init.encoder"),
        ("length", "epoch_multiplier"),
        ("pretrain.target.normalised", "pretrain.target.normalized"),
        ("evaluate.subsets.rendered.roots", "evaluate.subsets.rendered.roots"),
        ("benchmarks.length.about", "benchmarks.length.about"),
    ],
)
def test_names_that_a_user_chose_are_not_translated(former: str, today: str) -> None:
    assert current_key(former) == today


@pytest.mark.parametrize(
    ("former", "today"),
    [
        ("rendered:train", "synthetic:train"),
        ("rendered_chinese:train", "synthetic_chinese:train"),
        ("rendered/train", "rendered/train"),
        ("/data/rendered:x", "/data/rendered:x"),
    ],
)
def test_only_former_prefixes_of_roots_are_translated(former: str, today: str) -> None:
    assert current_root(former) == today
