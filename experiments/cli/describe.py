"""What is planned and how it stands, for people and as JSON."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.config import RecognizerModel
from core.model.cost import cost
from core.runtime.errors import UserError
from experiments.cli.jobs import last_words
from experiments.planning.plan import Plan, PlannedRun, resolved_schedule
from experiments.planning.schema import STAGES
from experiments.running.display import progress_text
from experiments.running.local import LaunchResult
from experiments.slurm.scheduler import Scheduler
from experiments.slurm.status import current_statuses
from results.records import StoredRun, StoredTraining, read_record
from results.reported import find_row, reported_table
from results.store import Run, State, Store

# Sustained arithmetic assumed where no run of the same stage has finished here yet: one core of a CPU, one GPU.
ASSUMED_FLOPS = {"fp32": 4e10, "bf16": 8e10}
ASSUMED_GPU_FLOPS = 1e14


def recognizer_of(run: PlannedRun, plan: Plan) -> RecognizerModel | None:
    """The recognizer that an evaluation reads with, or None where its file is not there yet."""
    name = run.inputs.get("recognizer", "")
    if name in plan.runs:
        config = plan.runs[name].config
        return config if isinstance(config, RecognizerModel) else None
    file = Path(name.removeprefix("file:"))
    if not file.is_file():
        return None
    from core.checkpoints.load import read_recognizer

    return read_recognizer(file)[0]


def describe_run(run: PlannedRun, plan: Plan, store: Store) -> dict[str, Any]:
    """One run as the plan shows it."""
    parameters, flops = cost(run.config, recognizer_of(run, plan))
    schedule = resolved_schedule(run)
    return {
        "id": run.id,
        "stage": run.stage,
        "rows": run.rows,
        "shared": len(run.rows) > 1,
        "state": store.run(run.id).state().name,
        "inputs": run.inputs,
        "data": {role: [root.path for root in roots] for role, roots in run.data.items()},
        "missing": run.unmet_requirements(),
        **schedule.as_json(),
        "parameters": parameters,
        "petaflop": round(flops * schedule.images / 1e15, 3),
    }


def measured_rates(plan: Plan, store: Store) -> dict[str, float]:
    """Stage -> arithmetic per second, where a complete training run of the plan has told."""
    rates = {}
    for run in plan.runs.values():
        if run.stage != "evaluate" and store.run(run.id).state().name == "complete":
            with suppress(UserError):  # a damaged record tells nothing here; tables name it
                metrics = read_record(store.run(run.id), StoredTraining).metrics
                if metrics.train_seconds:
                    rates[run.stage] = (
                        cost(run.config)[1] * metrics.images_seen / metrics.train_seconds
                    )
    return rates


def describe_plan(plan: Plan, store: Store) -> dict[str, Any]:
    """The whole plan; estimates say what they assume."""
    runs = [describe_run(run, plan, store) for run in plan.runs.values()]
    rates = measured_rates(plan, store)
    on_gpu = any(run["petaflop"] > 100 for run in runs)
    for run in runs:
        precision = plan.runs[run["id"]].config.precision
        rate = ASSUMED_GPU_FLOPS if on_gpu else rates.get(run["stage"], ASSUMED_FLOPS[precision])
        run["estimated_hours"] = round(run["petaflop"] * 1e15 / rate / 3600, 6)
        run["hours"] = _hours_taken(store.run(run["id"])) if run["state"] == "complete" else None
    stages = [run["stage"] for run in runs]
    one_by_one = "one run at a time, as measured here" if rates else "one CPU core"
    assumed = "one GPU that sustains 100 TFLOP/s" if on_gpu else one_by_one
    return {
        "scale": plan.scale,
        "experiments": {name: experiment.title for name, experiment in plan.experiments.items()},
        "runs": runs,
        "summary": {stage: stages.count(stage) for stage in STAGES},
        "complete": sum(run["state"] == "complete" for run in runs),
        "shared": sum(run["shared"] for run in runs),
        "without_sharing": sum(len(run["rows"]) for run in runs),
        "reported": filled_rows(plan),
        "images_seen": sum(run["images"] for run in runs if run["stage"] != "evaluate"),
        "hours_taken": round(sum(run["hours"] or 0 for run in runs), 3),
        "estimate": {
            "hours": round(sum(run["estimated_hours"] for run in runs), 4),
            "hours_left": round(
                sum(run["estimated_hours"] for run in runs if run["state"] != "complete"), 4
            ),
            "of": assumed,
        },
    }


def _hours_taken(run: Run) -> float | None:
    """Of a complete run, start-up and all; None if its record does not tell."""
    with suppress(UserError):
        return round(read_record(run, StoredRun).seconds / 3600, 4)
    return None


def filled_rows(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Table -> for each row that the paper's authors trained: its name, and the rows of the experiments that stand for it."""
    filled: dict[str, dict[int, list[str]]] = {}
    for name, experiment in plan.experiments.items():
        if experiment.table is None:
            continue
        table = reported_table(experiment.table)
        rows = filled.setdefault(
            experiment.table,
            {number: [] for number in range(len(table.rows)) if table.is_authors_row(number)},
        )
        for variant in experiment.variants:
            if (number := find_row(experiment.table, variant.reported)) is not None:
                rows.setdefault(number, []).append(f"{name}: {variant.name}")
    return {
        table: [
            {"reported": reported_table(table).rows[number].name(), "rows": names}
            for number, names in rows.items()
        ]
        for table, rows in filled.items()
    }


def plan_text(description: dict[str, Any]) -> str:
    """A plan as aligned lines."""
    head = ("run", "state", "rows", "peak lr", "batch", "steps", "images", "parameters", "hours")
    lines = [head]
    for run in description["runs"]:
        lr = f"{run['peak_lr']:.2g}" if "peak_lr" in run else ""
        numbers = [lr, str(run.get("batch", "")), f"{run['steps']:,}" if "steps" in run else ""]
        hours = run["estimated_hours"] if run["hours"] is None else run["hours"]
        size = [f"{run['images']:,}", f"{run['parameters']:,}", f"{hours:.2f}"]
        rows = run["rows"][0] + (f" (+{len(run['rows']) - 1} more)" if run["shared"] else "")
        lines.append((run["id"], run["state"], rows, *numbers, *size))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    summary, estimate = description["summary"], description["estimate"]
    counted = ", ".join(f"{number} {stage}" for stage, number in summary.items())
    complete = f"{description['complete']} complete"
    if description["complete"]:
        complete += f" ({_time(description['hours_taken'])} one after another)"
    left = f"about {_time(estimate['hours_left'])} of {estimate['of']} left"
    if description["complete"] == len(description["runs"]):
        left = "nothing left"
    shared = (
        f"{description['shared']} shared ({description['without_sharing']} runs without sharing)"
    )
    table.append(f"{counted}; {shared}, {complete}; {left}")
    table += sorted(
        {f"missing: {missing}" for run in description["runs"] for missing in run["missing"]}
    )
    titles = [
        f"{name}: {title} (scale {description['scale']})"
        for name, title in description["experiments"].items()
    ]
    return "\n".join([*titles, *table])


def _time(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def describe_status(plan: Plan, store: Store) -> dict[str, Any]:
    """Every run's state, as its own files tell it, and where jobs were submitted the scheduler too."""
    now = current_statuses(plan.runs.values(), store, Scheduler(0), now=True)

    def entry(run: PlannedRun, state: State) -> dict[str, Any]:
        progress = (
            {"done": state.done, "total": state.total, "unit": state.unit} if state.total else None
        )
        return {
            "id": run.id,
            "stage": run.stage,
            "rows": run.rows,
            "state": state.name,
            "detail": progress_text(state),
            "progress": progress,
            "job": now.jobs.get(run.id),
            "folder": str(store.run(run.id).folder),
        }

    runs = [entry(run, now.states[run.id]) for run in plan.runs.values()]
    return {"scale": plan.scale, "source": now.source, "runs": runs}


def status_text(description: dict[str, Any]) -> str:
    """States as aligned lines."""
    width = max(len(run["id"]) for run in description["runs"])
    lines = [
        f"{run['state']:9}  {run['id']:{width}}  {run['rows'][0]}  {run['detail']}".rstrip()
        for run in description["runs"]
    ]
    states = [run["state"] for run in description["runs"]]
    counted = ", ".join(f"{states.count(name)} {name}" for name in dict.fromkeys(sorted(states)))
    return "\n".join([*lines, f"{counted} (source: {description['source']})"])


def ending(plan: Plan, store: Store, states: Mapping[str, State], how: LaunchResult) -> int:
    """Say what is not complete, and why; the command's exit code: 0, 130 interrupted, 2 a user's mistake, 1 otherwise."""
    unfinished = [
        (run, states[run.id]) for run in plan.runs.values() if states[run.id].name != "complete"
    ]
    if not unfinished:
        return 0
    print(f"{len(unfinished)} of {len(states)} runs are not complete:", file=sys.stderr)
    for run, state in unfinished:
        reason = state.message or "its inputs are not complete"
        print(f"  {state.name:9} {run.id}  {run.rows[0]}: {reason}", file=sys.stderr)
        if state.name == "failed" and not state.user_error:
            print(
                *(f"      {line}" for line in last_words(run.id, store)), sep="\n", file=sys.stderr
            )
    failed = [state for _, state in unfinished if state.name == "failed"]
    if how.unwritable or (failed and all(state.user_error for state in failed)):
        return 2
    if how.left:
        print("the jobs go on; the same command watches them again", file=sys.stderr)
        return 130
    if how.interrupted and not failed:
        print("the same command goes on from here", file=sys.stderr)
        return 130
    return 1
