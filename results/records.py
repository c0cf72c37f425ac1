"""What is read of a record: a closed part of it, checked, so that a damaged one is told from a number."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from core.runtime.errors import UserError
from core.text.protocols import PROTOCOLS
from results.store import Run

Whole = Annotated[int, Field(strict=True, ge=0)]


class Stored(BaseModel):
    """What a table reads of a record; there is more in it."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class StoredCount(Stored):
    correct: Whole
    images: Annotated[Whole, Field(gt=0)]

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> "StoredCount":
        if self.correct > self.images:
            raise ValueError(f"{self.correct} correct of {self.images} images")
        return self


class StoredReadings(Stored):
    counts: Annotated[dict[str, StoredCount], Field(min_length=1)]
    dropped: dict[str, dict[str, Whole]]
    protocol: str
    protocol_statement: str
    labels: str = "strict"

    @field_validator("protocol")
    @classmethod
    def _known(cls, protocol: str) -> str:
        if protocol not in PROTOCOLS:
            raise ValueError(f"no protocol is called {protocol!r}")
        return protocol


class StoredRoot(Stored):
    fingerprint: str
    root: str = ""  # its name in the recipe, which early records do not have
    images: Whole = 0


class StoredCode(Stored):
    commit: str | None
    clean: bool | None


class StoredEvaluation(Stored):
    metrics: StoredReadings
    data: dict[str, list[StoredRoot]]
    code: StoredCode

    @model_validator(mode="after")
    def _data_of_every_subset(self) -> "StoredEvaluation":
        if blocked_experiments := sorted(self.metrics.counts.keys() - self.data.keys()):
            raise ValueError(f"no data of {blocked_experiments[0]}")
        return self


class StoredRun(Stored):
    seconds: Annotated[float, Field(ge=0)]


class StoredHardware(Stored):
    accelerator: str | None
    threads: Annotated[Whole, Field(gt=0)]
    processes: Annotated[Whole, Field(gt=0)] = 1


class StoredSteps(Stored):
    images_seen: Whole
    parameters: Whole
    train_seconds: Annotated[float, Field(ge=0)]
    dropped: dict[str, Whole]


class StoredTraining(Stored):
    stage: Literal["pretrain", "finetune"]
    metrics: StoredSteps
    hardware: StoredHardware
    data: dict[str, list[StoredRoot]] = {}


class StoredValidationCounts(Stored):
    validation_correct: Whole
    validation_images: Annotated[Whole, Field(gt=0)]
    validation_avg: Annotated[float, Field(ge=0, le=1)] | None = (
        None  # which early records do not have
    )


class StoredValidation(Stored):
    stage: Literal["finetune"]
    metrics: StoredValidationCounts
    data: dict[str, list[StoredRoot]] = {}


Kind = TypeVar("Kind", bound=Stored)


def read_record(run: Run, kind: type[Kind]) -> Kind:
    """A complete run's record. Raises UserError if it is not what it should be."""
    try:
        return kind.model_validate(run.record())
    except ValidationError as error:
        problem = error.errors()[0]
        told = (*map(str, problem["loc"]), problem["msg"].removeprefix("Value error, "))
        raise UserError(
            f"{run.folder / 'record.json'}: {': '.join(told)}; delete the folder and run again"
        ) from error
