"""The experiment files as a whole: every row of the paper once, shared runs shared, everything runs."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from conftest import call

from core.config import ContrastivePretrain, Evaluate, Finetune, Mask, Pretrain
from core.runtime.errors import UserError
from core.synthetic.fonts import cjk_faces
from experiments.cli.describe import describe_plan
from experiments.planning.plan import Plan
from experiments.planning.planner import make_plan
from experiments.planning.schema import HERE, experiment_files
from results.reported import find_row, reported
from results.store import Store

REPOSITORY = HERE.parent
FILES = experiment_files(sorted(HERE.glob("*.yaml")))
ABLATIONS = [file for file in FILES if file.stem.startswith("ablation_")]


def plan(tmp_path: Path, files: list[Path], scale: str = "paper", **options: Any) -> Plan:
    settings = {"precision": lambda: "fp32", "overrides": {}, "seeds": None} | options
    return make_plan(files, scale, Store(tmp_path), **settings)


def row_of(found: Plan, experiment: str, name: str) -> tuple[Any, Any, Any]:
    """Configs of a row's pre-training, fine-tuning and evaluation."""
    number = [variant.name for variant in found.experiments[experiment].variants].index(name)
    (cell,) = found.cells_of(experiment, number)
    runs = [*cell.trainings, cell.evaluate]
    return (*([None] if len(runs) < 3 else []), *(found.runs[run].config for run in runs))  # type: ignore[return-value]


def test_settings_files_beside_the_experiments_are_left_out() -> None:
    assert HERE / "data.yaml" not in FILES
    assert len(FILES) >= 15
    with pytest.raises(UserError, match="settings, not an experiment"):
        experiment_files([HERE / "data.yaml"])


def test_every_row_that_the_authors_trained_is_filled_by_exactly_one_row(tmp_path: Path) -> None:
    found = plan(tmp_path, FILES)
    filled: Counter[tuple[str, int | None]] = Counter()
    for experiment in found.experiments.values():
        for variant in experiment.variants:
            if experiment.table and variant.reported:
                filled[experiment.table, find_row(experiment.table, variant.reported)] += 1
    wanted = {
        (name, number)
        for name, table in reported().tables.items()
        for number in range(len(table.rows))
        if table.own(number)
    }
    assert set(filled) == wanted
    assert set(filled.values()) == {1}
    assert len(wanted) == 3 + 3 + 2 + 3 + 5 + 4 + 6 + 6


@pytest.mark.parametrize("scale", ["smoke", "mini", "small", "paper"])
def test_the_default_row_of_tables_1_to_5_is_one_run_graph(tmp_path: Path, scale: str) -> None:
    found = plan(tmp_path, ABLATIONS, scale)
    defaults = {}
    for name, experiment in found.experiments.items():
        assert experiment.table is not None
        rows = reported().tables[experiment.table].rows
        numbers = [
            number
            for number, variant in enumerate(experiment.variants)
            if rows[find_row(experiment.table, variant.reported) or 0].default
        ]
        assert len(numbers) == 1
        defaults[name] = found.cells_of(name, numbers[0])[0]
    assert len(defaults) == 5
    assert len({(cell.trainings, cell.evaluate) for cell in defaults.values()}) == 1
    rows = sum(len(experiment.variants) for experiment in found.experiments.values())
    assert rows == 16
    assert len({cell.evaluate for cell in found.cells}) == 12


def test_the_plans_json_says_what_is_shared_and_which_reported_rows_are_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(
        capsys,
        "plan",
        *sorted(HERE.glob("*.yaml")),
        "--scale",
        "paper",
        "--results",
        tmp_path,
        "--json",
    )
    assert code == 0
    content = json.loads(out)
    assert content["summary"] == {
        stage: sum(run["stage"] == stage for run in content["runs"]) for stage in content["summary"]
    }
    assert content["shared"] == sum(len(run["rows"]) > 1 for run in content["runs"])
    assert (
        content["without_sharing"]
        == sum(len(run["rows"]) for run in content["runs"])
        > len(content["runs"])
    )
    ids = [run["id"] for run in content["runs"]]
    assert len(set(ids)) == len(ids)
    filled = content["reported"]
    assert [len(filled[f"table{number}"]) for number in range(1, 9)] == [3, 3, 2, 3, 5, 4, 6, 6]
    assert all(len(one["rows"]) == 1 for rows in filled.values() for one in rows)
    default = [run for run in content["runs"] if "ablation_mask: random 0.8 (LMIM)" in run["rows"]]
    assert [run["stage"] for run in default] == ["pretrain", "finetune", "evaluate"]
    assert all(len(run["rows"]) >= 5 for run in default)


def test_main_tables_follow_the_papers_recipe(tmp_path: Path) -> None:
    found = plan(tmp_path, FILES)
    pretrain, finetune, evaluate = row_of(found, "union14m_benchmark", "LMIM (Union14M-L)")
    assert (pretrain.data.roots, pretrain.optimizer.epochs, finetune.optimizer.epochs) == (
        ("union14m_u",),
        10,
        10,
    )
    assert (finetune.data.roots, list(evaluate.subsets)) == (
        ("union14m_l",),
        list(reported().subsets["union14m_benchmark"]),
    )
    pretrain, finetune, _ = row_of(found, "union14m_benchmark", "LMIM 20 epochs (ARD)")
    assert (pretrain.optimizer.epochs, finetune.data.roots) == (20, ("ard",))
    pretrain, finetune, evaluate = row_of(found, "chinese_benchmark", "LMIM")
    assert (pretrain.data.roots, pretrain.optimizer.epochs) == (("ucti_11m",), 10)
    assert (finetune.optimizer.epochs, finetune.max_length, len(finetune.charset)) == (60, 40, 7934)
    assert (evaluate.protocol, list(evaluate.subsets)) == (
        "chinese",
        list(reported().subsets["chinese"]),
    )
    assert row_of(found, "chinese_benchmark", "scratch")[0] is None
    assert found.experiments["chinese_benchmark"].others(3) == ("MIM", "SeqCLR", "scratch")
    _, _, evaluate = row_of(found, "common_benchmarks", "LMIM (ARD), corrected")
    assert list(evaluate.subsets) == list(reported().subsets["common"])
    assert evaluate.subsets["iiit5k"].roots == ("iiit5k_corrected",)
    common = next(iter(found.cells_of("common_benchmarks", 1)))
    assert common.trainings == next(iter(found.cells_of("union14m_benchmark", 3))).trainings, (
        "the same recognizer"
    )


def test_baselines_follow_their_own_recipes_and_share_ours(tmp_path: Path) -> None:
    found = plan(tmp_path, FILES)
    mim, mim_finetune, _ = row_of(found, "union14m_benchmark", "MIM")
    seqclr, seqclr_finetune, _ = row_of(found, "union14m_benchmark", "SeqCLR")
    lmim, lmim_finetune, _ = row_of(found, "union14m_benchmark", "LMIM (Union14M-L)")
    assert isinstance(mim, Pretrain)
    assert (mim.target.kind, mim.mask.ratio, mim.guidance, mim.decoder.order) == (
        "pixel",
        0.75,
        None,
        "SA-FFN",
    )
    assert isinstance(seqclr, ContrastivePretrain)
    assert (seqclr.contrast.windows, seqclr.contrast.temperature) == (5, 0.1)
    assert mim.optimizer == seqclr.optimizer == lmim.optimizer
    assert mim.encoder == seqclr.encoder == lmim.encoder
    assert mim_finetune == seqclr_finetune == lmim_finetune


def test_beyond_the_paper_one_thing_changes_a_row(tmp_path: Path) -> None:
    found = plan(tmp_path, FILES)

    def one(experiment: str, name: str, stage: int = 0) -> Any:
        return row_of(found, experiment, name)[stage]

    assert one("beyond_positions", "grid, 8 x 32").encoder.positions == "grid"
    assert one("beyond_positions", "released, 16 x 16").encoder.positions == "released"
    weights = [0.5, 1, 2, 4]
    assert [
        one("beyond_alignment", f"weight {w:g}{' (LMIM)' * (w == 1)}").alignment.weight
        for w in weights
    ] == weights
    for branch in ("guidance", "masked"):
        assert (
            one("beyond_alignment", f"stop-gradient on the {branch} branch").alignment.stop_gradient
            == branch
        )
    assert one("beyond_equal_compute", "MAE trained on for LMIM's epochs").start == "teacher"
    assert (
        one(
            "beyond_augmentation_draws", "once per process (released), 8 processes", 1
        ).augmentation_draws
        == 8
    )
    assert one("beyond_augmentation_draws", "per image", 1).augmentation_draws is None
    assert one("beyond_layer_decay", "no decay", 1).optimizer.layer_decay == 1
    assert one("beyond_density_mask", "density 0.8, focus 1").mask == Mask(
        kind="density", ratio=0.8
    )
    alone = next(iter(found.cells_of("beyond_equal_compute", 0)))
    assert found.runs[alone.trainings[0]].inputs["encoder"].endswith("vit_small_checkpoint-19.pth")
    assert alone.teacher_images == 200_000_000


def test_an_mae_is_trained_on_for_lmims_arithmetic(tmp_path: Path) -> None:
    found = plan(tmp_path, [HERE / "beyond_equal_compute.yaml"])
    petaflop = {
        run["rows"][0]: run["petaflop"]
        for run in describe_plan(found, Store(tmp_path))["runs"]
        if run["stage"] == "pretrain"
    }
    assert petaflop["MAE trained on for LMIM's arithmetic"] == pytest.approx(
        petaflop["LMIM"], rel=0.02
    )
    (lmim,) = [
        variant
        for variant in found.experiments["beyond_equal_compute"].variants
        if variant.name == "LMIM"
    ]
    assert lmim.against == (
        "MAE trained on for LMIM's epochs",
        "MAE trained on for LMIM's arithmetic",
    )


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_rows_of_another_position_table_or_length_share_the_teacher(
    tmp_path: Path, scale: str
) -> None:
    found = plan(tmp_path, FILES, scale)
    for name in ("beyond_positions", "union14m_benchmark", "ablation_mask"):
        teachers = {
            cell.teacher for cell in found.cells if cell.experiment == name and cell.teacher
        }
        assert len(teachers) == 1, name


def test_stand_ins_go_under_the_name_of_what_is_read_and_give_way_to_what_is_typed(
    tmp_path: Path,
) -> None:
    file = [HERE / "common_benchmarks.yaml"]
    for run in plan(tmp_path, file, "mini").runs.values():
        if isinstance(run.config, Evaluate):
            assert list(run.config.subsets) == ["general", "salient", "multi_oriented", "curve"]
        assert all(root.rendered for roots in run.data.values() for root in roots)
    typed = {"finetune.data.roots": ["union14m_l"], "evaluate.subsets.svt.roots": ["svt"]}
    found = plan(tmp_path, file, "mini", overrides=typed, seeds=[0])
    trained = {
        run.config.data.roots for run in found.runs.values() if isinstance(run.config, Finetune)
    }
    assert trained == {("union14m_l",), ("rendered:train",)}, (
        "a row that names its data keeps its stand-in"
    )
    read = [list(found.runs[cell.evaluate].config.subsets) for cell in found.cells]  # type: ignore[union-attr]
    assert ["svt" in subsets for subsets in read] == [True, True, False, False, False, False], (
        "corrected rows define theirs"
    )
    assert any("does not reach row 'MIM, corrected'" in note for note in found.notes)


def test_typed_epochs_are_those_that_are_trained(tmp_path: Path) -> None:
    file = [HERE / "union14m_benchmark.yaml"]
    epochs = {"finetune.optimizer.epochs": 3}
    found = plan(tmp_path, file, overrides=epochs)
    assert {
        run.config.optimizer.epochs
        for run in found.runs.values()
        if isinstance(run.config, Finetune)
    } == {3}
    assert {
        run.config.optimizer.epochs
        for run in found.runs.values()
        if isinstance(run.config, Pretrain)
    } == {10, 20}


def test_images_of_the_profiles_teacher_are_not_said_of_another(tmp_path: Path) -> None:
    file = [HERE / "ablation_decoder.yaml"]
    assert {cell.teacher_images for cell in plan(tmp_path, file).cells} == {200_000_000}
    other: dict[str, Any] = {"teacher.file": "/mine.pth"}
    assert {cell.teacher_images for cell in plan(tmp_path, file, overrides=other).cells} == {None}
    assert {
        cell.teacher_images
        for cell in plan(tmp_path, file, overrides=other | {"teacher.images": 7}).cells
    } == {7}


def test_every_file_runs_at_smoke_scale_in_one_command_and_all_tables_are_printed(
    tmp_path: Path,
) -> None:
    try:
        cjk_faces("的")
    except UserError as error:
        pytest.skip(str(error))
    few = ("--set", "rendered.train=128", "--set", "rendered_chinese.train=64")
    results = ("--scale", "smoke", "--results", str(tmp_path), "--device", "cpu", *few)
    command = [sys.executable, "run.py", *map(str, sorted(HERE.glob("*.yaml"))), *results]
    done = run_command(command)
    assert done.returncode == 0, done.stderr[-3000:]
    compare = [sys.executable, "run.py", "compare", *map(str, FILES), *results, "--format", "json"]
    content = json.loads(run_command(compare, check=True).stdout)
    tables = {one["table"]: one for one in content if one["table"]}
    assert sorted(tables) == [f"table{number}" for number in range(1, 9)]
    for one in content:
        assert (
            f"# {'Table ' + one['table'][5:] if one['table'] else one['experiment']}: "
            in done.stdout
        )
        for row in one["rows"]:
            assert row["verdict"] in ("not comparable", "")
            if row["ours"] or not one["table"]:
                assert (
                    row["measured"]["Avg"]["low"]
                    <= row["measured"]["Avg"]["accuracy"]
                    <= row["measured"]["Avg"]["high"]
                )
                assert row["ledger"]["images"] > 0
        assert all(pair["verdict"] != "missing" for pair in one["comparisons"])
    lmim, mae = (
        next(row for row in tables["table7"]["rows"] if row["name"] == name)
        for name in ("LMIM (Union14M-L)", "MIM")
    )
    assert lmim["ledger"]["teacher_images"] == mae["ledger"]["pretrain_images"] > 0
