"""Whether bf16 and compiled blocks compute nearly the losses of fp32."""

import time
from dataclasses import replace

from analysis.bench.budget import TimeBudget
from analysis.bench.limited_process import call_in_process
from analysis.bench.limits import native_precisions
from analysis.bench.measure import Timing
from analysis.bench.setup import BenchSetup
from analysis.bench.steps import LEARNING_RATE, make_training
from core.config import Precision
from core.model.compile import can_compile, compile_blocks
from core.training.loop import NonFiniteLoss

STEPS = 50
BATCH = 16


def measure_agreement(setup: BenchSetup) -> list[Timing]:
    """Differences of losses from those of fp32 after 50 steps, on a small model.

    Compiled blocks are left out if no compiler is installed. Each path runs in a new process,
    because a compilation cannot be interrupted when the time is over."""
    small = replace(setup, quick=True, budget=TimeBudget())
    paths: list[tuple[Precision, bool]] = [("bf16", False), ("fp32", True), ("bf16", True)]
    timings = []
    for precision, compiled in paths:
        if precision not in native_precisions(setup.device):
            continue
        if compiled and not can_compile(setup.device):
            continue
        path = f"{'compiled' if compiled else 'as it is'}, {precision}"
        limit = setup.budget.remaining()
        try:
            seconds, difference = call_in_process(limit, _timed, small, precision, compiled)
        except TimeoutError:
            setup.budget.cut(path, f"it was not complete after {max(limit, 0):.0f} s")
            continue
        except (
            NonFiniteLoss,
            RuntimeError,
        ) as error:  # compiled code can fail where interpreted code does not
            setup.budget.cut(path, f"it failed: {error}")
            continue
        timings.append(
            Timing(
                what="agreement",
                case=f"pre-training, a tiny model, {STEPS} steps",
                path=path,
                unit="runs",
                count=1,
                seconds=[seconds],
                ratios={"largest relative difference of a loss from fp32's": difference},
            )
        )
    return timings


def _timed(setup: BenchSetup, precision: Precision, compiled: bool) -> tuple[float, float]:
    """Seconds of a comparison, and its result."""
    started = time.perf_counter()
    difference = largest_difference(setup, BATCH, STEPS, precision, compiled=compiled)
    return time.perf_counter() - started, difference


def largest_difference(
    setup: BenchSetup, batch: int, steps: int, precision: Precision, *, compiled: bool = False
) -> float:
    """The largest relative difference of a step's loss from that of fp32.

    setup: sizes and images.
    batch, steps: of the two trainings, which have the same seed.
    precision, compiled: of the second training; the first one is fp32 and not compiled."""
    reference = pretraining_losses(setup, batch, steps, "fp32")
    losses = pretraining_losses(setup, batch, steps, precision, compiled=compiled)
    pairs = zip(reference, losses, strict=True)
    return max(abs(loss - expected) / expected for expected, loss in pairs)


def pretraining_losses(
    setup: BenchSetup, batch: int, steps: int, precision: Precision, *, compiled: bool = False
) -> list[float]:
    """The loss of each step, always on the same images; arguments as of `largest_difference`."""
    training = make_training(setup.pretrain(batch, precision), setup)
    if compiled:
        compile_blocks(training.task.model)
    images = setup.batch(batch)
    losses = []
    for step in range(steps):
        losses.append(float(training.update(images, batch, LEARNING_RATE)["loss"]))
        training.step = step + 1
    return losses
