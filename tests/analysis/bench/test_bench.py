"""The command `bench`. No test here compares times with each other."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from conftest import call

from analysis.bench import steps as bench_steps
from analysis.bench.decision import (
    BOTH,
    NEITHER,
    TARGETS,
    decision_cost,
    runs_of_parts,
    table_1,
)
from analysis.bench.limits import native_precisions
from analysis.bench.measure import Timing, compare_paths, speed_ratio
from analysis.bench.report import cells, processor_instructions, ratio_text
from analysis.bench.setup import BenchSetup
from results.store import Store

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


def measured(capsys: Capture, *arguments: object) -> dict[str, Any]:
    """The JSON report of a quick benchmark."""
    code, out, err = call(capsys, "bench", "--quick", "--json", *arguments)
    assert code == 0, err
    report: dict[str, Any] = json.loads(out)
    return report


def test_every_timing_has_a_rate_and_seconds(capsys: Capture) -> None:
    names = ("limits", "start", "input")
    report = measured(capsys, *names)
    assert report["machine"]["cores"] >= 1
    assert report["work"] == "tiny"
    assert {timing["what"] for timing in report["measured"]} == set(names)
    for timing in report["measured"]:
        assert timing["rate"] > 0
        assert min(timing["seconds"]) > 0
    assert len(report["left_out"]) == 2 - len(native_precisions("cpu"))


def test_training_steps_are_compared_with_the_plain_step_and_the_limit(capsys: Capture) -> None:
    report = measured(capsys, "pretrain", "feeding")
    steps = {row["path"]: row for row in report["measured"] if row["what"] == "pretrain"}
    precisions = native_precisions("cpu")
    assert steps.keys() == {"plain", *(f"ours, {precision}" for precision in precisions)}
    for step in steps.values():
        assert step["ratios"]["x plain"] > 0
        assert step["memory_mb"] > 0
    for precision in precisions:
        ratios = steps[f"ours, {precision}"]["ratios"]
        assert 0 < ratios[f"of the {precision} matrix product's rate"] < 1
    (feeding,) = (row for row in report["measured"] if row["what"] == "feeding")
    assert 0 < feeding["ratios"]["share of time waiting for data"] < 1


def test_decoding_process_groups_and_indices_are_printed_as_tables(
    capsys: Capture, tmp_path: Path
) -> None:
    names = ("profile", "reading", "team", "index", "views")
    code, out, err = call(capsys, "bench", "--quick", "--results", tmp_path, *names)
    assert code == 0
    assert all(f"### {name}" in out for name in names[:-1])
    for text in (
        "matrix products",
        "beam search, width 5, fp32",
        "times greedy's cost",
        "64 GPUs, on paper",
        "10,000 images",
    ):
        assert text in out
    assert "5 of 5: views" in err
    assert (tmp_path / "bench" / "views.png").stat().st_size > 10_000


def test_two_commands_at_once_are_compared_with_one_after_the_other(capsys: Capture) -> None:
    rows = {row["path"]: row for row in measured(capsys, "sharing")["measured"]}
    assert rows.keys() == {"one alone", "two at once"}
    ratios = rows["two at once"]["ratios"]
    assert ratios.keys() == {"x the work of one after the other", "x their time"}
    assert min(ratios.values()) > 0


def test_a_precision_that_the_processor_does_not_multiply_is_left_out() -> None:
    """With AVX2 only, a bf16 product takes ten to a hundred times as long as in fp32."""
    avx2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "run.py", "bench", "--quick", "--json", "limits"]
    report = json.loads(run_command(command, env=os.environ | avx2, check=True).stdout)
    assert [row["case"] for row in report["measured"]] == ["matrix product, fp32", "memory copy"]
    (sentence,) = report["left_out"]
    assert "bf16" in sentence


def test_an_unknown_measurement_is_refused_with_the_known_ones(capsys: Capture) -> None:
    code, _, err = call(capsys, "bench", "speed")
    assert code == 2
    assert "'speed'" in err
    assert "limits, start" in err


def test_a_missing_data_folder_is_refused_by_name(capsys: Capture, tmp_path: Path) -> None:
    code, _, err = call(capsys, "bench", "input", "--data", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere" in err


def test_an_interrupted_benchmark_prints_what_it_has_measured(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: BenchSetup) -> list[Timing]:
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.bench.inputs.measure_input", interrupt)
    code, out, err = call(capsys, "bench", "--quick", "limits", "input")
    assert code == 130
    assert "matrix product, fp32" in out
    assert "before input" in err


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_compiled_steps_are_measured_on_cuda_only(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_steps, "native_precisions", lambda _: ("fp32",))
    monkeypatch.setattr(bench_steps, "can_compile", lambda _: True)
    paths = bench_steps.step_makers(BenchSetup("words", device), "pretrain", 4).keys()
    compiled = {"ours, compiled, fp32"} if device == "cuda" else set()
    assert paths == {"plain", "ours, fp32"} | compiled


def test_a_speed_ratio_is_the_median_over_turns() -> None:
    assert speed_ratio([1, 1, 1], [2, 9, 3]) == 3
    seconds = {"plain": [2.0, 4.0, 6.0], "ours": [1.0, 1.0, 1.0]}
    plain, ours = compare_paths("input", "a case", "images", 8, seconds, "plain")
    assert (plain.ratios, ours.ratios) == ({"x plain": 1}, {"x plain": 4})
    assert ours.rate == 8


@pytest.mark.parametrize(
    ("unit", "median", "extremes"),
    [("images", "5 images/s", "2.5 to 10"), ("starts", "2.00 s", "1.00 s to 4.00 s")],
)
def test_fast_units_are_shown_as_rates_and_slow_ones_as_seconds(
    unit: str, median: str, extremes: str
) -> None:
    count = 10 if unit == "images" else 1
    timing = Timing("input", "a case", "ours", unit, count, [4.0, 1.0, 2.0])
    assert cells(timing)[2:4] == [median, extremes]
    assert cells(Timing("input", "a case", "ours", unit, count, [1.0]))[3] == ""


def test_factors_and_shares_are_shown_differently() -> None:
    assert ratio_text("x plain", 2.5) == "2.5 x plain"
    assert ratio_text("of the step", 0.45) == "45 % of the step"


def test_the_cost_of_a_decision_is_the_sum_of_its_parts(capsys: Capture) -> None:
    report = measured(capsys, "decision")
    cost, *speeds = report["measured"]
    assert cost["unit"] == "CPU-minutes"
    assert cost["seconds"][0] > 0
    assert len(cost["ratios"]) == 5
    assert min(cost["ratios"].values()) > 0
    assert sum(cost["ratios"].values()) == pytest.approx(1)
    assert [row["path"] for row in speeds] == [NEITHER, TARGETS, BOTH]
    assert {row["unit"] for row in speeds} == {"images"}


def test_the_instructions_of_the_processor_are_named(capsys: Capture) -> None:
    code, out, _ = call(capsys, "bench", "--quick", "limits")
    assert code == 0
    assert " ".join(processor_instructions()) in out.splitlines()[0]


def test_the_teacher_of_a_decision_is_shared_by_all_rows_that_use_it(tmp_path: Path) -> None:
    whole = table_1(Store(tmp_path), {})
    seconds = {part: [60.0 for _ in runs] for part, runs in runs_of_parts(whole).items()}
    cost = decision_cost(whole, whole, seconds)
    minutes = {part: share * cost.seconds[0] / 60 for part, share in cost.ratios.items()}
    assert minutes == pytest.approx(
        {
            "for pre-training": 1,
            "for its share of the teacher": 1 / 3,
            "for fine-tuning": 1,
            "for probes": 2,
            "for evaluation": 1,
        }
    )
