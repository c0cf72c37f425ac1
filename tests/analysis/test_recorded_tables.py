"""The command `compare`: planned runs, stored runs of the same recipe, stored seeds."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from table_records import DECODER, SUBSETS, at_accuracy, write_evaluation, write_training

from analysis.tables.content import TableRow
from analysis.tables.measurements import Row
from analysis.tables.planned import tables_of
from analysis.tables.table import Table
from experiments.planning.plan import Cell, Plan
from experiments.planning.planner import make_plan
from results.store import Store

LMIM_ROW = 1  # of Table 3
LMIM_NAME = "SA-CA-FFN (LMIM)"
RECORDED_KEYS = ("config", "inputs", "data")


def compare_json(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> Any:
    """Table 3 at scale smoke as `compare` prints it in JSON."""
    arguments = [DECODER, "--scale", "smoke", "--results", folder, "--format", "json", *options]
    code, out, err = call(capsys, "compare", *arguments)
    assert code == 0, err
    (content,) = json.loads(out)
    return content


def verdicts(content: Any) -> list[str]:
    return [row["verdict"] for row in content["rows"]]


def decoder_plan(
    store: Store, scale: str = "smoke", seeds: tuple[int, ...] | None = None, **overrides: Any
) -> Plan:
    precision = "fp32" if scale == "smoke" else "bf16"
    return make_plan(
        [DECODER], scale, store, precision=lambda: precision, overrides=overrides, seeds=seeds
    )


def write_under_other_ids(store: Store, seeds: tuple[int, ...] = (0,), **overrides: Any) -> None:
    """Records of Table 3's default row under ids that no plan has, and the table that names them.

    overrides: settings of the recipe.
    """
    plan = decoder_plan(store, seeds=seeds, **overrides)
    cells = plan.cells_of("ablation_decoder", LMIM_ROW)
    evaluations: dict[int, str] = {}
    trainings: dict[int, tuple[str, ...]] = {}
    teachers: dict[int, str] = {}
    for cell in cells:
        teachers[cell.seed] = write_copy(store, plan, cell.teacher, f"pretrain-teacher{cell.seed}")
        trainings[cell.seed] = (
            write_copy(store, plan, cell.trainings[0], f"pretrain-pretrain{cell.seed}"),
            write_copy(store, plan, cell.trainings[1], f"finetune-finetune{cell.seed}"),
        )
        record = plan.runs[cell.evaluate].as_json()
        evaluations[cell.seed] = write_evaluation(
            store,
            f"evaluate-elsewhere{cell.seed}",
            {name: [1, 0, 1] for name in SUBSETS},
            config=record["config"],
            inputs=record["inputs"],
        )
    row = Row(LMIM_NAME, LMIM_ROW, (), evaluations, trainings, teachers)
    Table("ablation_decoder", "t", "smoke", "", "table3", [row], store).write()


def write_copy(store: Store, plan: Plan, planned: str, run_id: str) -> str:
    """The record of a planned training run under another id."""
    record = plan.runs[planned].as_json()
    return write_training(store, run_id, 5, 1, **{key: record[key] for key in RECORDED_KEYS})


def test_compare_shows_missing_rows_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["experiments/ablation_alignment.yaml", "experiments/ablation_decoder.yaml"]
    common = ["--scale", "smoke", "--results", tmp_path]
    code, out, _ = call(capsys, "compare", *files, *common, "--format", "json")
    assert code == 0
    content = json.loads(out)
    assert [table["table"] for table in content] == ["table1", "table3"]
    assert {verdict for table in content for verdict in verdicts(table)} == {"missing"}
    pairs = [pair for table in content for pair in table["comparisons"]]
    assert {pair["verdict"] for pair in pairs} == {"missing"}
    for form in ("md", "csv", "latex", "html"):
        code, out, _ = call(capsys, "compare", *files, *common, "--format", form)
        assert code == 0
        assert "missing" in out
    assert not list(tmp_path.iterdir())


def test_stored_runs_of_the_same_recipe_fill_a_row_under_other_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids differ if data are absent, or if fonts, library versions or precision differ."""
    write_under_other_ids(Store(tmp_path))
    content = compare_json(capsys, tmp_path)
    assert verdicts(content) == ["missing", "not comparable"]
    row = content["rows"][LMIM_ROW]
    assert row["measured"]["Avg"]["accuracy"] == pytest.approx(66.6667)
    assert row["runs"]["0"]["evaluate"] == "evaluate-elsewhere0"
    assert any("stored runs" in note and LMIM_NAME in note for note in content["notes"])


@pytest.mark.parametrize(
    "change",
    [
        {"finetune.optimizer.epochs": 3},
        {"finetune.data.roots": ["synthetic:validation"]},
        {"evaluate.subsets.curve.roots": ["synthetic:general"]},
        {"finetune.charset": "abc"},
        {"methods.MIM.pretrain.mask.ratio": 0.6},
    ],
)
def test_stored_runs_of_another_recipe_do_not_fill_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    """Other schedule, training data, test data, characters, or teacher."""
    write_under_other_ids(Store(tmp_path), **change)
    assert verdicts(compare_json(capsys, tmp_path)) == ["missing", "missing"]


def test_compare_uses_the_stored_seeds_unless_seeds_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    write_under_other_ids(store, (0, 5))
    write_under_other_ids(store, (1,))  # the stored table keeps the seeds 0 and 5
    assert compare_json(capsys, tmp_path)["rows"][LMIM_ROW]["seeds"] == [0, 1, 5]
    assert compare_json(capsys, tmp_path, "--seeds", "1")["rows"][LMIM_ROW]["seeds"] == [1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[[1]]",
        '[{"known_runs": {"SA-CA-FFN (LMIM)": {"0": {}}}}]',
        '[{"known_runs": [3]}]',
    ],
)
def test_a_damaged_stored_table_names_no_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "ablation_decoder.smoke.json").write_text(text)
    assert verdicts(compare_json(capsys, tmp_path)) == ["missing", "missing"]


def row_with_training_images(store: Store, images: dict[str, int]) -> TableRow:
    """Table 3's default row at scale paper, of stored runs on data sets of these sizes."""
    plan = decoder_plan(store, "paper")
    cell: Cell = plan.cells_of("ablation_decoder", LMIM_ROW)[0]
    record = plan.runs[cell.evaluate].as_json()
    keys = {key: record[key] for key in ("config", "inputs")}
    write_evaluation(store, "evaluate-there", at_accuracy(0.812), **keys)
    for run in cell.trainings:
        record = plan.runs[run].as_json()
        roots = [
            {"root": root.name, "fingerprint": "f", "images": images[root.name]}
            for root in plan.runs[run].data["train"]
        ]
        keys = {key: record[key] for key in ("config", "inputs")} | {"data": {"train": roots}}
        write_training(store, f"{run}-there", 5, 1, **keys)
    trainings = {0: tuple(f"{run}-there" for run in cell.trainings)}
    row = Row(LMIM_NAME, LMIM_ROW, (), {0: "evaluate-there"}, trainings, {0: cell.teacher})
    Table("ablation_decoder", "t", "paper", "", "table3", [row], store).write()
    return tables_of(plan, store, recorded=True)[0].content.rows[LMIM_ROW]


def test_stored_runs_are_judged_by_the_data_in_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's data are absent here, so only the records state their sizes."""
    monkeypatch.delenv("LMIM_DATA", raising=False)
    store = Store(tmp_path)
    sizes = {
        "union14m_l": 3_230_742,
        "union14m_u_book32": 2_400_000,
        "union14m_u_openvino": 2_600_000,
    }
    assert row_with_training_images(store, sizes).verdict == "reproduced"
    row = row_with_training_images(store, sizes | {"union14m_l": 3})
    assert row.verdict == "not comparable"
    assert row.why == ("data: union14m_l has 3 images, not 3,230,742",)


def test_a_run_with_another_seed_adds_to_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained here: all runs are complete, one seed at a time."""
    store = Store(tmp_path)
    for seed in (0, 1):
        for cell in decoder_plan(store, seeds=(seed,)).cells:
            for run in (cell.teacher, *cell.trainings):
                write_training(store, run, 5, 1)
            write_evaluation(store, cell.evaluate, {name: [1, 0, 1] for name in SUBSETS})
        arguments = [DECODER, "--scale", "smoke", "--results", tmp_path, "--seeds", seed]
        code, out, err = call(capsys, *arguments)
        assert code == 0, err
    assert "images, seeds 0 1" in out
    assert "Seeds: 0, 1." in (tmp_path / "tables" / "ablation_decoder.smoke.md").read_text()
    assert "without seed" not in out
