"""The keys of `record.json` that stages write. Stored records depend on them."""

from core.text.protocols import Counts
from core.training.stage_results import EvaluationMetrics, TrainingMetrics, ValidationScore


def test_the_keys_of_training_metrics() -> None:
    dropped = {"unreadable": 2}
    metrics = TrainingMetrics(160, 20, 1.5, 57, dropped)
    assert metrics.to_json() == {
        "images_seen": 160,
        "steps": 20,
        "train_seconds": 1.5,
        "parameters": 57,
        "dropped": dropped,
    }


def test_validation_scores_are_stored_beside_training_metrics() -> None:
    score = ValidationScore(correct=3, images=4, average=0.7)
    metrics = TrainingMetrics(160, 20, 1.5, 57, {}, score).to_json()
    assert metrics["validation_correct"] == 3
    assert metrics["validation_images"] == 4
    assert metrics["validation_avg"] == 0.7
    assert "validation" not in metrics


def test_the_keys_of_evaluation_metrics() -> None:
    metrics = EvaluationMetrics("waics", "strict", "rule", {"iiit5k": Counts(3, 4)}, {})
    assert metrics.to_json() == {
        "protocol": "waics",
        "labels": "strict",
        "protocol_statement": "rule",
        "counts": {"iiit5k": {"correct": 3, "images": 4}},
        "dropped": {},
    }
