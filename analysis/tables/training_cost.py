"""What a row took: images seen, its teacher's included, hours of training, parameters."""

from collections.abc import Sequence
from typing import Any

from analysis.tables.measurements import Records


def ledger(records: Records, number: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Images by stage, hours and their unit, mean over the seeds; parameters of what was trained last.

    Runs that rows share count in full for each. Images of a teacher or an encoder that is a file are None where nobody says how
    many it saw; the hours are of the runs. {} where nothing was trained, the run's name under `missing` where a record is."""
    row = records.rows[number]
    totals = {"teacher": 0.0, "pretrain": 0.0, "finetune": 0.0, "hours": 0.0}
    units, parameters = set(), 0
    unknown = ["pretrain_images"] if row.encoder_file else []
    for seed in seeds:
        teacher = row.teachers.get(seed, "")
        if teacher.startswith("file:"):
            totals["teacher"] += row.teacher_images or 0
            unknown += [] if row.teacher_images else ["teacher_images"]
        for run in (teacher, *row.trainings[seed]):
            if not run or run.startswith("file:"):
                continue
            training = records.trainings[run]
            if training is None:
                return {"missing": run}
            totals["teacher" if run == teacher else training.stage] += training.images
            totals["hours"] += training.hours
            units.add(training.unit)
            parameters = training.parameters
    if not units:
        return {}
    mean = {name: value / len(seeds) for name, value in totals.items()}
    images = {
        f"{stage}_images": round(mean[stage]) for stage in ("teacher", "pretrain", "finetune")
    }
    entry: dict[str, Any] = images | {"images": sum(images.values()), "parameters": parameters}
    return (
        entry
        | dict.fromkeys(unknown)
        | {"hours": round(mean["hours"], 4), "unit": " and ".join(sorted(units))}
    )
