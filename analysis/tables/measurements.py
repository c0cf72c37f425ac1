"""The complete runs of a table's rows, loaded from a results folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np

from analysis.tables.clusters import Clusters, count_photographs, photo_clusters
from analysis.tables.content import RowRuns
from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from results.records import StoredEvaluation, StoredTraining, read_record
from results.store import MOVE_FOLDER, Run, Store

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Row:
    """A row of a table with its runs by seed.

    name: as the experiment names it.
    reported_row: the number of the paper's row, or None.
    compare_with: names of the rows from which it is compared.
    evaluations: seed -> the id of the evaluation.
    trainings: seed -> the ids of the training runs.
    teachers: seed -> the id of the teacher's run, `file:PATH`, or empty.
    transfers: seed -> the ids of the evaluations of further fine-tunings of the same encoder.
    probes: seed -> name -> the id of the probe of the row's encoder.
    teacher_images: images seen by a teacher that is a file, if known.
    encoder_file: a checkpoint that was fine-tuned, or empty.
    from_records: its runs have the planned recipe, but other ids than the planned runs.
    deviations: differences between its data and the paper's.
    """

    name: str
    reported_row: int | None
    compare_with: tuple[str, ...]
    evaluations: Mapping[int, str]
    trainings: Mapping[int, tuple[str, ...]]
    teachers: Mapping[int, str]
    teacher_images: int | None = None
    encoder_file: str = ""
    from_records: bool = False
    deviations: tuple[str, ...] = ()
    transfers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    probes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)

    def runs(self, seed: int) -> RowRuns:
        """The runs at one seed."""
        return RowRuns(
            self.evaluations[seed],
            self.trainings[seed],
            self.teachers.get(seed, ""),
            self.transfers.get(seed, ()),
            self.probes.get(seed, {}),
        )


@dataclass(frozen=True)
class MeasuredEvaluation:
    """A complete evaluation.

    run: its folder.
    counts: subset -> (correct, images).
    data: subset -> fingerprints of its roots.
    dropped: subset -> reason -> number of images.
    protocol: the name of the protocol.
    labels: the label policy.
    statement: the protocol in words.
    commit: of the code, shortened.
    """

    run: Run
    counts: Mapping[str, tuple[int, int]]
    data: Mapping[str, list[str]]
    dropped: Mapping[str, Mapping[str, int]]
    protocol: str
    labels: str
    statement: str
    commit: str

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.run.folder.name

    @cached_property
    def correct(self) -> dict[str, np.ndarray]:
        """Subset -> (images,) 0 or 1, in the order of the images.

        Raises UserError if the counts differ from those of the record.
        """
        values = self.run.correct() or self._score_predictions()
        counted = {name: (int(array.sum()), len(array)) for name, array in values.items()}
        if counted != self.counts:
            raise UserError(
                f"{self.run.folder}: predictions.csv and record.json disagree; {MOVE_FOLDER}"
            )
        return values

    @cached_property
    def clusters(self) -> dict[str, Clusters]:
        """Subset -> the photo (images,) of each image, for subsets of which some share a photo.

        Raises UserError if photos.json is damaged, or of other words.
        """
        clusters = {}
        for name, photos in self.run.photos().items():
            if name not in self.counts or len(photos) != self.counts[name][1]:
                raise UserError(
                    f"{self.run.folder}: photos.json and record.json disagree; {MOVE_FOLDER}"
                )
            if (numbers := photo_clusters(photos)) is not None:
                clusters[name] = numbers
        return clusters

    def _score_predictions(self) -> dict[str, np.ndarray]:
        normalize = lru_cache(1 << 16)(PROTOCOLS[self.protocol].normalize)
        subsets, indices, labels, predictions, _, scorable = self.run.predictions()
        correct = [
            flag == "1" and (label == predicted or normalize(label) == normalize(predicted))
            for label, predicted, flag in zip(labels, predictions, scorable, strict=True)
        ]
        subset_of_line = np.array(subsets)
        values = np.array(correct, dtype=np.int8)
        numbers = np.array([int(index) if index.isdecimal() else -1 for index in indices])
        for name in self.counts:
            if (np.diff(numbers[subset_of_line == name], prepend=-1) <= 0).any():
                raise UserError(
                    f"{self.run.folder}: predictions.csv is not in the order of the images; "
                    "sort it by index"
                )
        names = dict.fromkeys((*self.counts, *subsets))
        return {name: values[subset_of_line == name] for name in names}


@dataclass(frozen=True)
class MeasuredTraining:
    """A complete training run.

    stage: `pretrain` or `finetune`.
    images: images seen.
    parameters: of the model.
    hours: of one core or one GPU, in `unit`.
    unit: CPU-hours or GPU-hours.
    dropped: reason -> number of samples that were not used.
    """

    stage: str
    images: int
    parameters: int
    hours: float
    unit: str
    dropped: Mapping[str, int]


def load_evaluation(store: Store, run_id: str) -> MeasuredEvaluation | None:
    """A complete evaluation; None if it is not complete.

    Raises UserError for a damaged record.
    """
    run = store.run(run_id)
    if run.state().name != "complete":
        return None
    record = read_record(run, StoredEvaluation)
    metrics = record.metrics
    code = record.code
    changes = " with uncommitted changes" if code.clean is False else ""
    return MeasuredEvaluation(
        run=run,
        counts={name: (count.correct, count.images) for name, count in metrics.counts.items()},
        data={name: [root.fingerprint for root in roots] for name, roots in record.data.items()},
        dropped=metrics.dropped,
        protocol=metrics.protocol,
        labels=metrics.labels,
        statement=metrics.protocol_statement,
        commit=(code.commit or "unknown")[:10] + changes,
    )


def load_training(store: Store, run_id: str) -> MeasuredTraining | None:
    """A complete training run; None if it is not complete.

    Raises UserError for a damaged record.
    """
    run = store.run(run_id)
    if run.state().name != "complete":
        return None
    record = read_record(run, StoredTraining)
    metrics = record.metrics
    hardware = record.hardware
    on_gpu = hardware.accelerator is not None
    cores = 1 if on_gpu else hardware.threads
    return MeasuredTraining(
        stage=record.stage,
        images=metrics.images_seen,
        parameters=metrics.parameters,
        hours=metrics.train_seconds * hardware.processes * cores / 3600,
        unit="GPU-hours" if on_gpu else "CPU-hours",
        dropped=metrics.dropped,
    )


@dataclass(frozen=True)
class TableRecords:
    """The complete runs of a table's rows; each record is loaded once. Rows are given by number.

    A damaged record counts as missing; `damaged` maps the run to the error message.
    """

    rows: Sequence[Row]
    store: Store
    damaged: dict[str, str] = field(default_factory=dict)

    @cached_property
    def measured(self) -> list[dict[int, MeasuredEvaluation]]:
        """For each row: seed -> complete evaluation."""
        run_ids = dict.fromkeys(run for row in self.rows for run in row.evaluations.values())
        loaded = {run: self._load_checked(run) for run in run_ids}
        return [
            {
                seed: evaluation
                for seed, run in row.evaluations.items()
                if (evaluation := loaded[run]) is not None
            }
            for row in self.rows
        ]

    @cached_property
    def trainings(self) -> dict[str, MeasuredTraining | None]:
        """Run id -> training run, teachers included; None if it is not complete."""
        run_ids = {run for row in self.rows for runs in row.trainings.values() for run in runs}
        teachers = {run for row in self.rows for run in row.teachers.values()}
        run_ids |= {run for run in teachers if run and not run.startswith("file:")}
        return {run: self._unless_damaged(run, load_training) for run in sorted(run_ids)}

    def trainings_of(self, number: int) -> list[tuple[str, MeasuredTraining]]:
        """(kind, training) of each complete training run of a row, over all seeds.

        kind: the stage, or `the teacher's` and the stage.
        """
        row = self.rows[number]
        students = dict.fromkeys(run for runs in row.trainings.values() for run in runs)
        teachers = dict.fromkeys(run for run in row.teachers.values() if run in self.trainings)
        return [
            (f"{prefix}{training.stage}", training)
            for prefix, runs in (("", students), ("the teacher's ", teachers))
            for run in runs
            if (training := self.trainings[run]) is not None
        ]

    def _load_checked(self, run: str) -> MeasuredEvaluation | None:
        """An evaluation whose predictions are intact too."""
        evaluation = self._unless_damaged(run, load_evaluation)
        if evaluation is None:
            return None
        intact = self._unless_damaged(run, lambda *_: (evaluation.correct, evaluation.clusters))
        return None if intact is None else evaluation

    def _unless_damaged(self, run: str, load: Callable[[Store, str], Loaded]) -> Loaded | None:
        try:
            return load(self.store, run)
        except UserError as error:
            self.damaged[run] = str(error)
            return None

    def why_missing(self, number: int) -> list[str]:
        """Why a row has no evaluation: the states of its runs, or the damage of their records."""
        runs = self.rows[number].evaluations.values()
        states = {self.store.run(run).state().name for run in runs if run not in self.damaged}
        reasons = [f"its evaluation is {', '.join(sorted(states))}"] if states else []
        return reasons + [f"damaged: {self.damaged[run]}" for run in runs if run in self.damaged]

    def _evaluations(self) -> Iterator[MeasuredEvaluation]:
        return (evaluation for row in self.measured for evaluation in row.values())

    @cached_property
    def subsets(self) -> list[str]:
        """The subsets that were evaluated for any row."""
        names = (name for evaluation in self._evaluations() for name in evaluation.counts)
        return list(dict.fromkeys(names))

    def subsets_of(self, *numbers: int) -> list[str]:
        """The subsets that were evaluated for all of these rows, at every seed."""
        counts = [
            evaluation.counts for number in numbers for evaluation in self.measured[number].values()
        ]
        return [name for name in self.subsets if all(name in subsets for subsets in counts)]

    def seeds_of(self, *numbers: int) -> list[int]:
        """The seeds at which all of these rows are complete."""
        return sorted(set.intersection(*(set(self.measured[number]) for number in numbers)))

    @cached_property
    def photographs(self) -> dict[str, tuple[int, int]]:
        """Subset -> (photographs, words), for the subsets whose words are taken as clusters."""
        clusters = {name: photos for (name, *_), photos in self._clusters_of_data.items()}
        found = count_photographs(clusters)
        return {name: found[name] for name in self.subsets if name in found}

    def clusters(self, number: int, subset: str) -> Clusters | None:
        """(n,) the photo of each image of a row's subset; None if images are independent.

        Of rows on the same images, those that do not name the photos use those of the others."""
        first = next(iter(self.measured[number].values()))
        return self._clusters_of_data.get(_images_of(first, subset))

    @cached_property
    def _clusters_of_data(self) -> dict[tuple[str, ...], Clusters]:
        """Images of a subset (`_images_of`) -> their photos, of each evaluation that has them."""
        return {
            _images_of(evaluation, name): clusters
            for evaluation in self._evaluations()
            for name, clusters in evaluation.clusters.items()
        }

    def values(self, number: int, subset: str, seeds: Sequence[int]) -> np.ndarray:
        """(S, n) 0 or 1: whether each image of a subset was predicted correctly under each seed."""
        return np.stack([self.measured[number][seed].correct[subset] for seed in seeds])


def _images_of(evaluation: MeasuredEvaluation, subset: str) -> tuple[str, ...]:
    """What images of a subset were evaluated: its name, fingerprints of its data and its size."""
    return subset, *evaluation.data[subset], str(evaluation.counts[subset][1])
