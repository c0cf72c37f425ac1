"""The training cost of a row: images of each stage, hours, parameters."""

from pathlib import Path
from typing import Any

import pytest
from table_records import content_of, make_row, measured, write_evaluation, write_training

from analysis.tables.content import NoTraining, TrainingCost, UnrecordedTraining, as_json
from analysis.tables.render import FORMATS
from results.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One evaluation, a pre-training and its teacher on CPU, a fine-tuning on GPU."""
    store = Store(tmp_path)
    write_evaluation(store, "evaluate-a", {"curve": [1]})
    write_training(store, "pretrain-t", 1000, 3600)
    write_training(store, "pretrain-p", 500, 1800)
    write_training(store, "finetune-f", 250, 900, "H200")
    return store


def cost_of(store: Store, **options: Any) -> TrainingCost | NoTraining | UnrecordedTraining:
    (row,) = content_of(store, make_row("a", "evaluate-a", **options)).rows
    return measured(row).training_cost


def test_the_cost_includes_the_teacher_and_the_hours_of_cores_and_gpus(store: Store) -> None:
    trainings = {0: ("pretrain-p", "finetune-f")}
    cost = cost_of(store, trainings=trainings, teachers={0: "pretrain-t"})
    assert cost == TrainingCost(
        teacher_images=1000,
        pretrain_images=500,
        finetune_images=250,
        images=1750,
        parameters=123,
        hours=2 * 1.5 + 0.25,
        unit="CPU-hours and GPU-hours",
    )


@pytest.mark.parametrize(
    ("teacher_images", "cells"),
    [(None, "| over 750    | unknown |"), (4000, "| 4,750       | 4,000   |")],
)
def test_images_of_a_teachers_file_are_unknown_unless_stated(
    store: Store, teacher_images: int | None, cells: str
) -> None:
    row = make_row(
        "a",
        "evaluate-a",
        trainings={0: ("pretrain-p", "finetune-f")},
        teachers={0: "file:x"},
        teacher_images=teacher_images,
    )
    assert cells in FORMATS["md"]([content_of(store, row)])


def test_pretraining_images_of_an_encoder_file_are_unknown(store: Store) -> None:
    trainings = {0: ("finetune-f",)}
    row = make_row("a", "evaluate-a", trainings=trainings, encoder_file="mine.pth")
    cells = "| over 250    | 0       | unknown      | 250"
    assert cells in FORMATS["md"]([content_of(store, row)])


def test_a_training_run_without_a_record_is_named(store: Store) -> None:
    cost = cost_of(store, trainings={0: ("finetune-lost",)})
    assert cost == UnrecordedTraining("finetune-lost")
    assert as_json(cost) == {"missing": "finetune-lost"}


def test_a_row_without_training_has_no_cost(store: Store) -> None:
    assert cost_of(store) == NoTraining()
    assert as_json(NoTraining()) == {}
