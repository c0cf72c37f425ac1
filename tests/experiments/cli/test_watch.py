"""`run.py watch`: what it shows of runs and sweeps, that it ends, and that it changes nothing."""

import io
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import call
from sweep_helpers import create_trials, finish_all

from experiments.cli.watch import (
    BLOCKS,
    LAST,
    POLL_SECONDS,
    Curve,
    RunsWatch,
    View,
    fit,
    over,
    pace,
    sparkline,
    work_left,
)
from experiments.planning.planner import make_plan
from experiments.running.display import duration
from experiments.slurm import scheduler as slurm
from experiments.slurm.submissions import Submission, write_submission
from results.store import State, StateName, Store
from sweeps.engine.status import sweep_status
from sweeps.engine.status_text import summary_text, sweep_view, trial_text

TABLE1 = Path("experiments/ablation_alignment.yaml")
RUNNING = State("running", done=50, total=200, unit="steps", images_per_second=340, seconds_left=30)


@pytest.fixture
def runs(tmp_path: Path) -> RunsWatch:
    """Table 1 at smoke scale, where nothing has begun."""
    store = Store(tmp_path)
    return RunsWatch(
        make_plan([TABLE1], "smoke", store, precision=lambda: "fp32", overrides={}, seeds=None),
        store,
    )


def is_at(watch: RunsWatch, place: int, state: State, log: str = "") -> str:
    """Write a run's state, and its log, as its process does; the run's id."""
    run = list(watch.plan.runs)[place]
    folder = watch.store.run(run).folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps(asdict(state)))
    (folder / "metrics.jsonl").write_text(log)
    return run


def shown(watch: RunsWatch, width: int = 80, height: int | None = 24) -> list[str]:
    return [line.plain for line in fit(watch.look(width), width, height)]


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_curve_goes_from_the_lowest_to_the_highest_in_no_more_blocks_than_asked_for() -> None:
    assert sparkline([], 5) == ""
    assert sparkline([2.0], 5) == sparkline([2.0, 2.0], 5)[0] == BLOCKS[0]
    assert sparkline(range(8), 8) == BLOCKS
    assert sparkline(range(800, 0, -1), 8) == BLOCKS[::-1]
    assert len(sparkline(range(13), 12)) == 12


def test_a_log_tells_by_its_whole_lines_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert Curve.of(path) == Curve()
    good = [
        '{"step": 0, "loss": 4.5, "images": 64}',
        '{"step": 7, "validation_correct": 3, "validation_avg": 0.25}',
    ]
    bad = [
        '"step": 0, "loss": 9.0}',
        "[1]",
        "7",
        '{"loss": "low"}',
        '{"loss": NaN}',
        "",
        '{"step": 9, "loss": 3',
        "\xff",
    ]
    path.write_text(
        "\n".join([bad[0], good[0], *bad[1:6], good[1], '{"step": 8, "loss": 2.5}', *bad[6:]]),
        encoding="latin-1",
    )
    assert Curve.of(path) == Curve((4.5, 2.5), 0.25)
    assert Curve.of(path).text().split() == ["█▁", "2.5", "25.0", "%", "read"]
    path.write_text('{"step": 0, "loss": 1.0}\n' * (3 * LAST))
    assert len(Curve.of(path).losses) == LAST


def test_a_log_is_read_again_only_when_it_has_changed(
    runs: RunsWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = is_at(runs, 0, State("complete"), '{"step": 0, "loss": 4.5}\n')
    read: list[Path] = []

    def of(path: Path) -> Curve:
        read.append(path)
        return Curve((9.5,) * len(read))

    monkeypatch.setattr(Curve, "of", of)
    assert shown(runs) == shown(runs)
    assert len(read) == 1
    with (runs.store.run(run).folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 10, "loss": 2.25}\n')
    assert f"{BLOCKS[0] * 2} " in shown(runs)[0]
    assert len(read) == 2


def test_running_runs_come_first_then_failed_waiting_and_the_latest_complete_ones(
    runs: RunsWatch,
) -> None:
    names: tuple[StateName, ...] = (
        "complete",
        "complete",
        "preempted",
        "failed",
        "planned",
        "running",
    )
    ids = [is_at(runs, place, State(name, updated=place)) for place, name in enumerate(names)]
    with runs.store.run(ids[5]).lock():
        lines = shown(runs)
    assert [line.split()[1] for line in lines[:5]] == [ids[place][:13] for place in (5, 3, 2, 1, 0)]
    assert lines[-1] == "1 running, 1 failed, 1 preempted, 2 complete, 5 planned"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_running_run_shows_all_its_numbers_at_every_width(runs: RunsWatch, width: int) -> None:
    run = is_at(
        runs,
        2,
        RUNNING,
        '{"step": 0, "loss": 4.5}\n{"step": 10, "loss": 2.25}\n{"step": 10, "validation_avg": 0.5}\n',
    )
    with runs.store.run(run).lock():
        lines = shown(runs, width)
    entry = " ".join(lines[: 1 + (width < 140)])
    assert (run if width == 140 else f"{run[:13]} ") in entry
    for part in (
        "running",
        "no guidance",
        "█▁",
        "2.25",
        "50.0 % read",
        "50/200 steps, 340 images/s, 00:30 left",
    ):
        assert part in entry
    assert width < 80 or max(map(len, lines)) <= width
    assert lines[-1].startswith("1 running, 9 planned; 340 images/s; about ")


@pytest.mark.parametrize("height", [4, 8, 9, 24, 50])
def test_a_screen_is_never_overfull_and_tells_what_it_has_no_room_for(height: int) -> None:
    asked: list[int] = []

    def blocks() -> Iterator[tuple[str, str]]:
        for number in range(2000):
            asked.append(number)
            yield ("running", f"{number}\n  at work") if number < 5 else ("complete", str(number))

    *lines, hidden, most, rest = fit(
        View({"running": 5, "complete": 1995}, blocks(), "total " * 20, over=False), 80, height
    )
    assert len(lines) + 3 < height
    assert f"{most.plain} {rest.plain}" == " ".join(["total"] * 20)
    left = sum(int(word.replace(",", "")) for word in hidden.plain.split() if word[0].isdigit())
    assert left == 2000 - sum(not line.plain.startswith("  ") for line in lines)
    assert len(asked) <= height  # of the others no log is read


def test_a_watch_is_over_when_every_run_is_complete_or_failed_or_lacks_one_that_failed(
    runs: RunsWatch,
) -> None:
    planned = runs.plan.runs.values()
    states = {run.id: State("complete") for run in planned}
    first, last = next(iter(planned)), list(planned)[-1]
    assert over(planned, states)
    waiting: tuple[StateName, ...] = ("planned", "queued", "running", "preempted", "lost")
    for name in waiting:
        assert not over(planned, states | {last.id: State(name)})
    assert over(planned, states | {last.id: State("failed")})
    blocked_experiments = {
        run.id: State("failed" if run is first else "planned") for run in planned
    }
    assert over(planned, blocked_experiments)
    assert not over(planned, blocked_experiments | {last.id: State("running")})


def test_time_left_is_all_work_at_the_pace_of_the_trainings_that_run() -> None:
    work = {"a": 10.0, "b": 20.0, "c": 40.0, "d": 80.0}
    states = {
        "a": State("complete"),
        "b": replace(RUNNING, done=100),
        "c": State("planned"),
        "d": State("failed"),
    }
    assert work_left(states, work) == 50
    assert pace(states, work) == pytest.approx(10 / 30)
    reading = {"b": replace(RUNNING, unit="images"), "c": State("running")}
    assert work_left(reading, work) == 60
    assert pace(reading, work) == 0
    assert [duration(seconds) for seconds in (0, 187.9, 3787, 183787)] == [
        "00:00",
        "03:07",
        "01:03:07",
        "51:03:07",
    ]


def test_without_a_terminal_all_is_printed_once_and_no_file_is_made_or_changed(
    runs: RunsWatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "watch",
        TABLE1,
        "--scale",
        "smoke",
        "--device",
        "cpu",
        "--results",
        runs.store.root,
    )
    code, out, err = call(capsys, *arguments)
    assert (code, err, len(out.splitlines()), list(runs.store.root.iterdir())) == (0, "", 11, [])
    long = "the reason\nis " + "long " * 40
    run = is_at(runs, 0, State("failed", long), '{"step": 0, "loss": 4.5}\n')
    before = files(runs.store.root)
    code, out, err = call(capsys, *arguments, "--once")
    assert (code, err) == (0, "")
    assert out.split()[:2] == ["failed", run]
    assert " ".join(long.split()) in out
    assert files(runs.store.root) == before


def test_a_damaged_state_is_one_sentence(
    runs: RunsWatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = is_at(runs, 0, State("complete"))
    (runs.store.run(run).folder / "state.json").write_text("{")
    code, out, err = call(
        capsys, "watch", TABLE1, "--scale", "smoke", "--device", "cpu", "--results", runs.store.root
    )
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "state.json: not a state file of this suite; move it aside" in err


def test_slurm_is_asked_no_more_often_than_said(
    runs: RunsWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(*command: str) -> str:
        asked.append(command[0])
        return "7|n|PENDING|Priority\n"

    monkeypatch.setattr(slurm, "_ask", answer)
    run = next(iter(runs.plan.runs))
    write_submission(runs.store, Submission("n", "pretrain", (run,), 1000, "7"))
    for seconds, questions in ((0, 1), (1, 1), (POLL_SECONDS, 2)):
        runs.scheduler.polled_at -= seconds
        lines = shown(runs, 140)
        assert len(asked) == questions
        assert lines[0].split() == [
            "queued",
            run,
            "teacher",
            "of",
            "no",
            "guidance",
            "job",
            "7,",
            "Priority",
        ]
        assert lines[-1] == "1 queued, 9 planned; source: state files and squeue"


def test_of_a_sweep_the_trials_are_shown_as_status_tells_them(tmp_path: Path) -> None:
    trials = create_trials(tmp_path)
    assert not sweep_view(sweep_status(trials), 80).over
    finish_all(trials)
    status = sweep_status(trials)
    for width in (40, 1000):
        lines = [line.plain for line in fit(sweep_view(status, width), width, None)]
        assert max(map(len, lines)) <= width
        told = [
            *(trial_text(one) for one in reversed(status.trials)),
            summary_text(status),
        ]
        assert "".join("".join(lines).split()) == "".join("".join(told).split())
        assert width < 1000 or lines == told
    assert sweep_view(status, 80).over == status.over


@pytest.mark.parametrize("size", [(80, 24), (140, 12)])
def test_in_a_terminal_the_last_view_stays_and_the_command_ends_by_itself(
    runs: RunsWatch, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.cli import watch

    for place in range(len(runs.plan.runs)):
        is_at(runs, place, State("running" if place == 9 else "complete", updated=place))
    clock = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda seconds: is_at(runs, 9, State("complete", updated=9))
    )
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setenv("COLUMNS", str(size[0]))
    monkeypatch.setenv("LINES", str(size[1]))
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", terminal)
    assert watch.watch(runs.look, once=False) == 0
    told = terminal.getvalue()
    assert "1 preempted, 9 complete" in told
    assert told.endswith("\x1b[?25h")  # the cursor is seen again
    assert "10 complete" in told.splitlines()[-2]
