"""The screen of `watch`: what fits, and the summary."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_helpers import create_trials, finish_all

from experiments.cli.screen import View, counts_text, fit, rank
from sweeps.engine.status import sweep_status
from sweeps.engine.status_text import summary_text, sweep_view, trial_text


@pytest.mark.parametrize("height", [4, 8, 9, 24, 50])
def test_a_screen_is_never_too_full_and_counts_what_is_hidden(height: int) -> None:
    requested: list[int] = []

    def blocks() -> Iterator[tuple[str, str]]:
        for number in range(2000):
            requested.append(number)
            yield ("running", f"{number}\n  at work") if number < 5 else ("complete", str(number))

    view = View({"running": 5, "complete": 1995}, blocks(), "total " * 20, over=False)
    *lines, hidden, first_summary_line, last_summary_line = fit(view, 80, height)
    assert len(lines) + 3 < height
    summary = f"{first_summary_line.plain} {last_summary_line.plain}"
    assert summary == " ".join(["total"] * 20)
    numbers = [word.replace(",", "") for word in hidden.plain.split() if word[0].isdigit()]
    shown = sum(not line.plain.startswith("  ") for line in lines)
    assert sum(map(int, numbers)) == 2000 - shown
    assert len(requested) <= height  # no log of a hidden run is read


def test_a_screen_without_limit_shows_all_blocks() -> None:
    view = View({"complete": 99}, [("complete", str(row)) for row in range(99)], "x", over=True)
    assert [line.plain for line in fit(view, 80, None)] == [*map(str, range(99)), "x"]


def test_states_are_counted_in_the_order_of_the_screen() -> None:
    counts = {"planned": 5, "complete": 2000, "failed": 1, "lost": 0, "running": 3}
    assert counts_text(counts) == "3 running, 1 failed, 2,000 complete, 5 planned"


def test_of_complete_runs_the_latest_is_first() -> None:
    states = [("planned", 9.0), ("complete", 1.0), ("complete", 2.0), ("new", 0.0), ("failed", 0.0)]
    in_order = sorted(states, key=lambda state: rank(*state))
    assert in_order == [states[4], states[2], states[1], states[0], states[3]]


@pytest.mark.parametrize("width", [40, 1000])
def test_the_trials_of_a_sweep_are_shown_as_in_status(tmp_path: Path, width: int) -> None:
    trials = create_trials(tmp_path)
    assert not sweep_view(sweep_status(trials), 80).over
    finish_all(trials)
    status = sweep_status(trials)
    lines = [line.plain for line in fit(sweep_view(status, width), width, None)]
    expected = [*map(trial_text, reversed(status.trials)), summary_text(status)]
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join("".join(expected).split())
    if width == 1000:
        assert lines == expected
    assert sweep_view(status, 80).over == status.over
