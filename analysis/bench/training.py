"""Timing of training steps: the training loop against a plain baseline, and its wait for data."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median

import torch

from analysis.bench.budget import duration
from analysis.bench.limits import expected_seconds, matrix_product, native_precisions
from analysis.bench.measure import (
    Timing,
    add_share_of_limit,
    compare_paths,
    peak_memory,
    share_of_limit,
    time_in_turns,
)
from analysis.bench.setup import BenchSetup
from analysis.bench.steps import (
    LEARNING_RATE,
    StageName,
    Step,
    config_of,
    make_training,
    step_makers,
)
from core.config import Precision
from core.data.batches import load_batches
from core.model.cost import cost

MEMORY_STEPS = 2  # of each path, in a new process
PROCESS_SECONDS = 5.0  # until such a process has imported PyTorch; for estimates


def measure_pretraining(setup: BenchSetup) -> list[Timing]:
    """Steps of pre-training, at each batch size."""
    timings: list[Timing] = []
    seconds_per_image: float | None = None
    for batch in setup.batches:
        turn_seconds = None if seconds_per_image is None else seconds_per_image * batch
        measured = _measure_step(setup, "pretrain", batch, turn_seconds)
        timings += measured
        if measured:
            seconds_per_image = sum(median(timing.seconds) for timing in measured) / batch
    return timings


def measure_finetuning(setup: BenchSetup) -> list[Timing]:
    """Steps of fine-tuning, at the smallest batch size."""
    return _measure_step(setup, "finetune", setup.batches[0])


def _measure_step(
    setup: BenchSetup, stage: StageName, batch: int, turn_seconds: float | None = None
) -> list[Timing]:
    """Images per second, share of the matrix product's rate, and on a CPU added memory.

    setup: sizes and images.
    stage, batch: of the step.
    turn_seconds: an estimate of the time of one step of each path; None estimates it.
    """
    case = f"{setup.name}, batch {batch}"
    operations = cost(config_of(setup, stage, batch, "fp32")).operations * batch
    makers = step_makers(setup, stage, batch)
    turn = turn_seconds or len(makers) * expected_seconds(setup, operations)
    if not setup.budget.allows_or_cut(case, turn):
        return []
    memory: Mapping[str, float | None] = {}
    if setup.device == "cpu":  # in new processes, before this process holds any model
        memory = _memory_of_steps(setup, case, makers, turn)
    precisions = native_precisions(setup.device)
    products = {precision: matrix_product(setup.device, precision) for precision in precisions}
    limits = {f"limit, {precision}": product.path for precision, product in products.items()}
    paths: dict[str, Step] = {name: make() for name, make in makers.items()}
    seconds = time_in_turns(setup, case, paths | limits, _step_repetitions(setup, batch))
    timings = compare_paths(
        what=stage,
        case=case,
        unit="images",
        count=batch,
        seconds={name: seconds[name] for name in paths},
        baseline="plain",
    )
    for timing in timings:
        precision: Precision = "bf16" if timing.path.endswith("bf16") else "fp32"
        limit = seconds[f"limit, {precision}"]
        limit_operations = products[precision].operations
        share = share_of_limit(limit, limit_operations, timing.seconds, operations)
        add_share_of_limit(setup, timing, precision, share)
    return [replace(timing, memory_mb=memory.get(timing.path)) for timing in timings]


def _memory_of_steps(
    setup: BenchSetup, case: str, makers: Mapping[str, Callable[[], Step]], turn: float
) -> dict[str, float | None]:
    """Path -> added memory in MB. Paths are left out that would leave no time for the timing.

    setup: the time of the measurement.
    case: what is measured, for the report.
    makers: path -> function that makes its step.
    turn: an estimate of the time of one step of each path, in seconds.
    """
    memory: dict[str, float | None] = {}
    for path, make in makers.items():
        part = f"{case}, memory of {path}"
        expected = MEMORY_STEPS * turn / len(makers) + PROCESS_SECONDS
        if not setup.budget.allows(expected + turn):
            setup.budget.cut(part, f"it would take about {duration(expected)}")
            continue
        limit = setup.budget.remaining() - turn
        try:
            memory[path] = peak_memory(limit, make)
        except TimeoutError:
            setup.budget.cut(part, f"it was not complete after {limit:.0f} s")
    return memory


def _step_repetitions(setup: BenchSetup, batch: int) -> int:
    if setup.device != "cpu":
        return setup.repetitions
    return 2 if batch > 16 or setup.quick else 3


def measure_feeding(setup: BenchSetup) -> list[Timing]:
    """Pre-training steps with the real input path: images per second, and time without data."""
    batch = setup.batches[0]
    precision = native_precisions(setup.device)[-1]
    config = setup.pretrain(batch, precision)
    case = f"{setup.name}, batch {batch}"
    step_estimate = expected_seconds(setup, cost(config).operations * batch)
    if not setup.budget.allows_or_cut(case, 2 * step_estimate):
        return []
    training = make_training(config, setup)
    context = training.context
    batches = iter(
        load_batches(
            setup.images(),
            config.encoder.image,
            training.order(),
            labeled=False,
            num_workers=context.num_workers,
            pin_memory=context.pinned,
        )
    )
    planned = 3 if setup.device == "cpu" else 30
    waiting_seconds: list[float] = []
    step_seconds: list[float] = []
    while len(step_seconds) <= planned:
        started = time.perf_counter()
        images = next(batches)
        ready = time.perf_counter()
        training.update(images, batch, LEARNING_RATE)
        if setup.device != "cpu":
            torch.cuda.synchronize()
        waiting_seconds.append(ready - started)
        step_seconds.append(time.perf_counter() - started)
        if len(step_seconds) > 1 and not setup.budget.allows(step_seconds[-1]):
            break
    counted = step_seconds[1:]  # the first one starts the workers
    setup.budget.note_repetitions(case, len(counted), planned, counted[-1])
    share = sum(waiting_seconds[1:]) / sum(counted)
    return [
        Timing(
            what="feeding",
            case=f"{case}, {context.num_workers} workers",
            path=f"ours, {precision}",
            unit="images",
            count=batch,
            seconds=counted,
            ratios={"share of time waiting for data": share},
        )
    ]
