"""Plans: which runs an experiment needs, what they share, and what their ids depend on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from plans import CATALOGUE, TABLE1, plan_of

from core.config import ContrastivePretrain, Pretrain, StageConfig
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from experiments.planning.plan import Plan, ResolvedSchedule, resolved_schedule
from experiments.planning.recipe import merge, set_key
from experiments.planning.registry import registry
from experiments.planning.schema import HERE

REAL = HERE / "real_words.yaml"


def stages(plan: Plan) -> dict[str, int]:
    names = [run.stage for run in plan.runs.values()]
    return {name: names.count(name) for name in sorted(set(names))}


def pretrain_config(plan: Plan, run: str) -> Pretrain:
    config = plan.runs[run].config
    assert isinstance(config, Pretrain)
    return config


def configs(plan: Plan) -> Mapping[str, StageConfig]:
    return {name: run.config for name, run in plan.runs.items()}


def test_scale_paper_plans_nine_runs_with_the_papers_learning_rates(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, scale="paper")
    assert stages(plan) == {"evaluate": 3, "finetune": 3, "pretrain": 3, "probe": 6}
    for run in plan.runs.values():
        schedule = resolved_schedule(run)
        if run.stage not in ("evaluate", "probe"):
            assert schedule.peak_lr == {"pretrain": 3e-4, "finetune": 2e-4}[run.stage]
            assert schedule.batch == 512


def test_the_json_of_a_schedule_has_no_empty_values() -> None:
    assert ResolvedSchedule(7).as_json() == {"images": 7}
    assert ResolvedSchedule(7, 0.1, 2, 3, 4).as_json() == {
        "peak_lr": 0.1,
        "batch": 2,
        "epochs": 3,
        "steps": 4,
        "images": 7,
    }


@pytest.mark.parametrize("scale", ["smoke", "mini", "small"])
def test_rows_on_synthetic_words_share_one_teacher(tmp_path: Path, scale: str) -> None:
    plan = plan_of(tmp_path, scale=scale)
    rows = len(plan.experiments["ablation_alignment"].variants)  # a scale may add a control row
    trained = {stage: count for stage, count in stages(plan).items() if stage != "probe"}
    assert trained == {"evaluate": rows, "finetune": rows, "pretrain": 4}
    teachers = {run.inputs["teacher"] for run in plan.runs.values() if "teacher" in run.inputs}
    assert len(teachers) == 1
    teacher = pretrain_config(plan, teachers.pop())
    assert (teacher.target.kind, teacher.guidance, teacher.alignment) == ("pixel", None, None)


def test_a_row_with_another_encoder_gets_a_teacher_with_that_encoder(tmp_path: Path) -> None:
    file = tmp_path / "depths.yaml"
    file.write_text(
        "title: x\n"
        "variants:\n"
        "  - name: a\n"
        "  - name: b\n"
        "    set: {encoder.depth: 3, pretrain.mask.kind: block}\n"
    )
    plan = plan_of(tmp_path, file)
    first, second = (plan.runs[cell.trainings[0]] for cell in plan.cells)
    teacher = pretrain_config(plan, second.inputs["teacher"])
    assert teacher.encoder == pretrain_config(plan, second.id).encoder
    assert teacher.mask.kind == "random"
    assert first.inputs["teacher"] != second.inputs["teacher"]


def test_ids_depend_on_what_is_computed_and_on_nothing_else(tmp_path: Path) -> None:
    base = plan_of(tmp_path / "a")
    assert list(plan_of(tmp_path / "b").runs) == list(base.runs)
    assert set(plan_of(tmp_path, seeds=[1]).runs).isdisjoint(base.runs)
    changed = plan_of(tmp_path, overrides={"pretrain.mask.ratio": 0.7})
    shared = set(changed.runs) & set(base.runs)
    assert [changed.runs[name].stage for name in shared] == ["pretrain"]  # the teacher's run


def test_automatic_precision_is_not_used_where_a_scale_names_one(tmp_path: Path) -> None:
    assert plan_of(tmp_path, precision=lambda: "bf16").runs == plan_of(tmp_path).runs


def test_a_setting_reaches_all_rows_that_do_not_define_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, overrides={"pretrain.alignment.weight": 2.0})
    alignments = [pretrain_config(plan, cell.trainings[0]).alignment for cell in plan.cells]
    assert [alignment and alignment.weight for alignment in alignments] == [None, None, 2.0]


def test_a_setting_that_a_row_defines_is_noted(tmp_path: Path) -> None:
    overrides = {
        "pretrain.alignment": None,
        "pretrain.decoder.order": "SA-FFN",
        "pretrain.guidance": None,
    }
    notes = plan_of(tmp_path, overrides=overrides).notes
    for key in overrides:
        assert any(f"--set {key} " in note and "'no guidance'" in note for note in notes)


def test_another_fine_tuning_keeps_the_pretraining_runs(tmp_path: Path) -> None:
    base = plan_of(tmp_path)
    changed = plan_of(tmp_path, overrides={"finetune.optimizer.epochs": 3})
    kept = [run.stage for name, run in changed.runs.items() if name in base.runs]
    assert kept == ["pretrain"] * 4


def test_each_row_is_run_at_each_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=[0, 1, 2])
    assert len(plan.cells) == 9
    assert stages(plan) == {"evaluate": 9, "finetune": 9, "pretrain": 12}


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
def test_a_section_sets_only_the_values_that_it_names(
    tmp_path: Path, section: dict[str, Any], values: dict[str, Any]
) -> None:
    by_section = plan_of(tmp_path, overrides=section).runs.keys()
    by_values = plan_of(tmp_path, overrides=values).runs.keys()
    assert by_section == by_values != plan_of(tmp_path).runs.keys()


def test_a_root_that_is_a_path_need_not_exist_to_be_planned(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, overrides={"finetune.data.roots": ["mine/words"]})
    unmet = [text for run in plan.runs.values() for text in run.unmet_requirements()]
    assert any("mine/words: no LMDB here" in text for text in unmet)


def test_rows_can_start_from_the_teacher_but_the_teacher_cannot(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, overrides={"pretrain.start": "teacher"})
    teachers = {cell.teacher for cell in plan.cells}
    starts = {
        name: config.start for name, config in configs(plan).items() if isinstance(config, Pretrain)
    }
    assert {starts[name] for name in teachers} == {"random"}
    assert {start for name, start in starts.items() if name not in teachers} == {"teacher"}


def test_a_methods_setting_changes_only_the_rows_of_the_method(tmp_path: Path) -> None:
    file = HERE / "union14m_benchmark.yaml"
    base = plan_of(tmp_path, file)
    key = "methods.SeqCLR.pretrain.contrast.temperature"
    plan = plan_of(tmp_path, file, overrides={key: 0.2})
    (changed,) = [
        run for name, run in plan.runs.items() if run.stage == "pretrain" and name not in base.runs
    ]
    assert isinstance(changed.config, ContrastivePretrain)
    assert (changed.config.contrast.temperature, changed.config.contrast.windows) == (0.2, 5)
    assert changed.rows == ("SeqCLR",)


def test_files_of_another_scale_are_left_out_with_a_note(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, REAL, TABLE1, scale=None)
    assert (plan.scale, list(plan.experiments)) == ("mini", ["ablation_alignment"])
    assert {cell.experiment for cell in plan.cells} == {"ablation_alignment"}
    (note,) = plan.notes
    assert "real_words was left out" in note
    assert "scale real" in note


def test_a_scale_of_the_command_line_is_that_of_all_files(tmp_path: Path) -> None:
    assert plan_of(tmp_path, REAL, scale=None).scale == "real"
    plan = plan_of(tmp_path, REAL, TABLE1, scale="real")
    assert list(plan.experiments) == ["real_words", "ablation_alignment"]


def test_files_of_different_scales_need_a_common_one(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("title: x\nscale: small\nvariants: [{name: a}]")
    with pytest.raises(UserError, match=r"real, small.* --scale"):
        plan_of(tmp_path, REAL, file, scale=None)


def test_excluding_an_experiment_removes_its_runs(tmp_path: Path) -> None:
    decoder = HERE / "ablation_decoder.yaml"
    both = plan_of(tmp_path, TABLE1, decoder)
    alone = plan_of(tmp_path, TABLE1)
    rest = both.excluding({"ablation_decoder"})
    assert list(rest.runs) == list(alone.runs)
    assert list(rest.experiments) == ["ablation_alignment"]
    assert rest.cells == alone.cells


def test_a_missing_filter_list_is_an_unmet_requirement(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, overrides={"finetune.data.filters": ["nowhere.tsv"]})
    unmet = [run.unmet_requirements() for run in plan.runs.values() if run.stage == "finetune"]
    assert unmet == [["nowhere.tsv: no such file"]] * 3
    assert plan.blocked_experiments() == {"ablation_alignment": "nowhere.tsv: no such file"}


def test_the_registry_and_the_protocols_have_the_same_sizes() -> None:
    data_sets = registry()
    for protocol in PROTOCOLS.values():
        for subset, size in protocol.sizes.items():
            name = subset if subset in data_sets else f"chinese_{subset}"
            assert size in data_sets[name].images, (protocol.name, subset)
            if protocol.name in ("waics", "chinese"):
                assert data_sets[name].expected_images == size, "the paper's size comes first"
    assert set(data_sets["union14m_l"].images) == {3230742, 3224143}


def test_each_data_set_has_a_title_and_a_publisher() -> None:
    names = {"union14m_u_book32", "union14m_u_openvino", "union14m_u_cc", "ucti_11m", "ard"}
    assert names <= registry().keys()
    assert all(data_set.published and data_set.title for data_set in registry().values())


@pytest.mark.parametrize("scale", sorted(path.stem for path in (HERE / "scales").glob("*.yaml")))
def test_each_scale_plans_table_1(tmp_path: Path, scale: str) -> None:
    plan = plan_of(tmp_path, scale=scale)
    rows = plan.experiments["ablation_alignment"].variants
    assert [row.name for row in rows][:2] == ["no guidance", "guidance"]
    assert len(plan.cells) == len(rows)


def test_merging_and_setting_do_not_change_their_arguments() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": None}
    assert merge(below, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}, "d": None}
    assert set_key(below, "d.e", 5, "here") == {"a": {"b": 1, "c": 2}, "d": {"e": 5}}
    assert set_key(below, "a", None, "here") == {"a": None, "d": None}
    assert below == {"a": {"b": 1, "c": 2}, "d": None}


def test_the_catalogue_is_the_yaml_files_of_its_folder() -> None:
    assert len(CATALOGUE) >= 15
    assert not {"data", "cluster"} & {file.stem for file in CATALOGUE}
