"""What `status` reports: the state of every run, from its own files and from SLURM."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.planning.plan import Plan, PlannedRun
from experiments.running.display import progress_text
from experiments.slurm.scheduler import Scheduler
from experiments.slurm.status import current_statuses
from results.store import State, Store


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units (steps, images)."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    id, stage, rows: those of the planned run.
    state: the name of its state.
    detail: progress of a running run, message of any other.
    progress: None if nothing is counted.
    device: the device that computes it, or "".
    job: of a cluster, if it is queued or running.
    folder: the run's folder."""

    id: str
    stage: str
    rows: Sequence[str]
    state: str
    detail: str
    progress: Progress | None
    device: str
    job: str | None
    folder: str


@dataclass(frozen=True)
class StatusReport:
    """The states of a plan's runs. source: what they were read from."""

    scale: str
    source: str
    runs: Sequence[RunStatus]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def describe_status(plan: Plan, store: Store) -> StatusReport:
    """The current states of a plan's runs. Polls SLURM if a run was submitted."""
    statuses = current_statuses(plan.runs.values(), store, Scheduler(0), now=True)
    runs = [
        _run_status(run, statuses.states[run.id], statuses.jobs.get(run.id), store)
        for run in plan.runs.values()
    ]
    return StatusReport(plan.scale, statuses.source, runs)


def _run_status(run: PlannedRun, state: State, job: str | None, store: Store) -> RunStatus:
    return RunStatus(
        id=run.id,
        stage=run.stage,
        rows=run.rows,
        state=state.name,
        detail=progress_text(state),
        progress=Progress(state.done, state.total, state.unit) if state.total else None,
        device=state.device,
        job=job,
        folder=str(store.run(run.id).folder),
    )


def status_text(report: StatusReport) -> str:
    """States as aligned lines, and their counts."""
    width = max(len(run.id) for run in report.runs)
    lines = [
        f"{run.state:9}  {run.id:{width}}  {run.rows[0]}  {run.detail}".rstrip()
        for run in report.runs
    ]
    counts = Counter(sorted(run.state for run in report.runs))
    counted = ", ".join(f"{number} {state}" for state, number in counts.items())
    return "\n".join([*lines, f"{counted} (source: {report.source})"])
