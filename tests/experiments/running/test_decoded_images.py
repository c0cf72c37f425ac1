"""Runs share decoded images, and compute the same with and without them."""

import shutil
from pathlib import Path

import pytest
from planned_training import planned_finetuning
from plans import plan_of

from core.config import Encoder, Evaluate, Pretrain
from core.data import word_images
from core.data.decoded_cache import pixel_bytes
from core.data.record_cache import BUDGET, record_bytes
from core.model.cost import target_bytes
from core.runtime.artifacts import MODEL
from core.training.run_context import RunContext
from experiments.planning.plan import Plan, PlannedRun
from experiments.running import capacity
from experiments.running.capacity import bytes_of_targets, bytes_to_decode
from experiments.running.execute import execute
from results.store import Store


def image_bytes(run: PlannedRun) -> int:
    """Bytes of a decoded image of a run that has an encoder."""
    assert not isinstance(run.config, Evaluate)
    return record_bytes(pixel_bytes(run.config.encoder.image))


def compute(run: PlannedRun, store: Store, context: RunContext) -> bytes:
    """The weights of a run that is computed now."""
    folder = store.run(run.id).folder
    shutil.rmtree(folder, ignore_errors=True)
    with store.run(run.id).lock():
        assert execute(run, store, context).state == "complete"
    return (folder / MODEL).read_bytes()


def test_decoded_images_change_no_weights(
    tmp_path: Path, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned_finetuning(tmp_path / "words")
    store = Store(tmp_path / "results")
    decoding = compute(run, store, context)
    (file,) = store.decoded.iterdir()
    assert file.stat().st_size == 32 * image_bytes(run)
    monkeypatch.setattr(word_images, "decode_image", None)  # nothing is decoded any more
    assert compute(run, store, context) == decoding
    assert list(store.decoded.iterdir()) == [file]


def test_a_plan_counts_the_images_that_are_not_decoded_yet(
    tmp_path: Path, context: RunContext
) -> None:
    run = planned_finetuning(tmp_path / "words")
    store = Store(tmp_path / "results")
    plan = plan_of(tmp_path)
    needed = 32 * image_bytes(run)
    assert bytes_to_decode([run], plan, store) == needed
    assert bytes_to_decode([run, run], plan, store) == needed
    compute(run, store, context)
    assert bytes_to_decode([run], plan, store) == 0


def test_a_plan_counts_the_words_of_all_its_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: Plan = plan_of(tmp_path)
    store = Store(tmp_path)
    runs = list(plan.runs.values())
    paths = {root.path: root.images for run in runs for part in run.data.values() for root in part}
    expected = sum(paths.values()) * image_bytes(runs[0])
    assert bytes_to_decode(runs, plan, store) == expected
    monkeypatch.setattr(capacity, "free_disk_bytes", lambda folder: 10)
    assert bytes_to_decode(runs, plan, store) == 0


def test_large_data_sets_are_not_counted(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, scale="paper")
    pretraining = next(run for run in plan.runs.values() if run.stage == "pretrain")
    assert pretraining.images() * record_bytes(pixel_bytes(Encoder().image)) > BUDGET
    assert bytes_to_decode([pretraining], plan, Store(tmp_path)) == 0


def test_a_plan_counts_the_targets_of_a_teacher_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, scale="mini")
    store = Store(tmp_path)
    runs = [run for run in plan.runs.values() if isinstance(run.config, Pretrain)]
    with_teacher = [run for run in runs if "teacher" in run.inputs]
    assert len(with_teacher) > 1
    (run,) = {run.inputs["teacher"]: run for run in with_teacher}.values()
    assert isinstance(run.config, Pretrain)
    encoder = run.config.encoder
    needed = run.images() * record_bytes(target_bytes(encoder.patches, encoder.width))
    assert bytes_of_targets(with_teacher, store) == needed
    pixels = [run for run in runs if run not in with_teacher]
    assert pixels
    assert bytes_of_targets(pixels, store) == 0
    average = {"pretrain.target": {"kind": "ema_feature"}}
    averaged = plan_of(tmp_path, scale="mini", overrides=average)
    assert bytes_of_targets(averaged.runs.values(), store) == 0
