"""The costs in the catalogue: current, measured where records have them, the same everywhere."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from planned_training import words_root
from plans import CATALOGUE, TABLE1

from core.runtime.errors import UserError
from experiments import catalogue
from experiments.catalogue import (
    BEGIN,
    COLUMNS,
    END,
    NONE,
    PAGE,
    Cost,
    cost_cells,
    estimated_cost,
    main,
    measured_cost,
    one_seed,
    two_digits,
    with_costs,
    without_data,
)
from experiments.cli.plan_report import CPU_RATES, GPU_RATE, describe_plan
from experiments.planning import data_roots
from experiments.planning.plan import Plan
from experiments.planning.schema import HERE
from results.records import StoredCost
from results.store import Store

ROWS = ("no guidance", "guidance", "guidance + alignment (LMIM)", "control: scratch")


def record(seconds: float, **changes: Any) -> dict[str, Any]:
    """A record of a run on one thread of a CPU."""
    hardware = {"accelerator": None, "threads": 1, "processes": 1}
    return {"seconds": seconds, "hardware": hardware, "metrics": {}} | changes


def publish(folder: Path, records: dict[str, dict[str, Any]], rows: dict[str, Any]) -> None:
    """Write a results folder. records: id -> record. rows: name -> seed -> id of an evaluation."""
    for name, content in records.items():
        run = folder / "runs" / name
        run.mkdir(parents=True)
        (run / "record.json").write_text(json.dumps(content))
    table = [
        {
            "name": row,
            "runs": {
                seed: {"evaluate": run, "trainings": ["finetune-1"], "teacher": "file:x.pth"}
                for seed, run in seeds.items()
            },
        }
        for row, seeds in rows.items()
    ]
    (folder / "tables").mkdir()
    (folder / "tables" / "ablation_alignment.mini.json").write_text(json.dumps([{"rows": table}]))


@pytest.fixture
def table1(tmp_path: Path) -> Plan:
    """Table 1 at scale mini."""
    return one_seed(TABLE1, "mini", tmp_path)


def evaluations(seed: str) -> dict[str, dict[str, str]]:
    """Row -> seed -> id of an evaluation: an own one for each row."""
    return {row: {seed: f"evaluate-{number}"} for number, row in enumerate(ROWS)}


def test_the_costs_in_the_catalogue_are_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_costs(page) == page, "run: python -m experiments.catalogue"


def test_each_file_has_a_row_with_all_columns() -> None:
    table = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table]
    assert tuple(cells[0]) == COLUMNS
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert {len(row) for row in cells} == {len(COLUMNS)}
    assert sorted(row[0] for row in cells[2:]) == [f"`{file.stem}`" for file in CATALOGUE]
    assert all(len(cell) <= 8 for row in cells[2:] for cell in row[3:])


def test_speeds_of_estimates_are_those_that_the_page_names(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"{CPU_RATES['fp32'] / 1e9:.0f} GFLOP/s" in page
    assert f"{GPU_RATE / 1e12:.0f} TFLOP/s" in page
    devices = {
        scale: describe_plan(one_seed(TABLE1, scale, tmp_path), Store(tmp_path)).estimate.device
        for scale in ("mini", "overnight", "paper")
    }
    assert devices["mini"] == devices["overnight"] == "one CPU core"
    assert "GPU" in devices["paper"]


def test_published_tables_count_as_measured_times() -> None:
    cells = dict(zip(COLUMNS[3:], cost_cells(TABLE1), strict=True))
    measured = [name for name, cell in cells.items() if "~" not in cell]
    assert {"mini, min", "overnight, h"} <= set(measured)
    assert not any(name.startswith("paper") for name in measured)


def test_a_file_with_its_own_scale_has_costs_of_that_scale_alone() -> None:
    cells = cost_cells(HERE / "real_words.yaml")
    assert NONE not in cells[:3]
    assert cells[3:] == [NONE] * 6


def test_costs_do_not_depend_on_data_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "PUBLISHED", tmp_path)  # nothing is measured
    file = HERE / "real_words.yaml"
    without = cost_cells(file)
    root = words_root(tmp_path / "words")
    for name in ("IIIT5K", "IIIT5K_TRAIN", "SVT", "SVT_TRAIN"):
        monkeypatch.setenv(f"LMIM_ROOT_{name}", root.path)
    assert cost_cells(file) == without
    assert os.environ["LMIM_ROOT_SVT"] == root.path


def test_costs_do_not_depend_on_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    file = HERE / "chinese_benchmark.yaml"
    before = cost_cells(file)

    def no_font(config: object) -> str:
        raise UserError("no font has the characters")

    monkeypatch.setattr(data_roots, "dataset_fingerprint", no_font)
    assert cost_cells(file) == before


def test_the_environment_returns_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMIM_DATA", "/data")
    monkeypatch.delenv("LMIM_DATA_FILE", raising=False)
    seen: list[str] = []

    def fail() -> None:
        with without_data():
            seen.extend(os.environ)
            raise UserError("x")

    with pytest.raises(UserError):
        fail()
    assert "LMIM_DATA" not in seen
    assert os.environ["LMIM_DATA"] == "/data"
    assert "LMIM_DATA_FILE" not in os.environ


def test_a_measured_cost_counts_shared_runs_once_and_is_a_mean_over_seeds(
    tmp_path: Path, table1: Plan
) -> None:
    rows = {
        row: {seed: f"evaluate-{number}{seed}" for seed in ("0", "1")}
        for number, row in enumerate(ROWS)
    }
    records = {
        f"evaluate-{number}{seed}": record(10, peak_own_memory_bytes=number, disk_bytes=2)
        for number in range(4)
        for seed in ("0", "1")
    }
    records["evaluate-01"]["seconds"] = 30
    records["finetune-1"] = record(100, peak_own_memory_bytes=7, disk_bytes=5)
    publish(tmp_path / "published/x", records, rows)
    cost = measured_cost(table1, tmp_path / "published")
    assert cost == Cost(seconds=100 + (40 + 60) / 2, memory=7, disk=4 * 2 + 5)


def test_memory_and_disk_are_not_measured_if_one_record_lacks_them(
    tmp_path: Path, table1: Plan
) -> None:
    records = {
        f"evaluate-{number}": record(10, peak_own_memory_bytes=9, disk_bytes=2)
        for number in range(4)
    }
    records["finetune-1"] = record(100)
    publish(tmp_path / "published/x", records, evaluations("0"))
    assert measured_cost(table1, tmp_path / "published") == Cost(seconds=140)


@pytest.mark.parametrize("absent", ["a record", "a row"])
def test_a_table_that_is_not_complete_measures_nothing(
    tmp_path: Path, table1: Plan, absent: str
) -> None:
    records = {f"evaluate-{number}": record(10) for number in range(4)}
    rows = evaluations("0")
    if absent == "a row":
        records["finetune-1"] = record(100)
        del rows["guidance"]
    publish(tmp_path / "published/x", records, rows)
    assert measured_cost(table1, tmp_path / "published") == Cost()


def test_a_run_on_a_gpu_is_no_measured_time_of_a_core(tmp_path: Path, table1: Plan) -> None:
    records = {f"evaluate-{number}": record(10) for number in range(4)}
    on_gpu = {"accelerator": "a GPU", "threads": 1, "processes": 1}
    records["finetune-1"] = record(100, hardware=on_gpu)
    publish(tmp_path / "published/x", records, evaluations("0"))
    assert measured_cost(table1, tmp_path / "published") == Cost()


def test_core_seconds_count_threads_and_all_parts_of_an_interrupted_run() -> None:
    hardware = {"accelerator": None, "threads": 2, "processes": 3}
    whole = record(10, hardware=hardware)
    resumed = whole | {"metrics": {"train_seconds": 15.0}}
    assert StoredCost.model_validate(whole).core_seconds == 60
    assert StoredCost.model_validate(resumed).core_seconds == 90


def test_an_estimate_is_that_of_plan(tmp_path: Path, table1: Plan) -> None:
    cost = estimated_cost(table1, tmp_path)
    runs = describe_plan(table1, Store(tmp_path)).runs
    assert cost.seconds == pytest.approx(3600 * sum(run.estimated_hours for run in runs), rel=1e-3)
    assert cost.memory == max(run.memory_bytes for run in runs)
    assert cost.disk is not None
    assert 0 < cost.disk < sum(run.disk_bytes for run in runs)


def test_a_file_without_a_row_and_a_row_without_a_file_are_reported() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = page.splitlines()
    (row,) = [line for line in lines if line.startswith("| `scaling` |")]
    with pytest.raises(UserError, match="no row of the catalogue for scaling"):
        with_costs(page.replace(f"{row}\n", ""))
    with pytest.raises(UserError, match="gone: no such experiment file"):
        with_costs(page.replace(row, f"{row}\n{row.replace('`scaling`', '`gone`')}"))
    with pytest.raises(UserError, match="needs one line"):
        with_costs(page.replace(END, ""))


def test_the_command_writes_costs_and_keeps_the_rest_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    before = PAGE.read_text(encoding="utf-8")
    page.write_text(before, encoding="utf-8")
    monkeypatch.setattr(catalogue, "PAGE", page)
    monkeypatch.setattr(catalogue, "cost_cells", lambda file: ["7"] * 9)
    assert main([]) == 0
    after = page.read_text(encoding="utf-8")
    assert after.count(f"| {' | '.join('7' * 9)} |") == len(CATALOGUE)
    assert after.split(BEGIN)[0] == before.split(BEGIN)[0]
    assert after.split(END)[1] == before.split(END)[1]
    page.write_text("no table", encoding="utf-8")
    assert main([]) == 2
    assert str(page) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"), [(0.0183, "0.018"), (1, "1"), (9.96, "10"), (107.2, "107")]
)
def test_numbers_have_two_digits_and_no_exponent(value: float, text: str) -> None:
    assert two_digits(value) == text
