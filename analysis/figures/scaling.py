"""Scaling curves: rows of an experiment that differ only in the length of pre-training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.tables.table import Table
from core.runtime.errors import UserError
from experiments.planning.plan import Cell, Plan

PUNCTUATION = " ,;:-–×("
LENGTH: Any = {"optimizer": {"epochs", "warmup_epochs"}}  # what may differ within a curve


@dataclass(frozen=True)
class ScalingPoint:
    """A row and the number of images that its encoder saw in pre-training (mean over seeds)."""

    row: str
    images: float


@dataclass(frozen=True)
class ScalingCurve:
    """Rows of the same recipe, in the order of their images.

    name: what the names of the rows have in common."""

    name: str
    points: tuple[ScalingPoint, ...]


def scaling_curves(table: Table, plan: Plan) -> list[ScalingCurve]:
    """The curves of an experiment, each with at least two numbers of images.

    Rows of one curve have the same configs and the same teacher, except for the epochs and the
    warm-up of pre-training. Rows whose pre-training is not complete are left out.

    table: with its runs. plan: of this table.
    Raises UserError if there is no curve."""
    groups: dict[str, list[ScalingPoint]] = {}
    for number, row in enumerate(table.rows):
        (cell, *_) = plan.cells_of(table.name, number)
        recipe = _recipe_without_length(cell, plan)
        images = _pretraining_images(table, number)
        if recipe and images:
            groups.setdefault(recipe, []).append(ScalingPoint(row.name, images))
    curves = [
        ScalingCurve(common_name([point.row for point in points]), _sorted(points))
        for points in groups.values()
        if len({point.images for point in points}) > 1
    ]
    if not curves:
        raise UserError(
            f"{table.label}: no rows that differ only in the length of pre-training; "
            "experiments/scaling.yaml has such rows"
        )
    names = [curve.name for curve in curves]
    return [
        curve if names.count(curve.name) == 1 else ScalingCurve(curve.points[0].row, curve.points)
        for curve in curves
    ]


def _sorted(points: Sequence[ScalingPoint]) -> tuple[ScalingPoint, ...]:
    return tuple(sorted(points, key=lambda point: point.images))


def _recipe_without_length(cell: Cell, plan: Plan) -> str:
    """What a row computes, without the length of pre-training; "" for a row without it."""
    runs = [plan.runs[run] for run in (*cell.trainings, cell.evaluate)]
    if not runs or runs[0].stage != "pretrain":
        return ""
    first, *others = runs
    configs = [first.config.model_dump_json(exclude=LENGTH)]
    configs += [run.config.model_dump_json() for run in others]
    return "\n".join([*configs, cell.teacher])


def _pretraining_images(table: Table, number: int) -> float | None:
    """Images seen by the encoder of a row, as the mean over its seeds; None if unknown."""
    trainings = table.records.trainings
    images = [
        training.images
        for runs in table.rows[number].trainings.values()
        for run in runs
        if (training := trainings[run]) is not None and training.stage == "pretrain"
    ]
    return sum(images) / len(images) if images else None


def common_name(names: Sequence[str]) -> str:
    """The leading words that all names share, without punctuation at the end.

    The first name if they share none."""
    words = [[word.strip(PUNCTUATION) for word in name.split()] for name in names]
    count = 0
    for of_all in zip(*words, strict=False):
        if len(set(of_all)) > 1:
            break
        count += 1
    return " ".join(names[0].split()[:count]).strip(PUNCTUATION) or names[0]
