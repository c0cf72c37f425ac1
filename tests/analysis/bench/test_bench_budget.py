"""Measurements keep to their time, and say what they leave out. Time is simulated."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import call

from analysis.bench import decision, decoding, inputs, limits, operators, process_groups, training
from analysis.bench.budget import TOTAL_MINUTES, TimeBudget, duration, schedule
from analysis.bench.commands import MEASUREMENTS
from analysis.bench.limited_process import ProcessDied, call_in_process
from analysis.bench.measure import Timing, add_share_of_limit, peak_memory, time_in_turns
from analysis.bench.setup import BenchSetup
from core.runtime.errors import UserError


@dataclass
class Clock:
    """A simulated clock. Work takes the seconds that it says."""

    now: float = 0.0

    def read(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        """A function that takes this time on the simulated clock."""

        def path() -> None:
            self.now += seconds

        return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replaces the clocks of this process."""
    simulated = Clock()
    monkeypatch.setattr(time, "monotonic", simulated.read)
    monkeypatch.setattr(time, "perf_counter", simulated.read)
    return simulated


def setup_with(seconds: float) -> BenchSetup:
    """The paper's sizes, with a limited time."""
    return BenchSetup("words").within(TimeBudget(time.monotonic() + seconds))


@pytest.mark.parametrize(
    ("seconds", "counted"),
    [(math.inf, 5), (60, 5), (59, 4), (30, 2), (20, 1), (11, 1), (1, 1)],
)
def test_slow_paths_have_fewer_turns_and_the_cut_is_named(
    clock: Clock, seconds: float, counted: int
) -> None:
    setup = setup_with(seconds)
    paths = {"plain": clock.work(6), "ours": clock.work(4)}  # 10 s a turn, one turn warms up
    measured = time_in_turns(setup, "a case", paths)
    assert measured == {"plain": [6] * counted, "ours": [4] * counted}
    cuts = setup.budget.cuts
    assert [cut.startswith(f"a case: {counted} of 5 ") for cut in cuts] == [True] * (counted < 5)
    assert all("10 s" in cut for cut in cuts)


def test_the_first_turn_is_not_counted_if_there_are_others(clock: Clock) -> None:
    turns = iter([9, 1, 1])

    def path() -> None:
        clock.now += next(turns)

    assert time_in_turns(setup_with(20), "a case", {"ours": path}, 2) == {"ours": [1, 1]}


def test_the_measurements_end_before_20_minutes_and_share_the_time() -> None:
    names = list(MEASUREMENTS)
    ends = schedule(names, MEASUREMENTS)
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(60 * TOTAL_MINUTES)
    assert TOTAL_MINUTES < 20
    assert schedule(["index"], MEASUREMENTS) == [60 * TOTAL_MINUTES]
    first, second = schedule(["limits", "start"], {"limits": 1, "start": 2})
    assert (first, second) == pytest.approx((20 * TOTAL_MINUTES, 60 * TOTAL_MINUTES))


@pytest.mark.parametrize(
    ("measure", "part"),
    [
        (training.measure_pretraining, "batch 16"),
        (training.measure_finetuning, "batch 16"),
        (training.measure_feeding, "batch 16"),
        (operators.measure_operators, "pre-training"),
        (decoding.measure_decoding, "batch 64"),
        (decision.measure_decision, "cost of a decision"),
        (process_groups.measure_process_groups, "2 processes"),
    ],
)
def test_a_model_too_slow_for_one_step_is_left_out(
    measure: Callable[[BenchSetup], list[Timing]], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "fp32_rate", lambda device: 1e8)  # a thousandth of a CPU
    setup = setup_with(60)
    assert all(timing.note for timing in measure(setup))  # estimates, not measurements
    assert any(part in cut and "left out" in cut for cut in setup.budget.cuts)


def test_a_larger_index_is_left_out_by_the_time_of_the_smaller_one(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, count: int) -> None:
        clock.now += count / 10_000

    epoch = inputs.EpochStart(1.0, 1.0, 64, 1.0)
    monkeypatch.setattr(inputs, "_write_tiny_images", write)
    monkeypatch.setattr(inputs, "_start_epoch_elsewhere", lambda setup, folder: epoch)
    setup = setup_with(90)
    cases = {timing.case for timing in inputs.measure_index(setup)}
    assert cases == {"1,000 images", "100,000 images"}
    (cut,) = setup.budget.cuts
    assert cut.startswith("10,000,000 images: left out")
    assert "17 minutes" in cut


def test_memory_is_left_out_before_the_timing_is() -> None:
    setup = setup_with(60)
    assert training._memory_of_steps(setup, "a case", {"plain": lambda: print}, 40) == {}
    assert setup.budget.cuts == [
        "a case, memory of plain: left out, because it would take about 85 s"
    ]


def test_a_share_above_1_of_the_matrix_product_is_left_out_and_noted() -> None:
    setup = setup_with(60)
    shares = {}
    for share in (0.5, 18.5):
        timing = Timing("finetune", "batch 16", "ours", "images", 16, [1.0])
        add_share_of_limit(setup, timing, "fp32", share)
        shares[share] = list(timing.ratios.values())
    assert shares == {0.5: [0.5], 18.5: []}
    (cut,) = setup.budget.cuts
    assert "batch 16, ours, share of the fp32" in cut


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0.4 s"), (89, "89 s"), (120, "2 minutes")])
def test_durations_are_seconds_or_minutes(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def small_setup(data: str | None, device: str, *, quick: bool) -> BenchSetup:
    """Without images."""
    return BenchSetup("words", quick=quick)


def add(first: int, second: int) -> int:
    return first + second


def refuse() -> NoReturn:
    raise UserError("not this")


def die() -> NoReturn:
    os._exit(1)


@pytest.mark.slow
def test_a_call_in_a_process_ends_with_its_result_its_error_or_its_time() -> None:
    assert call_in_process(math.inf, add, 1, 2) == 3
    with pytest.raises(UserError, match="not this"):
        call_in_process(60, refuse)
    with pytest.raises(ProcessDied):
        call_in_process(60, die)
    for seconds in (0.1, -5):
        with pytest.raises(TimeoutError):
            call_in_process(seconds, time.sleep, 60)


@pytest.mark.slow
def test_memory_is_unknown_if_the_process_dies() -> None:
    assert peak_memory(60, die) is None


def test_bench_prints_what_it_left_out_in_the_report_and_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(setup: BenchSetup) -> list[Timing]:
        setup.budget.cut("batch 64", "it is slow")
        setup.budget.end = -math.inf
        return []

    monkeypatch.setattr("analysis.bench.commands.make_setup", small_setup)
    monkeypatch.setattr("analysis.bench.commands.measurement", lambda name, results: measure)
    code, out, err = call(capsys, "bench", "--quick", "limits", "input")
    assert code == 0, err
    assert "limits, batch 64: left out, because it is slow" in out
    assert "note: input, batch 64" in err


@pytest.mark.parametrize(
    ("error", "expected"),
    [(UserError("bad image"), 2), (RuntimeError("no memory"), 1), (OSError("disk full"), 1)],
)
def test_after_a_failed_measurement_the_others_are_printed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: int,
) -> None:
    def measure(setup: BenchSetup) -> list[Timing]:
        return [Timing("start", "a case", "ours", "starts", 1, [1.0])]

    def fail(setup: BenchSetup) -> NoReturn:
        raise error

    monkeypatch.setattr("analysis.bench.commands.make_setup", small_setup)
    monkeypatch.setattr(
        "analysis.bench.commands.measurement",
        lambda name, results: fail if name == "limits" else measure,
    )
    code, out, err = call(capsys, "bench", "--quick", "limits", "start")
    assert code == expected
    assert f"limits, all of it: left out, because it failed: {error}" in out
    assert str(error) in err
    assert "### start" in out


def test_a_measurement_whose_time_is_over_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.bench.commands.make_setup", small_setup)
    monkeypatch.setattr("analysis.bench.budget.schedule", lambda names, minutes: [0.0])
    code, out, _ = call(capsys, "bench", "--quick", "pretrain")
    assert code == 0
    assert "pretrain, all of it: left out" in out
    assert "### pretrain" not in out
