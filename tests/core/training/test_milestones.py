"""Milestones: further validations, and pruning."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from line_task import batches, make_loop, train

from core.runtime.artifacts import METRICS
from core.training.milestones import Milestones
from core.training.run_context import Interrupted, RunContext


def test_milestones_lie_between_the_first_and_the_last_step() -> None:
    assert Milestones((0.01, 0.5, 0.99), 10).shares == {1: 0.01, 5: 0.5}
    assert Milestones((), 10).share_at(5) is None


def test_a_milestone_is_validated_and_marked_in_the_log(
    tmp_path: Path, context: RunContext
) -> None:
    train(tmp_path, replace(context, milestones=(0.35,)))
    entries = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert {"step": 6, "validated": 1, "milestone": 0.35} in entries


def test_a_run_that_is_pruned_stops_at_its_milestone(tmp_path: Path, context: RunContext) -> None:
    asked: list[tuple[float, Mapping[str, float]]] = []

    def should_prune(share: float, values: Mapping[str, float]) -> str:
        asked.append((share, values))
        return "pruned: worse than the others"

    with pytest.raises(Interrupted, match="pruned: worse than the others"):
        train(tmp_path, replace(context, milestones=(0.35, 0.7), should_prune=should_prune))
    assert asked == [(0.35, {"validated": 1})]
    assert make_loop(tmp_path, context).step == 7


def validated_steps(folder: Path, context: RunContext, every: int | None) -> list[int]:
    """The steps after which a training of 20 steps was validated. every: steps between."""
    loop = make_loop(folder, context)
    loop.validate_every = every
    loop.run(batches(loop.step, loop.schedule.total_steps))
    entries = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [entry["step"] + 1 for entry in entries if "validated" in entry]


def test_a_training_can_be_validated_between_the_ends_of_epochs(
    tmp_path: Path, context: RunContext
) -> None:
    assert validated_steps(tmp_path / "a", context, None) == [5, 10, 15, 20]
    assert validated_steps(tmp_path / "b", context, 4) == [4, 5, 8, 10, 12, 15, 16, 20]
