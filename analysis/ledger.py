"""What a row took: images seen, its teacher's included, hours of training, parameters."""

from collections.abc import Sequence
from typing import Any

from analysis.load import Records


def ledger(records: Records, number: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Images by stage, hours and their unit, mean over the seeds; parameters of what was trained last.

    Runs that rows share count in full for each. `teacher_images` is None for a file that does not say. {} where nothing was
    trained, or a record is missing."""
    row = records.rows[number]
    totals = {"teacher": 0.0, "pretrain": 0.0, "finetune": 0.0, "hours": 0.0}
    units, parameters, known = set(), 0, True
    for seed in seeds:
        teacher = row.teachers.get(seed, "")
        if teacher.startswith("file:"):
            known = row.teacher_images is not None
            totals["teacher"] += row.teacher_images or 0
        for run in (teacher, *row.trainings[seed]):
            if not run or run.startswith("file:"):
                continue
            training = records.trainings[run]
            if training is None:
                return {}
            totals["teacher" if run == teacher else training.stage] += training.images
            totals["hours"] += training.hours
            units.add(training.unit)
            parameters = training.parameters
    if not units:
        return {}
    mean = {name: value / len(seeds) for name, value in totals.items()}
    images = {f"{stage}_images": round(mean[stage]) for stage in ("teacher", "pretrain", "finetune")}
    entry: dict[str, Any] = images | {"images": sum(images.values()), "parameters": parameters}
    if not known:
        entry["teacher_images"] = None
    return entry | {"hours": round(mean["hours"], 4), "unit": " and ".join(sorted(units))}
