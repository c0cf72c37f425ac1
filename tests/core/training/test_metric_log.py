"""The metric log of a training."""

import json
from pathlib import Path

from line_task import train

from core.runtime.artifacts import METRICS, TENSORBOARD
from core.training.metric_log import MetricLog, entries_before
from core.training.run_context import RunContext


def test_losses_rate_images_and_validations_are_logged(tmp_path: Path, context: RunContext) -> None:
    train(tmp_path, context)
    entries = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    tenth = next(entry for entry in entries if entry["step"] == 10 and "loss" in entry)
    assert tenth.keys() == {"step", "loss", "learning_rate", "images"}
    assert tenth["images"] == 88
    assert [entry["step"] for entry in entries if "validated" in entry] == [4, 9, 14, 19]
    assert list((tmp_path / TENSORBOARD).iterdir())


def test_a_log_that_is_continued_drops_later_and_cut_entries(tmp_path: Path) -> None:
    log = MetricLog(tmp_path, 0)
    for step in (0, 10, 20):
        log.write(step, {"loss": 1.0})
    log.write(20, {})
    log.close()
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 5, "lo')
    log = MetricLog(tmp_path, 20)
    log.write(20, {"loss": 2.0})
    log.close()
    entries = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in entries] == [(0, 1), (10, 1), (20, 2)]


def test_entries_before_a_step_keep_their_lines() -> None:
    assert entries_before('{"step": 1}\n{"step": 2}\n', 2) == '{"step": 1}\n'
