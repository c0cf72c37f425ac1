"""The cost of a decision: CPU-minutes of one row and seed of Table 1 at scale mini.

Short runs of the row are computed with the recipe of the scale. Their CPU time for each image,
times the images of the whole runs, is the cost. The words are rendered once for all rows and seeds,
and Python starts once for many runs, so neither is included.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from analysis.bench.limits import expected_seconds
from analysis.bench.measure import Timing, speed_ratio, time_in_turns
from analysis.bench.report import CPU_MINUTES
from analysis.bench.setup import BenchSetup
from core.config import Finetune, Pretrain
from core.data.decoded_cache import DecodedCache
from core.data.record_cache import RecordCache
from core.data.word_images import WordImages
from core.model.cost import cost
from core.training.pretrain import pretrain
from core.training.run_context import RunContext
from experiments.planning.plan import Cell, Plan, PlannedRun, resolved_schedule
from experiments.planning.planner import make_plan
from experiments.planning.schema import HERE
from experiments.running.ensure_data import ensure_data
from experiments.running.run_stage import run_stage
from results.store import Store

SCALE = "mini"
ROW = 2  # guidance + alignment (LMIM)
PARTS = ("pre-training", "its share of the teacher", "fine-tuning", "probes", "evaluation")
NEITHER = "neither stored"
TARGETS = "stored targets"
BOTH = "stored targets and decoded images"
COST = "cost of a decision: one row and seed of Table 1, scale mini"


def shortened(*, quick: bool) -> dict[str, Any]:
    """Settings of short runs. Of a training, the sizes of the model and of batches stay."""
    train = 128 if quick else 2048
    return {
        "synthetic.train": train,
        "synthetic.validation": 32,
        "synthetic.test": 8 if quick else 100,
        "finetune.labels.count": train // 4,
        "finetune.optimizer.epochs": 2,
        "finetune.optimizer.warmup_epochs": 0.5,
        "probes.characters.images": train // 2,
        "probes.ctc_linear.images": train // 2,
    }


def measure_decision(setup: BenchSetup) -> list[Timing]:
    """The cost of a decision, and the speed of its pre-training with and without stored data.

    All of it is computed by one thread of the CPU."""
    cpu = replace(setup, device="cpu")
    with TemporaryDirectory(prefix="bench-") as folder, one_thread():
        store = Store(Path(folder))
        short = table_1(store, shortened(quick=setup.quick))
        if not setup.budget.allows_or_cut(COST, expected_seconds(cpu, _operations(short))):
            return []
        whole = table_1(store, {})
        seconds = _seconds_of_short_runs(short, store)
        return [decision_cost(short, whole, seconds), *_speed_of_steps(cpu, short, store)]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of PyTorch within the context."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def table_1(store: Store, overrides: Mapping[str, Any]) -> Plan:
    """Table 1 at the scale and one seed. overrides: settings, dotted key -> value."""
    return make_plan(
        [HERE / "ablation_alignment.yaml"],
        SCALE,
        store,
        precision=lambda: "fp32",
        overrides=dict(overrides),
        seeds=[0],
    )


def runs_of_parts(plan: Plan) -> dict[str, list[PlannedRun]]:
    """The parts of the cost -> the runs of the row, each after its inputs."""
    cell = _cell(plan)
    pretraining, finetuning = (plan.runs[name] for name in cell.trainings)
    names = {
        PARTS[1]: [cell.teacher],
        PARTS[0]: [pretraining.id],
        PARTS[2]: [finetuning.id],
        PARTS[3]: list(cell.probes.values()),
        PARTS[4]: [cell.evaluate],
    }
    return {part: [plan.runs[name] for name in of_part] for part, of_part in names.items()}


def _cell(plan: Plan) -> Cell:
    (cell,) = (cell for cell in plan.cells if cell.variant == ROW)
    return cell


def _operations(plan: Plan) -> float:
    """Floating-point operations of the row's trainings; probes and evaluation add little."""
    runs = [run for runs in runs_of_parts(plan).values() for run in runs]
    return sum(
        cost(run.config).operations * resolved_schedule(run).images
        for run in runs
        if isinstance(run.config, Pretrain | Finetune)
    )


def _seconds_of_short_runs(plan: Plan, store: Store) -> dict[str, list[float]]:
    """Part -> CPU seconds of each of its runs. The runs are then in the results folder."""
    context = RunContext(torch.device("cpu"))
    return {
        part: [_cpu_seconds(run, store, context) for run in runs]
        for part, runs in runs_of_parts(plan).items()
    }


def _cpu_seconds(run: PlannedRun, store: Store, context: RunContext) -> float:
    for roots in run.data.values():
        for root in roots:
            ensure_data(root, context)
    folder = store.run(run.id)
    folder.write_json("config.json", run.as_json())
    started = time.process_time()
    run_stage(run, store, folder.folder, context)
    seconds = time.process_time() - started
    folder.set_state("complete")
    return seconds


def decision_cost(short: Plan, whole: Plan, seconds: Mapping[str, list[float]]) -> Timing:
    """CPU time of the whole runs; the ratios are the shares of its parts."""
    of_short = runs_of_parts(short)
    of_whole = runs_of_parts(whole)
    parts = {
        part: sum(
            of_run * resolved_schedule(long).images / resolved_schedule(brief).images
            for of_run, brief, long in zip(
                seconds[part], of_short[part], of_whole[part], strict=True
            )
        )
        for part in PARTS
    }
    teacher = _cell(whole).teacher
    parts[PARTS[1]] /= sum(cell.teacher == teacher for cell in whole.cells)
    total = sum(parts.values())
    return Timing(
        "decision",
        COST,
        "CPU time, extrapolated from short runs",
        CPU_MINUTES,
        1,
        [total],
        {f"for {part}": of_part / total for part, of_part in parts.items()},
    )


def _speed_of_steps(setup: BenchSetup, plan: Plan, store: Store) -> list[Timing]:
    """Images per second of pre-training with guidance, by one core, with and without stored data.

    setup: the time of the measurement.
    plan: of short runs, with the complete teacher and stored targets.
    """
    (run,) = runs_of_parts(plan)[PARTS[0]]
    assert isinstance(run.config, Pretrain)
    targets = RecordCache(store.targets)
    decoded = DecodedCache(store.decoded)
    train = partial(_pretrain, run, store)
    paths: dict[str, Callable[[], object]] = {
        NEITHER: partial(train, None, None),
        TARGETS: partial(train, targets, None),
        BOTH: partial(train, targets, decoded),
    }
    case = "pre-training with guidance, scale mini, in CPU time of one core"
    seconds = time_in_turns(setup, case, paths, None if setup.quick else 3, clock=time.process_time)
    images = resolved_schedule(run).images
    return [
        Timing(
            "decision",
            case,
            path,
            "images",
            images,
            of_path,
            {f"x {NEITHER}": speed_ratio(of_path, seconds[NEITHER])},
        )
        for path, of_path in seconds.items()
    ]


def _pretrain(
    run: PlannedRun, store: Store, targets: RecordCache | None, decoded: DecodedCache | None
) -> None:
    """Compute a pre-training in an empty folder."""
    assert isinstance(run.config, Pretrain)
    images = WordImages([root.path for root in run.data["train"]], cache=decoded)
    teacher = store.weights(run.inputs["teacher"])
    with TemporaryDirectory(prefix="bench-") as folder:
        context = RunContext(torch.device("cpu"))
        pretrain(run.config, images, teacher, Path(folder), context, targets)
