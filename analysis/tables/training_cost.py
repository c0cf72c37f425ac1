"""The training cost of a row: images seen, hours of training, parameters."""

from collections.abc import Sequence

from analysis.tables.content import NoTraining, TrainingCost, UnrecordedTraining
from analysis.tables.measurements import Row, TableRecords

STAGES = ("teacher", "pretrain", "finetune")


def training_cost(
    records: TableRecords, number: int, seeds: Sequence[int]
) -> TrainingCost | NoTraining | UnrecordedTraining:
    """The cost of row `number`: means over seeds, and the parameters of the last trained model.

    The teacher's training is included. A run that several rows share counts in full for each row.
    The images seen by a teacher or an encoder that is a file are None unless the experiment states
    them; hours are those of the runs.
    """
    row = records.rows[number]
    images = dict.fromkeys(STAGES, 0)
    hours = 0.0
    units: set[str] = set()
    parameters = 0
    for seed in seeds:
        teacher = row.teachers.get(seed, "")
        if teacher.startswith("file:"):
            images["teacher"] += row.teacher_images or 0
        for run in _run_ids(row, seed):
            training = records.trainings[run]
            if training is None:
                return UnrecordedTraining(run)
            images["teacher" if run == teacher else training.stage] += training.images
            hours += training.hours
            units.add(training.unit)
            parameters = training.parameters
    if not units:
        return NoTraining()
    means = {stage: round(count / len(seeds)) for stage, count in images.items()}
    unknown = _unknown_stages(row, seeds)
    known = {stage: None if stage in unknown else mean for stage, mean in means.items()}
    return TrainingCost(
        teacher_images=known["teacher"],
        pretrain_images=known["pretrain"],
        finetune_images=known["finetune"],
        images=sum(means.values()),
        parameters=parameters,
        hours=round(hours / len(seeds), 4),
        unit=" and ".join(sorted(units)),
    )


def _run_ids(row: Row, seed: int) -> list[str]:
    """The teacher's run and the training runs at one seed, without files."""
    runs = (row.teachers.get(seed, ""), *row.trainings[seed])
    return [run for run in runs if run and not run.startswith("file:")]


def _unknown_stages(row: Row, seeds: Sequence[int]) -> set[str]:
    """The stages whose images are unknown because their result is a file."""
    unknown = {"pretrain"} if row.encoder_file else set()
    teacher_is_file = any(row.teachers.get(seed, "").startswith("file:") for seed in seeds)
    if teacher_is_file and not row.teacher_images:
        unknown.add("teacher")
    return unknown
