"""The curve of a run's loss, as `watch` shows it."""

from pathlib import Path

import pytest

from experiments.cli.loss_curve import LEVELS, MAX_LOG_LINES, LossCurve, LossCurves, sparkline

GOOD_ENTRIES = [
    '{"step": 0, "loss": 4.5, "images": 64}',
    '{"step": 7, "validation_correct": 3, "validation_avg": 0.25}',
    '{"step": 8, "loss": 2.5}',
]
DAMAGED_ENTRIES = [
    '"step": 0, "loss": 9.0}',
    "[1]",
    "7",
    '{"loss": "low"}',
    '{"loss": NaN}',
    "",
    '{"step": 9, "loss": 3',
    "\xff",
]


def test_a_curve_has_at_most_the_given_width() -> None:
    assert sparkline([], 5) == ""
    assert sparkline([2.0], 5) == LEVELS[0]
    assert len(sparkline(range(13), 12)) == 12


def test_a_curve_goes_from_the_lowest_value_to_the_highest() -> None:
    assert sparkline(range(8), 8) == LEVELS
    assert sparkline(range(800, 0, -1), 8) == LEVELS[::-1]
    assert sparkline([2.0, 2.0], 5) == LEVELS[0] * 2


def test_a_log_that_does_not_exist_gives_an_empty_curve(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert LossCurve.read(path) == LossCurves().curve(path) == LossCurve()
    assert LossCurve().text() == ""


@pytest.mark.parametrize("position", [0, 1, 3])
def test_damaged_lines_of_a_log_are_skipped(tmp_path: Path, position: int) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [*GOOD_ENTRIES[:position], *DAMAGED_ENTRIES, *GOOD_ENTRIES[position:]]
    path.write_text("\n".join(lines), encoding="latin-1")
    curve = LossCurve.read(path)
    assert curve == LossCurve((4.5, 2.5), 0.25)
    assert curve.text().split() == ["█▁", "2.5", "25.0", "%", "correct"]


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": 1.0}\n' * (3 * MAX_LOG_LINES))
    assert len(LossCurve.read(path).losses) == MAX_LOG_LINES


def test_a_log_is_read_again_only_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": 4.5}\n')
    reads: list[Path] = []

    def read(path: Path) -> LossCurve:
        reads.append(path)
        return LossCurve((9.5,) * len(reads))

    monkeypatch.setattr(LossCurve, "read", read)
    curves = LossCurves()
    assert curves.curve(path) == curves.curve(path)
    assert len(reads) == 1
    with path.open("a") as log:
        log.write('{"step": 10, "loss": 2.25}\n')
    assert curves.curve(path).losses == (9.5, 9.5)
    assert len(reads) == 2
