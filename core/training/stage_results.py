"""What the stages return, and its JSON form in `record.json`."""

from dataclasses import asdict, dataclass
from typing import Any

from core.text.protocols import Counts, Prediction


@dataclass(frozen=True)
class ValidationScore:
    """Accuracy on the validation images. `average` is the mean accuracy over roots."""

    correct: int
    images: int
    average: float

    def to_json(self) -> dict[str, float]:
        """The keys of `record.json` and of the metric log."""
        return {
            "validation_correct": self.correct,
            "validation_images": self.images,
            "validation_avg": self.average,
        }


@dataclass(frozen=True)
class TrainingMetrics:
    """What a training stage records."""

    images_seen: int
    steps: int
    train_seconds: float
    parameters: int  # trained ones
    dropped: dict[str, int]  # reason -> images
    validation: ValidationScore | None = None

    def to_json(self) -> dict[str, Any]:
        """The `metrics` of `record.json`."""
        metrics = asdict(self)
        del metrics["validation"]
        return metrics | ({} if self.validation is None else self.validation.to_json())


@dataclass(frozen=True)
class FinetuneResult:
    """Metrics, and for each validation root whether each image is recognized correctly."""

    metrics: TrainingMetrics
    validation_correct: list[list[bool]]


@dataclass(frozen=True)
class EvaluationMetrics:
    """What an evaluation records: counts for each subset, and the rule that gave them."""

    protocol: str
    labels: str
    protocol_statement: str
    counts: dict[str, Counts]
    dropped: dict[str, dict[str, int]]  # subset -> reason -> images

    def to_json(self) -> dict[str, Any]:
        """The `metrics` of `record.json`."""
        return asdict(self)


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics, and the predictions for each subset in the order of its images.

    earlier: the predictions of the checkpoints before the last one, the latest first.
    """

    metrics: EvaluationMetrics
    predictions: dict[str, list[Prediction]]
    earlier: list[dict[str, list[Prediction]]]
