"""The text of `plan`: a line for each run, and a summary."""

from collections.abc import Sequence
from math import floor, log10

from experiments.cli.plan_description import PlanDescription, RunDescription, SpaceEstimate
from experiments.running.capacity import bytes_text

COLUMNS = (
    "run",
    "state",
    "rows",
    "peak lr",
    "batch",
    "steps",
    "images",
    "parameters",
    "disk",
    "memory",
    "hours",
)


def plan_text(plan: PlanDescription) -> str:
    """A plan as aligned lines."""
    titles = [f"{name}: {title} (scale {plan.scale})" for name, title in plan.experiments.items()]
    missing = {f"missing: {sentence}" for run in plan.runs for sentence in run.missing}
    table = _aligned([COLUMNS, *map(_cells, plan.runs)])
    lines = [*titles, *table, _summary(plan), _space_text(plan.space), *sorted(missing)]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of the same number of cells -> lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _cells(run: RunDescription) -> Sequence[str]:
    """The cells of a run's line, in the order of COLUMNS."""
    schedule = run.schedule
    rows = run.rows[0]
    if run.is_shared:
        rows += f" (+{len(run.rows) - 1} more)"
    hours = run.estimated_hours if run.hours is None else run.hours
    return (
        run.id,
        f"{run.state} on {run.device}" if run.device else run.state,
        rows,
        "" if schedule.peak_lr is None else f"{schedule.peak_lr:.2g}",
        "" if schedule.batch is None else str(schedule.batch),
        "" if schedule.steps is None else f"{schedule.steps:,}",
        f"{schedule.images:,}",
        f"{run.parameters:,}",
        bytes_text(run.disk_bytes),
        bytes_text(run.memory_bytes),
        _hours_text(hours),
    )


def _summary(plan: PlanDescription) -> str:
    """The number of runs by stage and state, and the time that is left."""
    counts = {stage: number for stage, number in plan.stage_counts.items() if number}
    stages = ", ".join(f"{number} {stage}" for stage, number in counts.items())
    shared = f"{plan.shared} shared ({plan.without_sharing} runs without sharing)"
    complete = f"{plan.complete} complete"
    if plan.complete:
        complete += f" ({_time_text(plan.hours_taken)} one after another)"
    left = f"about {_time_text(plan.estimate.hours_left)} of {plan.estimate.device} left"
    if plan.complete == len(plan.runs):
        left = "nothing left"
    return f"{stages}; {shared}, {complete}; {left}"


def _space_text(space: SpaceEstimate) -> str:
    """Disk space and memory on one line."""
    text = f"disk: {bytes_text(space.disk_bytes)} to write"
    if space.device_memory_bytes is None:  # other machines, which compute many runs at a time
        text += f" ({bytes_text(space.disk_bytes_together)} if all runs are computed at once)"
    text += f", {bytes_text(space.free_disk_bytes)} free"
    if not space.memory_bytes:
        return text
    text += f"; memory: at most {bytes_text(space.memory_bytes)} for a run"
    if space.device_memory_bytes is None:
        return text
    return f"{text}, {bytes_text(space.device_memory_bytes)} here"


def _hours_text(hours: float) -> str:
    """Hours with two decimals, or with two significant digits if they are few."""
    digits = 2 if hours >= 0.1 or not hours else 1 - floor(log10(hours))
    return f"{hours:.{digits}f}"


def _time_text(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.2f} hours"
    seconds = 3600 * hours
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.2g} seconds"
