"""The objective of a sweep: validation accuracy, from records and from logs of fine-tuning runs."""

import json
from collections.abc import Mapping

from core.runtime.artifacts import METRICS
from core.runtime.errors import UserError
from results.records import StoredValidation, read_record
from results.store import MOVE_FOLDER, Run
from sweeps.engine.schema import Sweep


def objective_value(sweep: Sweep, metrics: Mapping[str, float]) -> float:
    """The objective of a validation's metrics, in [0, 1]."""
    if sweep.objective == "validation_avg" and "validation_avg" in metrics:
        return float(metrics["validation_avg"])
    return metrics["validation_correct"] / metrics["validation_images"]


def objective_of_run(sweep: Sweep, run: Run) -> float:
    """The objective of a complete fine-tuning run.

    Raises UserError for a damaged record, or for a record of an older version without the metric.
    """
    record = read_record(run, StoredValidation)
    several_sets = len(record.data.get("validation", [])) != 1
    is_average = sweep.objective == "validation_avg"
    if is_average and several_sets and record.metrics.validation_avg is None:
        raise UserError(
            f"{run.folder}: an older version of the code stored no validation Avg; {MOVE_FOLDER}"
        )
    return objective_value(sweep, validation_metrics(run))


def validation_metrics(run: Run) -> dict[str, float]:
    """The validation metrics in the record of a complete fine-tuning run. Raises UserError."""
    return read_record(run, StoredValidation).metrics.model_dump(exclude_none=True)


def logged_validations(run: Run, shares: tuple[float, ...]) -> list[tuple[float, dict[str, float]]]:
    """(share of the fine-tuning, metrics) of the milestones in a run's log; [] without a log.

    run: a fine-tuning run.
    shares: the milestones.
    """
    try:
        text = (run.folder / METRICS).read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    except (OSError, ValueError):
        return []
    return [(line["milestone"], line) for line in lines if line.get("milestone") in shares]
