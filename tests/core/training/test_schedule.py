"""Which images a training uses, in how many steps."""

from pathlib import Path

import numpy as np
import pytest
from conftest import STAGE, jpeg, write_lmdb

from core.config import Data, Encoder, Finetune, Mix, Optimizer, TextDecoder
from core.data.word_images import Selection, WordImages
from core.runtime.errors import UserError
from core.training.schedule import Schedule, training_groups


def config(**changes: object) -> Finetune:
    settings = STAGE | {"optimizer": Optimizer(base_lr=0.1, batch=8, epochs=2)} | changes
    return Finetune(encoder=Encoder(), decoder=TextDecoder(), **settings)


def selection(count: int) -> Selection:
    return Selection(0, count, np.empty(0, dtype=int))


def words(folder: Path, count: int) -> str:
    return write_lmdb(folder, [(jpeg(number), "word") for number in range(count)])


def test_a_schedule_has_whole_batches_and_ends_epochs() -> None:
    schedule = Schedule.of(config(), [selection(43)])
    assert (schedule.steps_per_epoch, schedule.total_steps) == (5, 10)
    assert [step for step in range(1, 11) if schedule.ends_epoch(step)] == [5, 10]


def test_a_schedule_without_a_step_is_refused() -> None:
    short = Optimizer(base_lr=0.1, batch=8, epochs=0.1, warmup_epochs=0)
    with pytest.raises(UserError, match="epochs"):
        Schedule.of(config(optimizer=short), [selection(8)])


def test_a_resumed_schedule_continues_with_the_same_batches() -> None:
    schedule = Schedule.of(config(), [selection(40)])
    whole = list(schedule.batches(0, slice(0, 8)))
    assert list(schedule.batches(7, slice(0, 8))) == whole[7:]
    assert list(schedule.batches(0, slice(2, 4))) == [batch[2:4] for batch in whole]


def test_roots_and_their_mix_are_separate_groups(tmp_path: Path) -> None:
    images = WordImages([words(tmp_path / "a", 4)], mixed=[words(tmp_path / "b", 3)])
    mixed = config(data=Data(roots=("a",), mix=Mix(roots=("b",), share=0.5)))
    groups = training_groups(mixed, images, unusable=[1, 5])
    numbers = [group[np.arange(len(group))].tolist() for group in groups]
    assert numbers == [[0, 2, 3], [4, 6]]


def test_a_group_without_images_is_refused_by_root(tmp_path: Path) -> None:
    root = words(tmp_path / "a", 2)
    with pytest.raises(UserError, match=f"{root}: no image"):
        training_groups(config(), WordImages([root]), unusable=[0, 1])
