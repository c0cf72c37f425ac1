"""The content of a table as frozen dataclasses, with one function that turns it into JSON.

Accuracies, differences and intervals are in percent. `analysis/tables/table.py` makes the content;
`render.py` prints it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from analysis.tables.endpoint_content import EndpointTable
from analysis.tables.intervals import Estimate

AVERAGES = ("Avg", "W-Avg")


def as_json(value: object) -> Any:
    """A content object as JSON values: dictionaries, lists, strings, numbers.

    A dataclass becomes an object with one key for each field: the field's name, or the `key` in its
    metadata. A field that has its default value is left out. Keys are strings.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.metadata.get("key", item.name): as_json(getattr(value, item.name))
            for item in fields(value)
            if not _is_default(item, getattr(value, item.name))
        }
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(item) for item in value]
    return value


def _is_default(item: Field[Any], value: object) -> bool:
    if item.default_factory is not MISSING:
        return bool(value == item.default_factory())
    return item.default is not MISSING and value == item.default


@dataclass(frozen=True, kw_only=True)
class PercentEstimate:
    """A value in percent with its 95 % interval, its standard error and the variance covered."""

    accuracy: float
    low: float
    high: float
    standard_error: float = field(metadata={"key": "error"})
    covers: str

    @classmethod
    def of(cls, estimate: Estimate) -> "PercentEstimate":
        """An estimate in [-1, 1] as percent, rounded to four digits."""
        return cls(
            accuracy=round(100 * estimate.value, 4),
            low=round(100 * estimate.low, 4),
            high=round(100 * estimate.high, 4),
            standard_error=round(100 * estimate.standard_error, 4),
            covers=estimate.covers,
        )


@dataclass(frozen=True, kw_only=True)
class SubsetAccuracy(PercentEstimate):
    """The accuracy of a row on one subset, with counts summed over its seeds."""

    correct: int
    images: int


@dataclass(frozen=True)
class RowRuns:
    """The runs of a row at one seed.

    evaluate: the id of the evaluation.
    trainings: the ids of the training runs, in the order of their stages.
    teacher: the id of the teacher's run, `file:PATH`, or empty.
    transfers: the ids of the evaluations of further fine-tunings of the same encoder.
    probes: name -> the id of the probe of the row's encoder.
    """

    evaluate: str
    trainings: tuple[str, ...]
    teacher: str
    transfers: tuple[str, ...] = ()
    probes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoTraining:
    """The training cost of a row for which nothing was trained."""


@dataclass(frozen=True)
class UnrecordedTraining:
    """The training cost of a row with a training run that has no record."""

    run: str = field(metadata={"key": "missing"})


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """The training cost of a row: means over its seeds.

    teacher_images, pretrain_images, finetune_images: images seen in each stage; None if unknown.
    images: the sum of the known ones.
    parameters: of the model that was trained last.
    hours: of all runs, in `unit`.
    unit: CPU-hours, GPU-hours, or both.
    """

    teacher_images: int | None
    pretrain_images: int | None
    finetune_images: int | None
    images: int
    parameters: int
    hours: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of a table. Of this class itself: a row of the paper without a row of the experiment.

    ours: the authors of the paper trained it, or the row of the experiment reproduces it.
    reported: column -> the accuracy that the paper prints.
    verdict: `reproduced`, `differs`, `not comparable`, `missing`, or empty.
    why: reasons for the verdict.
    """

    name: str
    ours: bool
    reported: Mapping[str, float]
    verdict: str
    why: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExperimentRow(TableRow):
    """A row of the experiment. Of this class itself: one without a complete evaluation."""

    seeds: tuple[int, ...]
    missing_seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredRow(ExperimentRow):
    """A row of the experiment with complete evaluations.

    measured: subset, `Avg` and `W-Avg` -> accuracy.
    difference: column -> measured minus reported.
    runs: seed -> the runs.
    """

    measured: Mapping[str, PercentEstimate]
    training_cost: TrainingCost | NoTraining | UnrecordedTraining
    difference: Mapping[str, float]
    runs: Mapping[int, RowRuns]


@dataclass(frozen=True)
class McNemarTest:
    """McNemar's exact test of one subset.

    won: images that only the first row predicts correctly.
    lost: images that only the second row predicts correctly.
    p: the p-value, corrected for the number of subsets (Holm).
    """

    won: int
    lost: int
    p: float


@dataclass(frozen=True, kw_only=True)
class RowComparison:
    """The difference between two rows. Of this class itself: one that could not be computed.

    row, other: names; the difference is `row` minus `other`.
    reported: the difference of the paper's Avg; None if the paper has none.
    verdict: `holds`, `reversed`, `undecided`, `higher`, `lower`, `one seed: undecided`,
    `same runs`, `not comparable` or `missing`.
    why: reasons for the verdict, or the subsets if they are fewer than those of the rows.
    seeds: those that both rows have.
    """

    row: str
    other: str
    reported: float | None
    verdict: str
    why: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PairedComparison(RowComparison):
    """A difference between two rows on the same images and seeds.

    average, weighted_average: the differences of Avg and of W-Avg.
    detectable: the true difference that such a comparison detects with a power of 80 %; None if
    even 100 points would not be detected.
    size: `reproduced` or `differs`, by the size of the reported difference; empty if not judged.
    mcnemar: seed -> subset -> test.
    """

    subsets: tuple[str, ...]
    average: PercentEstimate = field(metadata={"key": "Avg"})
    weighted_average: PercentEstimate = field(metadata={"key": "W-Avg"})
    detectable: float | None
    size: str = ""
    mcnemar: Mapping[int, Mapping[str, McNemarTest]]


@dataclass(frozen=True, kw_only=True)
class TableContent:
    """The whole content of a table.

    experiment, title: of the experiment file.
    paper_table: a table of results/reported.yaml, or None.
    scale, scale_description: of the scale profile.
    overrides: settings of the command line.
    columns: test subsets.
    rules: the rules of the verdicts, a text each.
    notes: facts that a reader needs besides the numbers, a text each.
    endpoints: the measures beside accuracy, if any run has them, the primary one first.
    known_runs: row -> seed -> runs, of all complete runs; only in a stored table.
    file: path of the experiment file, from the results folder; only in a stored table.
    protocol: names of the protocols of the measured rows, their label policy if it is `released`,
        and the sizes of IC13 and IC15, which tell versions of these sets apart; empty if no row is
        measured.
    photographs: subset -> (photographs, words), where words of one photograph are taken as a
        cluster.
    """

    experiment: str
    title: str
    paper_table: str | None = field(metadata={"key": "table"})
    scale: str
    scale_description: str = field(metadata={"key": "about"})
    overrides: Mapping[str, object]
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    comparisons: tuple[RowComparison, ...]
    rules: tuple[str, ...]
    notes: tuple[str, ...]
    endpoints: tuple[EndpointTable, ...] = ()
    known_runs: Mapping[str, Mapping[int, RowRuns]] | None = None
    file: str | None = None
    protocol: str = ""
    photographs: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """`Table N: title (protocol)`, or the experiment's name, title and protocol."""
        name = self.paper_table.replace("table", "Table ") if self.paper_table else self.experiment
        protocol = f" (protocol {self.protocol})" if self.protocol else ""
        return f"{name}: {self.title}{protocol}"
