"""Mistakes in settings: one line with the file, the key and what is allowed."""

import json
from pathlib import Path
from typing import Any

import pytest
from plans import TABLE1, plan_of

import run as command_line
from core.runtime.errors import UserError
from experiments.planning.schema import HERE


def one_line(error: pytest.ExceptionInfo[UserError]) -> bool:
    return "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"pretrain.mask.ratoi": 0.7},
            r"--set: pretrain\.mask\.ratoi: unknown key; allowed: block_share, focus, kind, ratio",
        ),
        ({"pretrain.mask.ratio": 1.2}, r"--set: pretrain\.mask\.ratio: 1\.2 is not below 1"),
        (
            {"pretrain.mask.kind": "stripes"},
            r"pretrain\.mask\.kind: .*'stripes'; choose from 'random', 'block', 'density', 'span'",
        ),
        (
            {"pretrain.target": {"kind": "clip"}},
            r"--set: pretrain\.target\.kind: .*'clip'.*_feature",
        ),
        (
            {"encoder.depht": 3},
            r"--set: encoder\.depht: unknown key; allowed: depth, heads, image, patch, positions",
        ),
        ({"encoder.width": 33}, r"encoder.*width 33 .*heads"),
        (
            {"encoder.positions": "released", "encoder.patch": [16, 8]},
            r"positions: released .*2 x 16.* grid",
        ),
        ({"pretrainn.mask": {}}, r"--set: pretrainn: unknown key; allowed: .*pretrain"),
        ({"pretrain.guidance": None}, r"pretrain\.decoder\.order: .*SA-FFN .*guidance: null"),
        (
            {"pretrain.guidance": None, "pretrain.decoder.order": "SA-FFN"},
            r"pretrain\.alignment: .*alignment: null",
        ),
        ({"pretrain.optimizer.epochs": 0.5}, r"warmup_epochs 0\.5 .*epochs 0\.5"),
        (
            {"evaluate.subsets": {"a": {"roots": ["synthetic:curvy"]}}},
            r"synthetic:curvy: .*'curvy'; choose from train, validation, curve",
        ),
        (
            {"pretrain.precision": "bf16"},
            r"--set: pretrain\.precision: .*set precision instead$",
        ),
        ({"finetune.seed": 3}, r"finetune\.seed: .*set seeds \(or --seeds\) instead$"),
        ({"finetune.charset": "file:/nowhere"}, r"finetune\.charset: /nowhere: no such file"),
        (
            {"finetune.optimizer.base_lr": float("inf")},
            r"--set: finetune\.optimizer\.base_lr: .*finite",
        ),
        ({"teacher.method": None}, r"teacher\.file or teacher\.method$"),
        (
            {"teacher.method": "DINO"},
            r"--set: teacher\.method: 'DINO' .*; choose from MIM, SeqCLR$",
        ),
        (
            {"teacher.method": "scratch"},
            r"--set: teacher\.method: 'scratch' .*; choose from MIM, SeqCLR$",
        ),
        ({"init.encoder": "scrach"}, r"--set: init\.encoder: scrach: neither scratch, teacher"),
        (
            {"finetune.data.roots": ["union14m-l"]},
            r"--set: finetune\.data\.roots: union14m-l: .*; did you mean union14m_l",
        ),
        (
            {"evaluate.subsets": {"a": {"roots": ["xyzzy"]}}},
            r"--set: evaluate\.subsets\.a\.roots: xyzzy: .*settings/data\.yaml nor a folder$",
        ),
        (
            {"teacher.method": "SeqCLR", "pretrain.start": "teach"},
            r"pretrain\.start: .*'random' or 'teacher'",
        ),
        (
            {"pretrain.mask": {"kind": "random", "ratio": 0.6, "focus": 2}},
            r"focus belongs to kind: density",
        ),
        (
            {"pretrain.mask": {"kind": "span", "block_share": 0.4}},
            r"block_share belongs to kind: seeded_blocks, not span",
        ),
        (
            {"pretrain.mask": {"kind": "seeded_blocks", "ratio": 0.4}},
            r"block_share 0\.5 is more than ratio 0\.4.*lower block_share",
        ),
        (
            {"pretrain.mask.kind": "column_pairs", "encoder.image": [32, 60]},
            r"column_pairs needs an even number of columns of patches, not 15",
        ),
        (
            {"pretrain.mask": {"kind": "span", "ratio": 0.1}},
            r"ratio 0\.1 hides 3 of 32 columns .* at least 6; raise mask\.ratio or lower",
        ),
        (
            {"pretrain.mask": {"kind": "column_pairs", "ratio": 0.03}},
            r"ratio 0\.03 hides 1 of 32 columns .* at least 2; raise mask\.ratio$",
        ),
        (
            {"pretrain.contrast": {"windows": 5}},
            r"--set: pretrain\.contrast: .*decoder.*method: SeqCLR",
        ),
        (
            {"evaluate.subsets": "comon"},
            r"evaluate\.subsets: .*'comon'; choose from union14m_benchmark",
        ),
        ({"finetune.augmentation_draws": 8}, r"--set: finetune\.augmentation_draws: .*none"),
        ({"epoch_multiplier.pretrain": 0}, r"epoch_multiplier\.pretrain: 0 is not above 0"),
        ({"pretrain.mask.ratio.x": 1}, r"--set: ratio\.x: ratio is a single value"),
        ({"methods.DINO": {"x": 1}, "init.encoder": "x/y", "xyz": 1}, r"--set: xyz: unknown key"),
    ],
)
def test_a_wrong_setting_is_reported_with_source_key_and_choices(
    tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan_of(tmp_path, overrides=overrides)
    assert one_line(caught)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "title: x\nvariants: [{name: a, sett: {}}]",
            r"variants\.0\.sett: unknown key; allowed: compare_with, method, name, reported, set$",
        ),
        ("title: x\nvariants: []", r"variants: .*at least 1 item"),
        ("title: x\nvariants: [{name: a}, {name: a}]", r"variants: duplicate name 'a'"),
        ("title: x\nseeds: [0, 0]\nvariants: [{name: a}]", r"seeds: duplicate value 0"),
        (
            "title: x\nvariants: [{name: a}, {name: b, compare_with: [a, a]}]",
            r"variants\.1\.compare_with: duplicate value a",
        ),
        ('title: "x\\ny"\nvariants: [{name: a}]', r"title: must be one line .*'x\\ny'"),
        ('title: x\nvariants: [{name: "a\\nb"}]', r"variants\.0\.name: must be one line"),
        (
            "title: x\nvariants:\n  - name: a\n    set: {}\n    name: b",
            r"mine\.yaml: line 5: duplicate key name",
        ),
        ("title: x\nseeds: [-1]\nvariants: [{name: a}]", r"seeds\.0: -1 is below 0"),
        ("variants: [{name: a}]", r"title: this key is required"),
        ("title: [", r"not valid YAML"),
        ("", r"empty, or not a mapping"),
        ("x: 1", r"not an experiment .*experiments/ablation_alignment\.yaml$"),
        ("title: x\nbase: mim\nvariants: [{name: a}]", r"unknown base 'mim'; choose from lmim$"),
        (
            "title: x\nvariants: [{name: a, set: {pretrain.mask.kind: 3}}]",
            r"mine\.yaml: a: pretrain\.mask\.kind",
        ),
        (
            "title: x\ntable: table99\nvariants: [{name: a}]",
            r"mine\.yaml: a: .*'table99'.* choose from table1",
        ),
        (
            "title: x\ntable: table1\nvariants: [{name: a, reported: {mask: x}}]",
            r"mine\.yaml: a: reported .*'mask': 'x'.* table1",
        ),
        (
            "title: x\ntable: table1\nvariants: [{name: a, reported: {guidance: true}}]",
            r"mine\.yaml: a: reported .*2 rows of table1",
        ),
        (
            "title: x\nvariants: [{name: a, reported: {mask: random}}]",
            r"mine\.yaml: a: reported: .*table: table1$",
        ),
        (
            "title: x\nvariants: [{name: a, compare_with: b}, {name: c}]",
            r"mine\.yaml: a: compare_with: 'b' .*; choose from c$",
        ),
        (
            "title: x\nvariants: [{name: a, compare_with: a}]",
            r"mine\.yaml: a: compare_with: 'a' .*one row$",
        ),
        (
            "title: x\ntable: table2\nvariants:\n"
            "  - {name: a, reported: {augmentation: weak}}\n"
            "  - {name: b, reported: {augmentation: weak}}",
            r"mine\.yaml: b: reported: 'a' .*same row",
        ),
        (
            "title: x\nvariants: [{name: a, method: MAE}]",
            r"mine\.yaml: a: unknown method 'MAE'; choose from MIM, SeqCLR, scratch$",
        ),
    ],
)
def test_a_wrong_experiment_file_is_reported_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        plan_of(tmp_path, file)
    assert one_line(caught)
    assert "mine.yaml" in str(caught.value) or "base" in str(caught.value)


@pytest.mark.parametrize("settings", ["pretrain.start: teacher", "init.encoder: teacher"])
def test_weights_of_the_teacher_need_its_position_table(tmp_path: Path, settings: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"title: x\nvariants: [{{name: a, set: {{{settings}, encoder.positions: released}}}}]"
    )
    with pytest.raises(UserError, match=r"a: encoder\.positions is released.*teacher.*grid"):
        plan_of(tmp_path, file)
    both = {"encoder.patch": [8, 8], "encoder.positions": "released"}
    assert plan_of(tmp_path, file, overrides=both).cells


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("finetune.data.filters", "not a filter list"),
        ("init.encoder", "a text file"),
        ("teacher.file", "a text file"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_the_plan(
    tmp_path: Path, key: str, message: str
) -> None:
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("junk\n")
    value = [str(wrong)] if key.endswith("filters") else str(wrong)
    with pytest.raises(UserError, match=message):
        plan_of(tmp_path, overrides={key: value})


TINY_TRAINING = "pretrain.optimizer={base_lr: 1, epochs: 0.0001, warmup_epochs: 0}"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.yaml"], ["nowhere.yaml: no such file"]),
        ([str(HERE / "settings" / "data.yaml")], ["data.yaml: not an experiment"]),
        ([str(TABLE1), "--scale", "huge"], ["unknown scale 'huge'; choose from former_mini, mini"]),
        ([str(TABLE1), "--set", "pretrain.mask.ratio"], ["--set pretrain.mask.ratio", "KEY=VALUE"]),
        (
            [str(TABLE1), "--set", "encoder={width: 32, width: 64}"],
            ["line 1", "duplicate key width"],
        ),
        ([str(TABLE1), str(TABLE1)], ["another file is named ablation_alignment"]),
        (["plan", str(TABLE1), "--results", str(TABLE1)], ["is a file; choose a folder"]),
        (
            ["plan", str(TABLE1), "--set", TINY_TRAINING],
            ["less than one training step", "increase epochs or lower the batch size"],
        ),
        ([str(TABLE1), "--scale", "smoke", "--results", "/proc/none"], ["cannot write here"]),
        ([str(TABLE1), "--scale", "paper"], ["union14m_u_book32: LMIM_DATA is not set (Book32"]),
        ([str(TABLE1), "--device", "cuda:99"], ["--device cuda:99: not usable here"]),
    ],
)
def test_a_users_mistake_ends_with_one_sentence_and_exit_code_2(
    arguments: list[str],
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LMIM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert command_line.main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for part in parts:
        assert part in errors[0]


def test_plan_and_status_print_json_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(TABLE1), "--scale", "smoke", "--results", str(tmp_path), "--json"]
    assert command_line.main(["plan", *options]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["summary"] == {"pretrain": 4, "finetune": 3, "evaluate": 3}
    assert all(run["parameters"] > 0 and run["petaflop"] >= 0 for run in content["runs"])
    assert command_line.main(["status", *options]) == 0
    assert {run["state"] for run in json.loads(capsys.readouterr().out)["runs"]} == {"planned"}
    assert not list(tmp_path.iterdir())
