"""Describes a plan: the states of its runs, and estimates of time, disk space and memory."""

from collections.abc import Sequence
from contextlib import suppress

from core.config import Evaluate
from core.model.cost import cost
from core.runtime.errors import UserError
from core.runtime.files import free_disk_bytes
from experiments.cli.plan_description import (
    FilledRow,
    PlanDescription,
    RunDescription,
    SpaceEstimate,
    TimeEstimate,
)
from experiments.planning.disk_estimate import disk_use
from experiments.planning.memory_estimate import memory_bytes
from experiments.planning.plan import Plan, PlannedRun, resolved_schedule
from experiments.planning.run_cost import recognizer_config, run_cost
from experiments.running.capacity import (
    bytes_of_targets,
    bytes_to_decode,
    bytes_to_write,
    device_memory_bytes,
)
from results.records import StoredRun, StoredTraining, read_record
from results.reported import find_row, reported_table
from results.store import Store

# Operations per second that are assumed where no run of the same stage is complete here: of one
# core of a CPU, and of one GPU.
CPU_RATES = {"fp32": 4e10, "bf16": 8e10}
GPU_RATE = 1e14
GPU_PETAFLOP = 100  # a plan with a larger run is estimated for a GPU
PETA = 1e15


def describe_plan(
    plan: Plan, store: Store, *, device: str = "", micro_batch: int | None = None
) -> PlanDescription:
    """Describe a plan. Estimates say what they assume.

    plan: the runs.
    store: the results folder.
    device: the device that will compute the runs; "" if another machine does.
    micro_batch: images of a forward pass; None: the whole batch."""
    rates = measured_rates(plan, store)
    petaflops = {run.id: _petaflop(run, plan) for run in plan.runs.values()}
    on_gpu = any(value > GPU_PETAFLOP for value in petaflops.values())
    runs = []
    for run in plan.runs.values():
        rate = GPU_RATE
        if not on_gpu:
            rate = rates.get(run.stage, CPU_RATES[run.config.precision])
        hours = significant(petaflops[run.id] * PETA / rate / 3600)
        runs.append(_describe_run(run, plan, store, hours, micro_batch))
    assumed_device = "one run at a time, as measured here" if rates else "one CPU core"
    if on_gpu:
        assumed_device = "one GPU that sustains 100 TFLOP/s"
    estimate = TimeEstimate(
        hours=significant(sum(run.estimated_hours for run in runs)),
        hours_left=significant(sum(run.estimated_hours for run in runs if not run.is_complete)),
        device=assumed_device,
    )
    return PlanDescription(
        scale=plan.scale,
        experiments={name: experiment.title for name, experiment in plan.experiments.items()},
        runs=runs,
        reported=filled_rows(plan),
        estimate=estimate,
        space=_estimate_space(plan, store, runs, device),
    )


def _petaflop(run: PlannedRun, plan: Plan) -> float:
    operations = run_cost(run, plan).operations
    return significant(operations * resolved_schedule(run).images / PETA)


def significant(value: float) -> float:
    """A value with four significant digits: however small it is, it does not become zero."""
    return float(f"{value:.4g}")


def _describe_run(
    run: PlannedRun, plan: Plan, store: Store, hours: float, micro_batch: int | None
) -> RunDescription:
    """One run. hours: the estimate of its time. micro_batch: as in `describe_plan`."""
    state = store.run(run.id).state()
    recognizer = recognizer_config(run, plan)
    return RunDescription(
        id=run.id,
        stage=run.stage,
        rows=run.rows,
        state=state.name,
        device=state.device if state.name == "running" else "",
        inputs=run.inputs,
        data={role: [root.path for root in roots] for role, roots in run.data.items()},
        missing=run.unmet_requirements(),
        schedule=resolved_schedule(run),
        parameters=cost(run.config, recognizer).parameters,
        petaflop=_petaflop(run, plan),
        disk_bytes=disk_use(run).peak,
        memory_bytes=memory_bytes(run.config, recognizer, micro_batch=micro_batch),
        estimated_hours=hours,
        hours=_hours_taken(run.id, store) if state.name == "complete" else None,
    )


def _estimate_space(
    plan: Plan, store: Store, runs: Sequence[RunDescription], device: str
) -> SpaceEstimate:
    """Of the runs that are not complete. device: as in `describe_plan`."""
    incomplete = [run for run in runs if not run.is_complete]
    planned = [plan.runs[run.id] for run in incomplete]
    shared = bytes_to_decode(planned, plan, store) + bytes_of_targets(planned, store)
    return SpaceEstimate(
        disk_bytes=bytes_to_write(planned, store) + shared,
        disk_bytes_together=bytes_to_write(planned, store, len(planned)) + shared,
        free_disk_bytes=free_disk_bytes(store.root),
        memory_bytes=max((run.memory_bytes for run in incomplete), default=0),
        device_memory_bytes=device_memory_bytes(device),
    )


def measured_rates(plan: Plan, store: Store) -> dict[str, float]:
    """Stage -> operations per second, from the complete trainings of the plan."""
    rates = {}
    for run in plan.runs.values():
        if isinstance(run.config, Evaluate) or store.run(run.id).state().name != "complete":
            continue
        with suppress(UserError):  # a damaged record; tables report it
            metrics = read_record(store.run(run.id), StoredTraining).metrics
            if metrics.train_seconds:
                operations = cost(run.config).operations * metrics.images_seen
                rates[run.stage] = operations / metrics.train_seconds
    return rates


def _hours_taken(run: str, store: Store) -> float | None:
    """The time of a complete run with its start-up; None if its record cannot be read."""
    with suppress(UserError):
        return round(read_record(store.run(run), StoredRun).seconds / 3600, 4)
    return None


def filled_rows(plan: Plan) -> dict[str, list[FilledRow]]:
    """Table -> the rows that the paper's authors trained, with the plan's rows for each."""
    filled: dict[str, dict[int, list[str]]] = {}
    for name, experiment in plan.experiments.items():
        if experiment.table is None:
            continue
        table = reported_table(experiment.table)
        numbers = [number for number in range(len(table.rows)) if table.is_authors_row(number)]
        rows = filled.setdefault(experiment.table, {number: [] for number in numbers})
        for variant in experiment.variants:
            number = find_row(experiment.table, variant.reported)
            if number is not None:
                rows.setdefault(number, []).append(f"{name}: {variant.name}")
    return {
        table: [
            FilledRow(reported_table(table).rows[number].name(), names)
            for number, names in rows.items()
        ]
        for table, rows in filled.items()
        if rows
    }
