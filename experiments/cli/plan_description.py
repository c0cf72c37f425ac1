"""The content of `plan`: runs, and estimates of time, disk space and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.planning.plan import ResolvedSchedule
from experiments.planning.schema import STAGES


@dataclass(frozen=True)
class RunDescription:
    """One run as the plan shows it.

    id, stage, rows, inputs: those of the planned run.
    state: the name of its state.
    device: the device that computes it now, or "".
    data: role -> folders of its roots.
    missing: one sentence for each unmet requirement.
    schedule: images, and of a training: learning rate, batch, epochs, steps.
    parameters: trained ones; of an evaluation those of the recognizer.
    petaflop: its arithmetic, in 10^15 operations.
    disk_bytes: the most bytes that its folder occupies at any moment.
    memory_bytes: the most memory that it needs.
    estimated_hours: its time on the device of the estimate.
    hours: the time that it took, if it is complete and its record can be read."""

    id: str
    stage: str
    rows: Sequence[str]
    state: str
    device: str
    inputs: Mapping[str, str]
    data: Mapping[str, Sequence[str]]
    missing: Sequence[str]
    schedule: ResolvedSchedule
    parameters: int
    petaflop: float
    disk_bytes: int
    memory_bytes: int
    estimated_hours: float
    hours: float | None

    @property
    def is_shared(self) -> bool:
        """Whether several rows need the run."""
        return len(self.rows) > 1

    @property
    def is_complete(self) -> bool:
        return self.state == "complete"

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        del content["schedule"]
        return {**content, "shared": self.is_shared, **self.schedule.as_json()}


@dataclass(frozen=True)
class FilledRow:
    """A row of a table that the paper's authors trained, and the rows that reproduce it.

    reported: the name of the paper's row.
    rows: EXPERIMENT: ROW of the plan."""

    reported: str
    rows: Sequence[str]


@dataclass(frozen=True)
class TimeEstimate:
    """The time of all runs, one after another.

    hours: of all runs.
    hours_left: of the runs that are not complete.
    device: the device that is assumed."""

    hours: float
    hours_left: float
    device: str

    def as_json(self) -> dict[str, Any]:
        return {"hours": self.hours, "hours_left": self.hours_left, "of": self.device}


@dataclass(frozen=True)
class SpaceEstimate:
    """Disk space and memory of all runs that are not complete, and what there is.

    disk_bytes: that they will write at most, one run at a time, with synthetic words to render,
        decoded images, and stored targets of teachers.
    disk_bytes_together: the same, if all runs are computed at the same time, as jobs may be.
    free_disk_bytes: on the disk of the results folder.
    memory_bytes: of the run that needs most.
    device_memory_bytes: of the device that computes the runs; None if it is unknown."""

    disk_bytes: int
    disk_bytes_together: int
    free_disk_bytes: int
    memory_bytes: int
    device_memory_bytes: int | None


@dataclass(frozen=True)
class PlanDescription:
    """A plan with the states of its runs and the estimates.

    scale: the scale profile.
    experiments: name -> title.
    runs: in the order of the plan.
    reported: table of the paper -> its rows.
    estimate: time of the runs.
    space: disk space and memory of the runs."""

    scale: str
    experiments: Mapping[str, str]
    runs: Sequence[RunDescription]
    reported: Mapping[str, Sequence[FilledRow]]
    estimate: TimeEstimate
    space: SpaceEstimate

    @property
    def stage_counts(self) -> dict[str, int]:
        """Stage -> number of runs. Probes are listed if there are any."""
        stages = [run.stage for run in self.runs]
        counts = {stage: stages.count(stage) for stage in STAGES}
        return {stage: count for stage, count in counts.items() if count or stage != "probe"}

    @property
    def complete(self) -> int:
        """Number of complete runs."""
        return sum(run.is_complete for run in self.runs)

    @property
    def shared(self) -> int:
        """Number of runs that several rows need."""
        return sum(run.is_shared for run in self.runs)

    @property
    def without_sharing(self) -> int:
        """Number of runs if no two rows shared a run."""
        return sum(len(run.rows) for run in self.runs)

    @property
    def images_seen(self) -> int:
        """Images of all trainings."""
        trainings = [run for run in self.runs if run.schedule.steps is not None]
        return sum(run.schedule.images for run in trainings)

    @property
    def hours_taken(self) -> float:
        """Time of the complete runs."""
        return round(sum(run.hours or 0 for run in self.runs), 3)

    def as_json(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "experiments": dict(self.experiments),
            "runs": [run.as_json() for run in self.runs],
            "summary": self.stage_counts,
            "complete": self.complete,
            "shared": self.shared,
            "without_sharing": self.without_sharing,
            "reported": {
                table: [asdict(row) for row in rows] for table, rows in self.reported.items()
            },
            "images_seen": self.images_seen,
            "hours_taken": self.hours_taken,
            "estimate": self.estimate.as_json(),
            **asdict(self.space),
        }
