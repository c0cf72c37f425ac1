"""Precisions and compiled blocks give nearly the same losses; equal seeds give equal losses."""

from pathlib import Path

import pytest

from analysis.bench.agreement import largest_difference, pretraining_losses
from analysis.bench.limits import native_precisions
from analysis.bench.setup import BenchSetup, rendered_words
from core.config import Precision
from core.model.compile import can_compile

pytestmark = pytest.mark.slow

BATCH = 4
STEPS = 50


@pytest.fixture(scope="module")
def setup() -> BenchSetup:
    return BenchSetup(rendered_words(16), quick=True)


def test_bf16_agrees_with_fp32_over_50_steps(setup: BenchSetup) -> None:
    assert largest_difference(setup, BATCH, STEPS, "bf16") < 0.01


@pytest.fixture
def _separate_compiler_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual cache may hold code compiled for other instructions, which aborts."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("_separate_compiler_cache")
@pytest.mark.skipif(not can_compile("cpu"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.01)])
def test_compiled_blocks_agree_with_fp32_over_50_steps(
    setup: BenchSetup, precision: Precision, tolerance: float
) -> None:
    if precision not in native_precisions("cpu"):
        pytest.skip("not native on this processor; code compiled for bf16 takes minutes")
    assert largest_difference(setup, BATCH, STEPS, precision, compiled=True) < tolerance


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_seeds_give_equal_losses(setup: BenchSetup, precision: Precision) -> None:
    first, second = (pretraining_losses(setup, BATCH, 10, precision) for _ in range(2))
    assert first == second


def test_bf16_and_fp32_losses_differ(setup: BenchSetup) -> None:
    assert largest_difference(setup, BATCH, 3, "fp32") == 0
    assert largest_difference(setup, BATCH, 10, "bf16") > 0
