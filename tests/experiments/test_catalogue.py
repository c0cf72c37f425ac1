"""The experiment files: they cover the paper's rows, share runs and follow the paper's recipe."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from plans import CATALOGUE, cells_of, plan_of

from core.config import ContrastivePretrain, Evaluate, Finetune, Mask, Pretrain
from core.runtime.yaml import read_yaml
from experiments.cli.plan_report import describe_plan
from experiments.planning.plan import Plan, resolved_schedule
from experiments.planning.schema import HERE
from results.reported import find_row, reported
from results.store import Store

ABLATIONS = [file for file in CATALOGUE if file.stem.startswith("ablation_")]
YAML_FILES = [*HERE.rglob("*.yaml"), *(HERE.parent / "sweeps").glob("*.yaml")]


def configs_of(plan: Plan, experiment: str, row: str) -> dict[str, Any]:
    """Stage -> config, of a row at one seed."""
    (cell,) = cells_of(plan, experiment, row)
    runs = [plan.runs[run] for run in (*cell.trainings, cell.evaluate)]
    return {run.stage: run.config for run in runs}


@pytest.mark.parametrize("file", YAML_FILES, ids=lambda path: path.stem)
def test_yaml_files_are_in_block_style_with_short_lines(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert max(map(len, lines)) <= 100
    if file.parent != HERE.parent / "sweeps":  # a parameter of a sweep is one short mapping
        settings = [line for line in lines if not line.lstrip().startswith(("#", "charset:"))]
        assert not [line for line in settings if ": {" in line or "- {" in line]


@pytest.mark.parametrize("file", CATALOGUE, ids=lambda path: path.stem)
def test_an_experiment_file_opens_with_command_cost_and_numbers(file: Path) -> None:
    header = file.read_text().partition("\ntitle: ")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"python run.py experiments/{file.name}" in header
    for part in ("Command:", "Cost:", "Question:", "Paper:", "Measured:"):
        assert f"\n# {part} " in header
    if "Measured:  nothing" not in header:
        assert "Measured:  scale " in header
    assert "Do not compare numbers of one scale with numbers of another" in header


def test_averages_in_a_header_are_those_of_the_papers_table() -> None:
    for file in ABLATIONS:
        header = file.read_text().partition("\ntitle: ")[0]
        paper = header.partition("# Paper:")[2].partition("# Measured:")[0]
        table = reported().tables[read_yaml(file)["table"]]
        assert all(f"{row.avg}" in paper for row in table.rows), file.name


def test_each_row_that_the_authors_trained_is_reproduced_by_one_row(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, scale="paper")
    reproduced: Counter[tuple[str, int | None]] = Counter()
    for experiment in plan.experiments.values():
        for variant in experiment.variants:
            if experiment.table and variant.reported:
                row = find_row(experiment.table, variant.reported)
                reproduced[experiment.table, row] += 1
    trained = {
        (name, number)
        for name, table in reported().tables.items()
        for number in range(len(table.rows))
        if table.is_authors_row(number)
    }
    assert set(reproduced) == trained
    assert set(reproduced.values()) == {1}
    assert len(trained) == 3 + 3 + 2 + 3 + 5 + 4 + 6 + 6


@pytest.mark.parametrize("scale", ["smoke", "mini", "small", "paper"])
def test_tables_1_to_5_share_the_runs_of_their_default_row(tmp_path: Path, scale: str) -> None:
    plan = plan_of(tmp_path, *ABLATIONS, scale=scale)
    defaults = {}
    for name, experiment in plan.experiments.items():
        assert experiment.table is not None
        rows = reported().tables[experiment.table].rows
        numbers = [
            number
            for number, variant in enumerate(experiment.variants)
            if variant.reported and rows[find_row(experiment.table, variant.reported) or 0].default
        ]
        assert len(numbers) == 1
        defaults[name] = plan.cells_of(name, numbers[0])[0]
    assert len(defaults) == 5
    assert len({(cell.trainings, cell.evaluate) for cell in defaults.values()}) == 1
    of_the_paper = [
        cell
        for name, experiment in plan.experiments.items()
        for number, variant in enumerate(experiment.variants)
        if variant.reported  # not a control row of the scale
        for cell in plan.cells_of(name, number)
    ]
    assert len(of_the_paper) == 16
    assert len({cell.evaluate for cell in of_the_paper}) == 12


def test_the_json_of_a_plan_counts_shared_runs_and_reported_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--scale", "paper", "--results", tmp_path, "--json")
    code, out, _ = call(capsys, "plan", *CATALOGUE, *options)
    assert code == 0
    content = json.loads(out)
    runs = content["runs"]
    stages = Counter(run["stage"] for run in runs)
    assert content["summary"] == {stage: stages[stage] for stage in content["summary"]}
    assert content["shared"] == sum(len(run["rows"]) > 1 for run in runs)
    assert content["without_sharing"] == sum(len(run["rows"]) for run in runs)
    assert content["without_sharing"] > len(runs) == len({run["id"] for run in runs})
    filled = content["reported"]
    assert [len(filled[f"table{number}"]) for number in range(1, 9)] == [3, 3, 2, 3, 5, 4, 6, 6]
    assert all(len(row["rows"]) == 1 for rows in filled.values() for row in rows)
    default = [run for run in runs if "ablation_mask: random 0.8 (LMIM)" in run["rows"]]
    stages_of_row = ["pretrain", "finetune", "probe", "probe", "evaluate"]
    assert [run["stage"] for run in default] == stages_of_row
    assert all(len(run["rows"]) >= 5 for run in default)


def test_table_7_follows_the_papers_recipe(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, scale="paper")
    configs = configs_of(plan, "union14m_benchmark", "LMIM (Union14M-L)")
    assert configs["pretrain"].data.roots == ("union14m_u",)
    assert configs["pretrain"].optimizer.epochs == configs["finetune"].optimizer.epochs == 10
    assert configs["finetune"].data.roots == ("union14m_l",)
    assert list(configs["evaluate"].subsets) == list(reported().subsets["union14m_benchmark"])
    longer = configs_of(plan, "union14m_benchmark", "LMIM 20 epochs (ARD)")
    assert longer["pretrain"].optimizer.epochs == 20
    assert longer["finetune"].data.roots == ("ard",)


def test_table_6_follows_the_papers_recipe(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, scale="paper")
    configs = configs_of(plan, "chinese_benchmark", "LMIM")
    assert configs["pretrain"].data.roots == ("ucti_11m",)
    assert configs["pretrain"].optimizer.epochs == 10
    finetune = configs["finetune"]
    assert (finetune.optimizer.epochs, finetune.max_length, len(finetune.charset)) == (60, 40, 7934)
    assert configs["evaluate"].protocol == "chinese"
    assert list(configs["evaluate"].subsets) == list(reported().subsets["chinese"])
    assert "pretrain" not in configs_of(plan, "chinese_benchmark", "scratch")
    compared = plan.experiments["chinese_benchmark"].compared_rows(3)
    assert compared == ("MIM", "SeqCLR", "scratch")


def test_table_8_evaluates_the_recognizers_of_table_7(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, scale="paper")
    subsets = configs_of(plan, "common_benchmarks", "LMIM (ARD), corrected")["evaluate"].subsets
    assert list(subsets) == list(reported().subsets["common"])
    assert subsets["iiit5k"].roots == ("iiit5k_corrected",)
    (common,) = cells_of(plan, "common_benchmarks", "LMIM (Union14M-L)")
    (union14m,) = cells_of(plan, "union14m_benchmark", "LMIM (Union14M-L)")
    assert common.trainings == union14m.trainings


def test_extended_benchmarks_evaluate_the_recognizers_of_table_7(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, scale="paper")
    for row in ("SeqCLR", "MIM", "LMIM (Union14M-L)", "LMIM 20 epochs (Union14M-L)"):
        (extended,) = cells_of(plan, "extended_benchmarks", row)
        (union14m,) = cells_of(plan, "union14m_benchmark", row)
        assert extended.trainings == union14m.trainings
        subsets = configs_of(plan, "extended_benchmarks", row)["evaluate"].subsets
        assert list(subsets) == list(reported().subsets["extended"])


def test_absent_extended_sets_are_named_and_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMIM_DATA", raising=False)
    file = HERE / "extended_benchmarks.yaml"

    def absent(**options: Any) -> set[str]:
        plan = plan_of(tmp_path, file, scale="paper", **options)
        runs = [run for run in plan.runs.values() if isinstance(run.config, Evaluate)]
        return {text.partition(":")[0] for run in runs for text in run.unmet_requirements()}

    names = {"host", "wost", "art", "coco", "uber"}
    assert absent() >= names
    own = {"evaluate.subsets": {"coco": {"roots": ["coco"]}}}
    assert absent(overrides=own) & names == {"coco"}


def test_baselines_follow_their_own_recipes_and_share_ours(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, scale="paper")
    mim, seqclr, lmim = (
        configs_of(plan, "union14m_benchmark", row)
        for row in ("MIM", "SeqCLR", "LMIM (Union14M-L)")
    )
    assert isinstance(mim["pretrain"], Pretrain)
    assert (mim["pretrain"].target.kind, mim["pretrain"].mask.ratio) == ("pixel", 0.75)
    assert (mim["pretrain"].guidance, mim["pretrain"].decoder.order) == (None, "SA-FFN")
    assert isinstance(seqclr["pretrain"], ContrastivePretrain)
    contrast = seqclr["pretrain"].contrast
    assert (contrast.windows, contrast.temperature) == (5, 0.1)
    for baseline in (mim, seqclr):
        assert baseline["pretrain"].optimizer == lmim["pretrain"].optimizer
        assert baseline["pretrain"].encoder == lmim["pretrain"].encoder
        assert baseline["finetune"] == lmim["finetune"]


def test_files_beyond_the_paper_change_what_their_rows_name(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *CATALOGUE, scale="paper")

    def config(experiment: str, row: str, stage: str = "pretrain") -> Any:
        return configs_of(plan, f"beyond_{experiment}", row)[stage]

    assert config("positions", "grid, 8 x 32").encoder.positions == "grid"
    assert config("positions", "released, 16 x 16").encoder.positions == "released"
    rows = {0.5: "weight 0.5", 1: "weight 1 (LMIM)", 2: "weight 2", 4: "weight 4"}
    for weight, row in rows.items():
        assert config("alignment", row).alignment.weight == weight
    for branch in ("guidance", "masked"):
        alignment = config("alignment", f"stop-gradient on the {branch} branch").alignment
        assert alignment.stop_gradient == branch
    assert config("equal_compute", "MAE trained on for LMIM's epochs").start == "teacher"
    once = config("augmentation_draws", "once per process (released), 8 processes", "finetune")
    assert once.augmentation_draws == 8
    assert config("augmentation_draws", "per image", "finetune").augmentation_draws is None
    assert config("layer_decay", "no decay", "finetune").optimizer.layer_decay == 1
    mask = config("density_mask", "density 0.8, focus 1").mask
    assert mask == Mask(kind="density", ratio=0.8)


@pytest.mark.parametrize("scale", ["smoke", "mini", "small", "paper"])
def test_rows_of_masks_differ_in_the_shape_alone_and_share_runs_of_table_5(
    tmp_path: Path, scale: str
) -> None:
    files = [HERE / f"{name}.yaml" for name in ("beyond_masks", "ablation_mask")]
    plan = plan_of(tmp_path, *files, scale=scale)
    variants = plan.experiments["beyond_masks"].variants
    names = [variant.name for variant in variants if not variant.name.startswith("control: ")]
    configs = [configs_of(plan, "beyond_masks", name)["pretrain"] for name in names]
    kinds = ["random", "block", "density", "span", "column_pairs", "seeded_blocks"]
    assert [config.mask for config in configs] == [Mask(kind=kind) for kind in kinds]
    assert len({config.model_copy(update={"mask": None}) for config in configs}) == 1
    for name, row in {"random (LMIM)": "random 0.8 (LMIM)", "block": "block 0.8"}.items():
        (cell,) = cells_of(plan, "beyond_masks", name)
        (same,) = cells_of(plan, "ablation_mask", row)
        assert cell.trainings == same.trainings


@pytest.mark.parametrize("scale", ["mini", "overnight", "small", "paper"])
def test_all_fractions_of_labels_are_trained_on_for_as_many_steps(
    tmp_path: Path, scale: str
) -> None:
    plan = plan_of(tmp_path, HERE / "label_fractions.yaml", scale=scale)
    runs = [run for run in plan.runs.values() if isinstance(run.config, Finetune)]
    totals = [resolved_schedule(run).steps or 0 for run in runs]
    assert len(runs) == 9
    assert max(totals) < 1.07 * min(totals)  # an epoch ends with a whole batch
    optimizers = [run.config.optimizer for run in runs if isinstance(run.config, Finetune)]
    assert len({one.warmup_epochs / one.epochs for one in optimizers}) == 1
    assert min(one.epochs for one in optimizers) >= 1


def test_the_curve_of_mim_spans_its_start_and_twice_the_length_of_a_night(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, HERE / "scaling.yaml", scale="overnight")
    images = [
        resolved_schedule(plan.runs[cells_of(plan, "scaling", variant.name)[0].trainings[0]]).images
        for variant in plan.experiments["scaling"].variants
        if variant.method == "MIM"
    ]
    assert images == sorted(images)
    assert images[0] <= 60_000
    assert images[-1] >= 1_500_000


def test_a_teacher_from_a_file_is_fine_tuned_and_its_images_count(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, HERE / "beyond_equal_compute.yaml", scale="paper")
    (alone,) = cells_of(plan, "beyond_equal_compute", "MAE (the teacher alone)")
    encoder = plan.runs[alone.trainings[0]].inputs["encoder"]
    assert encoder.endswith("vit_small_checkpoint-19.pth")
    assert alone.teacher_images == 200_000_000


def test_an_mae_is_trained_on_for_lmims_arithmetic(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, HERE / "beyond_equal_compute.yaml", scale="paper")
    petaflop = {
        run["rows"][0]: run["petaflop"]
        for run in describe_plan(plan, Store(tmp_path)).as_json()["runs"]
        if run["stage"] == "pretrain"
    }
    equal = "MAE trained on for LMIM's arithmetic"
    assert petaflop[equal] == pytest.approx(petaflop["LMIM"], rel=0.02)
    variants = plan.experiments["beyond_equal_compute"].variants
    (lmim,) = [variant for variant in variants if variant.name == "LMIM"]
    assert lmim.compare_with == ("MAE trained on for LMIM's epochs", equal)


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_rows_with_other_positions_or_epochs_share_the_teacher(tmp_path: Path, scale: str) -> None:
    names = ("beyond_positions", "union14m_benchmark", "ablation_mask")
    plan = plan_of(tmp_path, *(HERE / f"{name}.yaml" for name in names), scale=scale)
    for name in names:
        teachers = {cell.teacher for cell in plan.cells if cell.experiment == name}
        assert len(teachers - {""}) == 1, name


def test_substituted_subsets_have_the_names_of_their_splits(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, HERE / "common_benchmarks.yaml", scale="mini")
    for run in plan.runs.values():
        if isinstance(run.config, Evaluate):
            assert list(run.config.subsets) == ["general", "salient", "multi_oriented", "curve"]
        assert all(root.synthetic for roots in run.data.values() for root in roots)


def test_data_that_are_typed_are_not_substituted(tmp_path: Path) -> None:
    typed = {"finetune.data.roots": ["union14m_l"], "evaluate.subsets.svt.roots": ["svt"]}
    file = HERE / "common_benchmarks.yaml"
    plan = plan_of(tmp_path, file, scale="former_mini", overrides=typed, seeds=[0])
    configs = [run.config for run in plan.runs.values()]
    trained = {config.data.roots for config in configs if isinstance(config, Finetune)}
    # a row that names its data keeps its substitute
    assert trained == {("union14m_l",), ("synthetic:train",)}
    evaluations = [plan.runs[cell.evaluate].config for cell in plan.cells]
    with_svt = ["svt" in config.subsets for config in evaluations if isinstance(config, Evaluate)]
    # rows with corrected labels define their subsets
    assert with_svt == [True, True, False, False, False, False]
    key = "evaluate.subsets.svt.roots"
    assert any(f"--set {key}" in note and "'MIM, corrected'" in note for note in plan.notes)


def test_epochs_that_are_typed_are_not_multiplied(tmp_path: Path) -> None:
    overrides = {"finetune.optimizer.epochs": 3}
    file = HERE / "union14m_benchmark.yaml"
    plan = plan_of(tmp_path, file, scale="paper", overrides=overrides)
    configs = [run.config for run in plan.runs.values()]
    finetune = {config.optimizer.epochs for config in configs if isinstance(config, Finetune)}
    pretrain = {config.optimizer.epochs for config in configs if isinstance(config, Pretrain)}
    assert (finetune, pretrain) == ({3}, {10, 20})


@pytest.mark.parametrize(
    ("overrides", "images"),
    [
        ({}, 200_000_000),
        ({"teacher.file": "/mine.pth"}, None),
        ({"teacher.file": "/mine.pth", "teacher.images": 7}, 7),
    ],
)
def test_images_of_a_teacher_are_those_of_its_own_file(
    tmp_path: Path, overrides: dict[str, Any], images: int | None
) -> None:
    file = HERE / "ablation_decoder.yaml"
    plan = plan_of(tmp_path, file, scale="paper", overrides=overrides)
    assert {cell.teacher_images for cell in plan.cells} == {images}
