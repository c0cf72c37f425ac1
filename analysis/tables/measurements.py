"""Records -> what a table needs. Reads the results folder; never trains."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np

from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from results.records import StoredEvaluation, StoredTraining, read_record
from results.store import Run, Store

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Row:
    """One row of a table: its name, the number of its reported twin, the rows it is compared with, and by seed its runs."""

    name: str
    reported: int | None
    against: tuple[str, ...]
    evaluations: Mapping[int, str]  # seed -> evaluate run
    trainings: Mapping[int, tuple[str, ...]]  # seed -> the training runs below it
    teachers: Mapping[int, str]  # seed -> the teacher's run, file:PATH, or nothing
    teacher_images: int | None = None  # that a teacher's file was trained on
    encoder_file: str = ""  # a checkpoint that was fine-tuned
    elsewhere: bool = False  # runs that this machine would not plan, of the same recipe
    deviations: tuple[str, ...] = ()  # what of its data is not as the paper's


@dataclass(frozen=True)
class Measured:
    """One complete evaluation: counts per subset, which images were right, and what was dropped on the way."""

    place: Run
    counts: dict[str, tuple[int, int]]  # subset -> (correct, images)
    data: dict[str, list[str]]  # subset -> fingerprints of its roots
    dropped: dict[str, dict[str, int]]
    protocol: str
    labels: str
    statement: str
    commit: str

    @property
    def run(self) -> str:
        return self.place.folder.name

    @cached_property
    def correct(self) -> dict[str, np.ndarray]:
        """Subset -> (images,) 0 or 1, in the order of the images. Raises UserError if they are not those that were counted."""
        found = self.place.correct() or self._scored()
        counted = {name: (int(values.sum()), len(values)) for name, values in found.items()}
        if counted != self.counts:
            raise UserError(
                f"{self.place.folder}: predictions.csv and record.json disagree; delete the folder and run again"
            )
        return found

    def _scored(self) -> dict[str, np.ndarray]:
        normalize = lru_cache(1 << 16)(PROTOCOLS[self.protocol].normalize)
        subsets, indices, labels, readings, _, readable = self.place.predictions()
        triples = zip(labels, readings, readable, strict=True)
        right = [
            is_read == "1" and (one == two or normalize(one) == normalize(two))
            for one, two, is_read in triples
        ]
        where, values = np.array(subsets), np.array(right, dtype=np.int8)
        numbers = np.array([int(index) if index.isdecimal() else -1 for index in indices])
        for name in self.counts:
            if (np.diff(numbers[where == name], prepend=-1) <= 0).any():
                raise UserError(
                    f"{self.place.folder}: predictions.csv is not in the order of the images; sort it by index"
                )
        return {name: values[where == name] for name in dict.fromkeys((*self.counts, *subsets))}


def load_evaluation(store: Store, run_id: str) -> Measured | None:
    """A complete evaluation, or None. Raises UserError if its record is damaged."""
    run = store.run(run_id)
    if run.state().name != "complete":
        return None
    record = read_record(run, StoredEvaluation)
    metrics, code = record.metrics, record.code
    changes = " with uncommitted changes" if code.clean is False else ""
    return Measured(
        place=run,
        counts={name: (one.correct, one.images) for name, one in metrics.counts.items()},
        data={name: [root.fingerprint for root in roots] for name, roots in record.data.items()},
        dropped=metrics.dropped,
        protocol=metrics.protocol,
        labels=metrics.labels,
        statement=metrics.protocol_statement,
        commit=(code.commit or "unknown")[:10] + changes,
    )


@dataclass(frozen=True)
class Training:
    """What a complete training run took."""

    stage: str
    images: int
    parameters: int
    hours: float  # of one core, or of one GPU
    unit: str  # CPU-hours or GPU-hours
    dropped: dict[str, int]


def load_training(store: Store, run_id: str) -> Training | None:
    """A complete training run, or None. Raises UserError if its record is damaged."""
    run = store.run(run_id)
    if run.state().name != "complete":
        return None
    record = read_record(run, StoredTraining)
    metrics, on_gpu = record.metrics, record.hardware.accelerator is not None
    return Training(
        stage=record.stage,
        images=metrics.images_seen,
        parameters=metrics.parameters,
        hours=metrics.train_seconds
        * record.hardware.processes
        * (1 if on_gpu else record.hardware.threads)
        / 3600,
        unit="GPU-hours" if on_gpu else "CPU-hours",
        dropped=metrics.dropped,
    )


@dataclass(frozen=True)
class Records:
    """The complete records of a table's rows, each read once. Rows are told by their numbers.

    A damaged record is as good as none; `damaged` says what is wrong with it, run by run."""

    rows: Sequence[Row]
    store: Store
    damaged: dict[str, str] = field(default_factory=dict)

    @cached_property
    def measured(self) -> list[dict[int, Measured]]:
        """For each row, the complete evaluations by seed."""
        known = {
            run: self._readings(run)
            for run in dict.fromkeys(run for row in self.rows for run in row.evaluations.values())
        }
        found = [{seed: known[run] for seed, run in row.evaluations.items()} for row in self.rows]
        return [{seed: value for seed, value in row.items() if value is not None} for row in found]

    @cached_property
    def trainings(self) -> dict[str, Training | None]:
        """The records of all training runs, the teachers' included."""
        named = {run for row in self.rows for runs in row.trainings.values() for run in runs}
        named |= {
            run
            for row in self.rows
            for run in row.teachers.values()
            if run and not run.startswith("file:")
        }
        return {run: self._unless_damaged(run, load_training) for run in sorted(named)}

    def _readings(self, run: str) -> Measured | None:
        found = self._unless_damaged(run, load_evaluation)
        return (
            found
            if found and self._unless_damaged(run, lambda *_: found.correct) is not None
            else None
        )

    def _unless_damaged(self, run: str, read: Callable[[Store, str], Kind]) -> Kind | None:
        try:
            return read(self.store, run)
        except UserError as error:
            self.damaged[run] = str(error)
            return None

    def why_missing(self, number: int) -> list[str]:
        """Why a row has no evaluation: what its runs are doing, or what is wrong with their records."""
        runs = self.rows[number].evaluations.values()
        whole = {self.store.run(run).state().name for run in runs if run not in self.damaged}
        states = [f"its evaluation is {', '.join(sorted(whole))}"] if whole else []
        return states + [f"damaged: {self.damaged[run]}" for run in runs if run in self.damaged]

    @cached_property
    def subsets(self) -> list[str]:
        """All that were evaluated for any row."""
        return list(
            dict.fromkeys(
                name for row in self.measured for one in row.values() for name in one.counts
            )
        )

    def subsets_of(self, *numbers: int) -> list[str]:
        """Those that were evaluated for all of these rows, at every seed."""
        evaluations = [one for number in numbers for one in self.measured[number].values()]
        return [name for name in self.subsets if all(name in one.counts for one in evaluations)]

    def seeds_of(self, *numbers: int) -> list[int]:
        """Those at which all of these rows are complete."""
        return sorted(set.intersection(*(set(self.measured[number]) for number in numbers)))

    def values(self, number: int, subset: str, seeds: Sequence[int]) -> np.ndarray:
        """(S, n) 0 or 1: whether each image of a subset was read, under each seed."""
        return np.stack([self.measured[number][seed].correct[subset] for seed in seeds])


def recorded_runs(store: Store, table: str) -> dict[str, dict[str, Any]]:
    """Row -> seed -> its runs, as the commands that made this table noted them; {} where it was never made, or is damaged."""
    try:
        (content,) = json.loads(store.table(f"{table}.json").read_text(encoding="utf-8"))
        rows = content["known_runs"].items()
        return {
            name: {str(int(seed)): noted(runs) for seed, runs in seeds.items()}
            for name, seeds in rows
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def noted(runs: Mapping[str, Any]) -> dict[str, Any]:
    """A row's runs at one seed as a table's JSON has them: its evaluation, its training runs, its teacher."""
    return {
        "evaluate": str(runs["evaluate"]),
        "trainings": list(map(str, runs["trainings"])),
        "teacher": str(runs["teacher"]),
    }
