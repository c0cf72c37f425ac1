"""bf16 on a processor without bf16 instructions: a warning with the measured cost."""

import json
import time
from pathlib import Path

import pytest
import torch
from conftest import call

from experiments.planning import bf16_speed
from experiments.planning.bf16_speed import bf16_is_faster, bf16_slowdown, bf16_warnings
from experiments.planning.device import default_precision
from results.store import Store

TABLE = "experiments/ablation_alignment.yaml"
SWEEP = "sweeps/mask_ratio.yaml"

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def _no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bf16 instructions, on which a bf16 product takes 40 fp32 products."""
    monkeypatch.setattr(bf16_speed, "_cpu_flags", lambda: "avx2")
    monkeypatch.setattr(bf16_speed, "bf16_slowdown", lambda: 40.4)


@pytest.mark.usefixtures("_no_bf16")
@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", TABLE, "--scale", "smoke", "--precision", "bf16"),
        ("plan", TABLE, "--scale", "paper"),  # the scale has bf16
        ("plan", TABLE, "--scale", "smoke", "--set", "precision=bf16"),
        ("plan", SWEEP, "--precision", "bf16"),
        ("run", TABLE, "--scale", "smoke", "--precision", "bf16", "--dry-run"),
        ("run", SWEEP, "--precision", "bf16", "--dry-run"),
    ],
)
def test_bf16_without_its_instructions_is_warned_about_with_its_cost(
    capsys: Capture, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = call(capsys, *arguments, "--results", tmp_path)
    assert code == 0, err
    (warning,) = (line for line in err.splitlines() if line.startswith("warning: "))
    assert "40 times as long" in warning
    assert "--precision fp32" in warning
    assert "warning" not in out


@pytest.mark.usefixtures("_no_bf16")
def test_the_precision_of_an_experiment_file_is_warned_about(
    capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("title: t\nset: {precision: bf16}\nvariants: [{name: a, method: scratch}]\n")
    code, out, err = call(
        capsys, "plan", file, "--scale", "smoke", "--json", "--results", tmp_path / "results"
    )
    assert code == 0, err
    assert err.count("40 times as long") == 1
    assert json.loads(out)


@pytest.mark.usefixtures("_no_bf16")
@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", TABLE, "--scale", "smoke"),
        ("plan", TABLE, "--scale", "smoke", "--precision", "fp32"),
        ("status", TABLE, "--scale", "paper"),
    ],
)
def test_nothing_is_measured_without_bf16_or_without_computing(
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.setattr(bf16_speed, "bf16_slowdown", lambda: pytest.fail("measured"))
    code, _, err = call(capsys, *arguments, "--results", tmp_path)
    assert code == 0, err
    assert "warning" not in err


@pytest.mark.parametrize(
    ("precisions", "launcher", "flags", "slowdown", "count"),
    [
        (["bf16", "fp32"], "local", "avx2", 40.0, 1),
        (["bf16"], "local", "", 1.1, 0),  # native, but not in the list of flags (ARM)
        (["bf16"], "local", "avx512_bf16 amx_bf16", 40.0, 0),  # not measured
        (["bf16"], "local", "avx512_bf16", 1.9, 1),
        (["bf16"], "local", "avx512_bf16", 0.5, 0),
        (["bf16"], "slurm", "avx2", 40.0, 0),  # the jobs' processors are unknown
        (["fp32"], "local", "avx2", 40.0, 0),
        ([], "local", "avx2", 40.0, 0),
    ],
)
def test_a_warning_needs_slow_bf16_on_this_machine(
    precisions: list[str],
    launcher: str,
    flags: str,
    slowdown: float,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in bf16_speed.INSTRUCTION_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bf16_speed, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(bf16_speed, "bf16_slowdown", lambda: slowdown)
    assert len(bf16_warnings(precisions, "cpu", launcher)) == count


def test_instructions_that_are_turned_off_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setattr(bf16_speed, "_cpu_flags", lambda: "amx_bf16")
    monkeypatch.setattr(bf16_speed, "bf16_slowdown", lambda: 60.0)
    assert not bf16_is_faster()
    assert len(bf16_warnings({"bf16"}, "cpu", "local")) == 1


@pytest.mark.parametrize(
    ("flags", "slowdown", "expected"),
    [
        ("avx2", 0.5, "fp32"),
        ("avx512_bf16", 1.9, "fp32"),
        ("avx512_bf16", 0.5, "bf16"),
        ("avx512_bf16 amx_bf16", 1.9, "bf16"),  # not measured
    ],
)
def test_auto_means_bf16_only_where_it_is_faster(
    flags: str, slowdown: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in bf16_speed.INSTRUCTION_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bf16_speed, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(bf16_speed, "bf16_slowdown", lambda: slowdown)
    assert default_precision("cpu") == expected


@pytest.mark.usefixtures("_no_bf16")
def test_runs_that_are_complete_are_not_warned_about(capsys: Capture, tmp_path: Path) -> None:
    arguments = ("plan", TABLE, "--scale", "smoke", "--precision", "bf16", "--json")
    code, out, _ = call(capsys, *arguments, "--results", tmp_path)
    store = Store(tmp_path)
    for run in json.loads(out)["runs"]:
        store.run(run["id"]).set_state("complete")
    code, _, err = call(capsys, *arguments, "--results", tmp_path)
    assert (code, "warning" in err) == (0, False)


def test_the_slowdown_is_measured_quickly_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    bf16_slowdown.cache_clear()
    started = time.process_time()
    assert bf16_slowdown() > 0
    assert time.process_time() - started < 0.5
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(bf16_speed, "_product_seconds", lambda kind: pytest.fail("measured again"))
    bf16_slowdown()
