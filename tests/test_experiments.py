"""Properties of schema, recipe, plan and store, without training."""

import json
from pathlib import Path
from typing import Any

import pytest

import run as command_line
from core.config import ContrastivePretrain, Pretrain
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.planning.plan import Plan, resolved_schedule
from experiments.planning.planner import make_plan
from experiments.planning.recipe import merge, set_key
from experiments.planning.registry import registry
from experiments.planning.schema import HERE, experiment_files
from results.store import Store

TABLE1 = HERE / "ablation_alignment.yaml"


def plan(tmp_path: Path, scale: str = "smoke", file: Path = TABLE1, **options: Any) -> Plan:
    settings = {"precision": lambda: "fp32", "overrides": {}, "seeds": None} | options
    return make_plan([file], scale, Store(tmp_path), **settings)


def stages(found: Plan) -> dict[str, int]:
    names = [run.stage for run in found.runs.values()]
    return {name: names.count(name) for name in sorted(set(names))}


def test_the_papers_scale_plans_nine_runs_with_the_papers_learning_rates(tmp_path: Path) -> None:
    found = plan(tmp_path, "paper")
    assert stages(found) == {"evaluate": 3, "finetune": 3, "pretrain": 3}
    for run in found.runs.values():
        values = resolved_schedule(run)
        if run.stage != "evaluate":
            assert values["peak_lr"] == {"pretrain": 3e-4, "finetune": 2e-4}[run.stage]
            assert values["batch"] == 512


@pytest.mark.parametrize("scale", ["smoke", "mini", "small"])
def test_the_embedded_scales_share_one_teacher(tmp_path: Path, scale: str) -> None:
    found = plan(tmp_path, scale)
    assert stages(found) == {"evaluate": 3, "finetune": 3, "pretrain": 4}
    teachers = {run.inputs["teacher"] for run in found.runs.values() if "teacher" in run.inputs}
    assert len(teachers) == 1
    teacher = found.runs[teachers.pop()].config
    assert isinstance(teacher, Pretrain)
    assert (teacher.target.kind, teacher.guidance, teacher.alignment) == ("pixel", None, None)


def test_a_row_that_changes_the_encoder_gets_a_teacher_with_that_encoder(tmp_path: Path) -> None:
    file = tmp_path / "depths.yaml"
    file.write_text(
        "title: x\nvariants: [{name: a}, {name: b, set: {encoder.depth: 3, pretrain.mask.kind: block}}]"
    )
    found = plan(tmp_path, file=file)
    first, second = (found.runs[cell.trainings[0]] for cell in found.cells)
    assert isinstance(second.config, Pretrain)
    teacher = found.runs[second.inputs["teacher"]].config
    assert isinstance(teacher, Pretrain)
    assert teacher.encoder == second.config.encoder
    assert teacher.mask.kind == "random"
    assert first.inputs["teacher"] != second.inputs["teacher"]


def test_ids_follow_what_is_computed_and_nothing_else(tmp_path: Path) -> None:
    base = plan(tmp_path / "a")
    assert list(plan(tmp_path / "b").runs) == list(base.runs)
    assert set(plan(tmp_path, seeds=[1]).runs).isdisjoint(base.runs)
    assert set(plan(tmp_path, precision=lambda: "bf16").runs) == set(base.runs), (
        "the smoke profile states its precision"
    )
    other = plan(tmp_path, overrides={"pretrain.mask.ratio": 0.7})
    shared = set(other.runs) & set(base.runs)
    assert [other.runs[name].stage for name in shared] == ["pretrain"], (
        "the teacher has a mask ratio of its own"
    )


def test_one_override_reaches_all_rows_that_do_not_define_it(tmp_path: Path) -> None:
    found = plan(tmp_path, overrides={"pretrain.alignment.weight": 2.0})
    weights = []
    for cell in found.cells:
        config = found.runs[cell.trainings[0]].config
        assert isinstance(config, Pretrain)
        weights.append(config.alignment and config.alignment.weight)
    assert weights == [None, None, 2.0]
    noted = plan(
        tmp_path,
        overrides={
            "pretrain.alignment": None,
            "pretrain.decoder.order": "SA-FFN",
            "pretrain.guidance": None,
        },
    )
    assert any("does not reach row 'no guidance'" in note for note in noted.notes)


def test_a_finetuning_change_keeps_the_pretraining(tmp_path: Path) -> None:
    base, other = plan(tmp_path), plan(tmp_path, overrides={"finetune.optimizer.epochs": 3})
    kept = [other.runs[name].stage for name in other.runs if name in base.runs]
    assert kept == ["pretrain"] * 4


def test_several_seeds_multiply_the_rows(tmp_path: Path) -> None:
    found = plan(tmp_path, seeds=[0, 1, 2])
    assert len(found.cells) == 9
    assert stages(found) == {"evaluate": 9, "finetune": 9, "pretrain": 12}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"pretrain.mask.ratoi": 0.7},
            r"--set: pretrain\.mask\.ratoi: unknown key; allowed: focus, kind, ratio",
        ),
        (
            {"pretrain.mask.ratio": 1.2},
            r"--set: pretrain\.mask\.ratio: input should be less than 1 \(given: 1\.2\)",
        ),
        (
            {"pretrain.mask.kind": "stripes"},
            r"pretrain\.mask\.kind: input should be 'random', 'block' or 'density'",
        ),
        ({"pretrain.target": {"kind": "clip"}}, r"--set: pretrain\.target: .*'mae_feature'"),
        (
            {"encoder.depht": 3},
            r"--set: encoder\.depht: unknown key; allowed: depth, heads, image, patch, positions, width",
        ),
        ({"encoder.width": 33}, r"encoder.*width 33 must be divisible by heads"),
        (
            {"encoder.positions": "released", "encoder.patch": [16, 8]},
            r"needs a square number of patches, not 2 x 16; use grid",
        ),
        ({"pretrainn.mask": {}}, r"--set: pretrainn: unknown key; allowed: .*pretrain"),
        ({"pretrain.guidance": None}, r"pretrain: decoder\.order: SA-FFN goes with guidance: null"),
        (
            {"pretrain.guidance": None, "pretrain.decoder.order": "SA-FFN"},
            r"alignment compares the two branches",
        ),
        ({"pretrain.optimizer.epochs": 0.5}, r"warmup_epochs 0\.5 must be less than epochs 0\.5"),
        (
            {"evaluate.subsets": {"a": {"roots": ["rendered:curvy"]}}},
            r"rendered:curvy: no such rendered split; there are train",
        ),
        (
            {"pretrain.precision": "bf16"},
            r"--set: pretrain\.precision: all stages share it; set precision instead",
        ),
        ({"finetune.seed": 3}, r"set seeds \(or --seeds\) instead"),
        ({"finetune.charset": "file:/nowhere"}, r"finetune\.charset: /nowhere: no such file"),
        (
            {"finetune.optimizer.base_lr": float("inf")},
            r"--set: finetune\.optimizer\.base_lr: .*finite",
        ),
        ({"teacher.method": None}, r"this row needs one; give teacher\.file or teacher\.method"),
        *(
            (
                {"teacher.method": name},
                rf"--set: teacher\.method: {name}: no method .* encoder; choose from MIM, SeqCLR$",
            )
            for name in ("DINO", "scratch")
        ),
        (
            {"given.encoder": "scrach"},
            r"--set: given\.encoder: scrach: neither scratch, teacher nor a file",
        ),
        (
            {"finetune.data.roots": ["union14m-l"]},
            r"--set: finetune\.data\.roots: union14m-l: neither a data set of .* nor a folder; did you mean union14m_l",
        ),
        (
            {"evaluate.subsets": {"a": {"roots": ["xyzzy"]}}},
            r"--set: evaluate\.subsets\.a\.roots: xyzzy: neither a data set of experiments/settings/data\.yaml nor a folder$",
        ),
        (
            {"teacher.method": "SeqCLR", "pretrain.start": "teach"},
            r"pretrain\.start: input should be 'random' or 'teacher'",
        ),
        (
            {"pretrain.mask": {"kind": "random", "ratio": 0.6, "focus": 2}},
            r"focus belongs to kind: density",
        ),
        (
            {"pretrain.contrast": {"windows": 5}},
            r"--set: pretrain: contrast is of SeqCLR, which has no decoder, .* method: SeqCLR",
        ),
        (
            {"evaluate.subsets": "comon"},
            r"evaluate\.subsets: comon: no benchmark of that name; choose from union14m_benchmark",
        ),
        ({"finetune.augmentation_draws": 8}, r"with augmentation: none leave it out"),
        ({"length.pretrain": 0}, r"length\.pretrain: input should be greater than 0"),
        ({"pretrain.mask.ratio.x": 1}, r"--set: ratio\.x: ratio is a single value"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place_and_what_is_allowed(
    tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan(tmp_path, overrides=overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "title: x\nvariants: [{name: a, sett: {}}]",
            r"variants\.0\.sett: unknown key; allowed: against, method, name, reported, set",
        ),
        ("title: x\nvariants: []", r"variants: tuple should have at least 1 item"),
        ("title: x\nvariants: [{name: a}, {name: a}]", r"two have the same name"),
        (
            "title: x\nseeds: [0, 0]\nvariants: [{name: a}]",
            r"seeds: none may stand twice \(given: \[0, 0\]\)",
        ),
        (
            "title: x\nvariants: [{name: a}, {name: b, against: [a, a]}]",
            r"variants\.1\.against: none may stand twice",
        ),
        (
            'title: "x\\ny"\nvariants: [{name: a}]',
            r"title: must be one line of text \(given: 'x\\ny'\)",
        ),
        ('title: x\nvariants: [{name: "a\\nb"}]', r"variants\.0\.name: must be one line of text"),
        (
            "title: x\nvariants:\n  - name: a\n    set: {}\n    name: b",
            r"mine\.yaml: line 5: name stands twice",
        ),
        (
            "title: x\nseeds: [-1]\nvariants: [{name: a}]",
            r"seeds\.0: input should be greater than or equal to 0",
        ),
        ("variants: [{name: a}]", r"title: missing; it must be given"),
        ("title: [", r"not valid YAML"),
        ("", r"empty, or not a mapping"),
        (
            "title: x\nbase: mim\nvariants: [{name: a}]",
            r"base 'mim': there is none of that name; choose from lmim",
        ),
        (
            "title: x\nvariants: [{name: a, set: {pretrain.mask.kind: 3}}]",
            r"mine\.yaml: a: pretrain\.mask\.kind",
        ),
        (
            "title: x\ntable: table99\nvariants: [{name: a}]",
            r"mine\.yaml: a: table 'table99': .* choose from table1",
        ),
        (
            "title: x\ntable: table1\nvariants: [{name: a, reported: {mask: x}}]",
            r"mine\.yaml: a: .* no row of table1 .* has all",
        ),
        (
            "title: x\ntable: table1\nvariants: [{name: a, reported: {guidance: true}}]",
            r"2 rows of table1 .* say more",
        ),
        (
            "title: x\nvariants: [{name: a, reported: {mask: random}}]",
            r"reported: say in which table",
        ),
        (
            "title: x\nvariants: [{name: a, against: b}, {name: c}]",
            r"a: against: b: no other row of that name; choose from c",
        ),
        (
            "title: x\ntable: table2\n"
            "variants: [{name: a, reported: {augmentation: weak}}, {name: b, reported: {augmentation: weak}}]",
            r"b: reported: a stands beside that row already",
        ),
        (
            "title: x\nvariants: [{name: a, method: MAE}]",
            r"mine\.yaml: a: method MAE: the recipe has none of that name",
        ),
    ],
)
def test_a_wrong_experiment_file_is_told_in_one_line_with_its_name(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        plan(tmp_path, file=file)
    assert "\n" not in str(caught.value)
    assert "mine" in str(caught.value) or "base" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ({"encoder": {"depth": 3}}, {"encoder.depth": 3}),
        ({"finetune.decoder": {"layers": 3}}, {"finetune.decoder.layers": 3}),
        ({"pretrain": {"mask": {"ratio": 0.7}}}, {"pretrain.mask.ratio": 0.7}),
        (
            {"pretrain.mask": {"kind": "block", "ratio": 0.7}},
            {"pretrain.mask.kind": "block", "pretrain.mask.ratio": 0.7},
        ),
    ],
)
def test_a_section_goes_over_the_one_below_value_by_value(
    tmp_path: Path, section: dict[str, Any], values: dict[str, Any]
) -> None:
    """As it does in a scale's file; what it does not name stays as it was, and not as the code's default has it."""
    whole, dotted = (
        plan(tmp_path, overrides=settings).runs.keys() for settings in (section, values)
    )
    assert whole == dotted != plan(tmp_path).runs.keys()


@pytest.mark.parametrize("settings", ["pretrain.start: teacher", "given.encoder: teacher"])
def test_a_row_that_begins_with_its_teacher_needs_the_teachers_position_table(
    tmp_path: Path, settings: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"title: x\nvariants: [{{name: a, set: {{{settings}, encoder.positions: released}}}}]"
    )
    with pytest.raises(
        UserError, match=r"a: encoder\.positions is released, but the teacher, .* has grid"
    ):
        plan(tmp_path, file=file)
    assert plan(
        tmp_path, file=file, overrides={"encoder.patch": [8, 8], "encoder.positions": "released"}
    ).cells


def test_a_paths_root_need_not_be_there_to_plan(tmp_path: Path) -> None:
    found = plan(tmp_path, overrides={"finetune.data.roots": ["mine/words"]})
    assert any(
        "mine/words: no LMDB here" in text for run in found.runs.values() for text in run.missing()
    )


def test_begun_with_the_teacher_is_said_of_rows_and_not_of_the_teacher(tmp_path: Path) -> None:
    found = plan(tmp_path, overrides={"pretrain.start": "teacher"})
    trained = {
        name: run.config for name, run in found.runs.items() if isinstance(run.config, Pretrain)
    }
    teachers = {cell.teacher for cell in found.cells}
    assert [config.start for name, config in trained.items() if name in teachers] == ["random"]
    assert {config.start for name, config in trained.items() if name not in teachers} == {"teacher"}


def test_a_method_is_set_by_its_own_dotted_keys(tmp_path: Path) -> None:
    file = HERE / "union14m_benchmark.yaml"
    base = plan(tmp_path, file=file)
    found = plan(
        tmp_path, file=file, overrides={"methods.SeqCLR.pretrain.contrast.temperature": 0.2}
    )
    (changed,) = [
        name for name in found.runs if name.startswith("pretrain") and name not in base.runs
    ]
    config = found.runs[changed].config
    assert isinstance(config, ContrastivePretrain)
    assert (config.contrast.temperature, config.contrast.windows) == (0.2, 5)
    assert found.runs[changed].rows == ["SeqCLR"]


def test_files_of_another_scale_are_left_out_and_named_unless_a_scale_is_given(
    tmp_path: Path,
) -> None:
    def planned(files: list[Path], scale: str | None = None) -> Plan:
        return make_plan(
            files, scale, Store(tmp_path), precision=lambda: "fp32", overrides={}, seeds=None
        )

    real = HERE / "real_words.yaml"
    both = planned([real, TABLE1])
    assert (both.scale, list(both.experiments), len(both.cells)) == (
        "mini",
        ["ablation_alignment"],
        3,
    )
    assert both.notes == [
        "real_words was left out: it is made for scale real; give it alone, or choose a --scale for all"
    ]
    assert (planned([real]).scale, list(planned([real, TABLE1], "real").experiments)) == (
        "real",
        [real.stem, TABLE1.stem],
    )
    other = tmp_path / "other.yaml"
    other.write_text("title: x\nscale: small\nvariants: [{name: a}]")
    with pytest.raises(
        UserError, match=r"different scales \(real, small\); choose one with --scale"
    ):
        planned([real, other])


def test_a_missing_filter_list_is_told_before_anything_runs(tmp_path: Path) -> None:
    found = plan(tmp_path, overrides={"finetune.data.filters": ["nowhere.tsv"]})
    assert [run.missing() for run in found.runs.values() if run.stage == "finetune"] == [
        ["nowhere.tsv: no such file"]
    ] * 3


def test_a_file_that_is_no_filter_list_or_encoder_is_told_by_the_plan(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("junk\n")
    with pytest.raises(UserError, match="not a filter list"):
        plan(tmp_path, overrides={"finetune.data.filters": [str(wrong)]})
    for key in ("given.encoder", "teacher.file"):
        with pytest.raises(UserError, match="damaged, or not a checkpoint"):
            plan(tmp_path, overrides={key: str(wrong)})


def test_the_registry_and_the_protocols_name_the_same_sizes() -> None:
    sets = registry()
    for protocol in PROTOCOLS.values():
        for subset, size in protocol.sizes.items():
            name = subset if subset in sets else f"chinese_{subset}"
            assert size in sets[name].images, (protocol.name, subset)
    for name in ("waics", "chinese"):
        for subset, size in PROTOCOLS[name].sizes.items():
            assert sets[subset if subset in sets else f"chinese_{subset}"].expected == size, (
                "the paper's size comes first"
            )
    assert set(sets["union14m_l"].images) == {3230742, 3224143}
    assert {
        "union14m_u_book32",
        "union14m_u_openvino",
        "union14m_u_cc",
        "ucti_11m",
        "ard",
    } <= sets.keys()
    assert all(one.published and one.what for one in sets.values())


@pytest.mark.parametrize(
    "file", experiment_files(sorted(HERE.glob("*.yaml"))), ids=lambda path: path.stem
)
def test_every_experiment_file_is_short_and_says_how_to_run_it(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert len(lines) <= 25
    opening = "\n".join(line for line in lines if line.startswith("#"))
    assert f"python run.py experiments/{file.name}" in opening
    assert "Cost:" in opening
    assert "Should show:" in opening


@pytest.mark.parametrize("scale", sorted(path.stem for path in (HERE / "scales").glob("*.yaml")))
def test_every_scale_plans_table_1(tmp_path: Path, scale: str) -> None:
    assert len(plan(tmp_path, scale).cells) == 3


def test_merging_and_setting_leave_their_arguments_alone() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": None}
    assert merge(below, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}, "d": None}
    assert set_key(below, "d.e", 5, "here") == {"a": {"b": 1, "c": 2}, "d": {"e": 5}}
    assert set_key(below, "a", None, "here") == {"a": None, "d": None}
    assert below == {"a": {"b": 1, "c": 2}, "d": None}


def test_a_run_that_lost_its_process_is_preempted_not_running(tmp_path: Path) -> None:
    run = Store(tmp_path).run("pretrain-x")
    assert run.state().name == "planned"
    with run.lock() as free:
        assert free
        run.set_state("running", done=3, total=9, unit="steps")
        assert run.state().name == "running"
        with run.lock() as second:
            assert not second
    assert run.state().name == "preempted"
    assert "is gone" in run.state().message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (
            [str(TABLE1), "--scale", "huge"],
            "scales 'huge': there is none of that name; choose from mini",
        ),
        ([str(TABLE1), "--set", "pretrain.mask.ratio"], "write it as KEY=VALUE"),
        ([str(TABLE1), "--set", "encoder={width: 32, width: 64}"], "line 1: width stands twice"),
        ([str(TABLE1), str(TABLE1)], "another file named ablation_alignment is given too"),
        (["plan", str(TABLE1), "--results", str(TABLE1)], "a file, not a folder"),
        (
            [
                "plan",
                str(TABLE1),
                "--set",
                "pretrain.optimizer={base_lr: 1, epochs: 0.0001, warmup_epochs: 0}",
            ],
            "not one step",
        ),
        ([str(TABLE1), "--scale", "smoke", "--results", "/proc/none"], "cannot write here"),
        ([str(TABLE1), "--scale", "paper"], "union14m_u_book32: LMIM_DATA is not set (Book32 part"),
        ([str(TABLE1), "--device", "cuda:99"], "--device cuda:99: not usable here"),
    ],
)
def test_a_users_mistake_ends_with_one_sentence_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LMIM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert command_line.main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_plan_and_status_print_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [str(TABLE1), "--scale", "smoke", "--results", str(tmp_path), "--json"]
    assert command_line.main(["plan", *options]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["summary"] == {"pretrain": 4, "finetune": 3, "evaluate": 3}
    assert all(run["parameters"] > 0 and run["petaflop"] >= 0 for run in content["runs"])
    assert command_line.main(["status", *options]) == 0
    assert {run["state"] for run in json.loads(capsys.readouterr().out)["runs"]} == {"planned"}
    assert not list(tmp_path.iterdir()), "planning writes nothing"
