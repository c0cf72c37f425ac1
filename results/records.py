"""Validated views of record.json. A damaged record raises UserError.

Each class contains the fields that some table or command needs; a record has more fields."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from core.runtime.errors import UserError
from core.runtime.validation import first_problem
from core.text.protocols import PROTOCOLS
from results.store import MOVE_FOLDER, Run

StrictCount = Annotated[int, Field(strict=True, ge=0)]


def _known_protocol(name: str) -> str:
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}")
    return name


KnownProtocol = Annotated[str, AfterValidator(_known_protocol)]


class Stored(BaseModel):
    """Base of the views: immutable, and without NaN or infinity."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class StoredCount(Stored):
    """Accuracy on one subset as counts."""

    correct: StrictCount
    images: Annotated[StrictCount, Field(gt=0)]

    @model_validator(mode="after")
    def _at_most_all(self) -> "StoredCount":
        if self.correct > self.images:
            raise ValueError(f"{self.correct} correct of {self.images} images")
        return self


class StoredReadings(Stored):
    """The metrics of an evaluation: counts by subset, dropped images by subset and reason."""

    counts: Annotated[dict[str, StoredCount], Field(min_length=1)]
    dropped: dict[str, dict[str, StrictCount]]
    protocol: KnownProtocol
    protocol_statement: str
    labels: str = "strict"


class StoredRoot(Stored):
    """One data set that a run used."""

    fingerprint: str
    root: str = ""  # its name in the recipe; absent from records before version 0.1
    images: StrictCount = 0
    boxes: str = ""  # a hash of the characters' boxes, if the run read them

    @property
    def content(self) -> str:
        """The fingerprint, and that of the boxes."""
        return f"{self.fingerprint}+{self.boxes}" if self.boxes else self.fingerprint


class StoredCode(Stored):
    """The commit that computed the run; None outside a git checkout."""

    commit: str | None
    clean: bool | None


class StoredSettings(Stored):
    """What defines any run: its stage, config, inputs and data."""

    stage: Literal["pretrain", "finetune", "evaluate", "probe"]
    config: dict[str, Any]
    inputs: dict[str, str]
    data: dict[str, list[StoredRoot]]


class StoredEvaluation(Stored):
    """An evaluation: its counts, its data by subset, its code."""

    metrics: StoredReadings
    data: dict[str, list[StoredRoot]]
    code: StoredCode

    @model_validator(mode="after")
    def _data_of_every_subset(self) -> "StoredEvaluation":
        if without_data := sorted(self.metrics.counts.keys() - self.data.keys()):
            raise ValueError(f"subset {without_data[0]} is not listed in data")
        return self


class StoredScoring(Stored):
    """The part of a config that says how predictions are compared with labels."""

    protocol: KnownProtocol = "waics"


class StoredScoredWords(Stored):
    """An evaluation or a probe: how its words are scored, and the data of each subset."""

    config: StoredScoring
    data: dict[str, list[StoredRoot]] = {}


class StoredTextReference(Stored):
    """Hidden letters of a subset, and how many of them are guessed without the image."""

    words: StrictCount
    neighbors: StrictCount
    most_frequent: StrictCount


class StoredProbeMetrics(Stored):
    """The metrics of a probe: the text references of its subsets; early records have none."""

    text_reference: dict[str, StoredTextReference] = {}


class StoredTextReferences(Stored):
    """A probe of hidden letters."""

    metrics: StoredProbeMetrics


class StoredRun(Stored):
    """The duration of any run."""

    seconds: Annotated[float, Field(ge=0)]


class StoredHardware(Stored):
    """The hardware that computed a run."""

    accelerator: str | None
    threads: Annotated[StrictCount, Field(gt=0)]
    processes: Annotated[StrictCount, Field(gt=0)] = 1


class StoredDuration(Stored):
    """The time of a training's steps; other runs have none."""

    train_seconds: Annotated[float, Field(ge=0)] = 0


class StoredCost(Stored):
    """What any run took.

    seconds: of its last part, if it was interrupted; `metrics` then have the steps of all parts.
    peak_own_memory_bytes, disk_bytes: None where they were not measured."""

    seconds: Annotated[float, Field(ge=0)]
    hardware: StoredHardware
    metrics: StoredDuration
    peak_own_memory_bytes: StrictCount | None = None
    disk_bytes: StrictCount | None = None

    @property
    def core_seconds(self) -> float:
        """Time multiplied by threads and processes."""
        seconds = max(self.seconds, self.metrics.train_seconds)
        return seconds * self.hardware.threads * self.hardware.processes


class StoredSteps(Stored):
    """The metrics of a training that measure its cost."""

    images_seen: StrictCount
    parameters: StrictCount
    train_seconds: Annotated[float, Field(ge=0)]
    dropped: dict[str, StrictCount]


class StoredTraining(Stored):
    """A pre-training or fine-tuning."""

    stage: Literal["pretrain", "finetune"]
    metrics: StoredSteps
    hardware: StoredHardware
    data: dict[str, list[StoredRoot]] = {}


class StoredValidationCounts(Stored):
    """The validation accuracy at the end of a fine-tuning.

    validation_avg: mean accuracy over the validation roots; absent from early records."""

    validation_correct: StrictCount
    validation_images: Annotated[StrictCount, Field(gt=0)]
    validation_avg: Annotated[float, Field(ge=0, le=1)] | None = None


class StoredValidation(Stored):
    """A fine-tuning with a validation set."""

    stage: Literal["finetune"]
    metrics: StoredValidationCounts
    data: dict[str, list[StoredRoot]] = {}


Kind = TypeVar("Kind", bound=Stored)


def read_record(run: Run, kind: type[Kind]) -> Kind:
    """A view of a complete run's record. Raises UserError if the record does not fit the view."""
    try:
        return kind.model_validate(run.record())
    except ValidationError as error:
        reason = first_problem(error, separator=": ")
        raise UserError(f"{run.folder / 'record.json'}: {reason}; {MOVE_FOLDER}") from error
