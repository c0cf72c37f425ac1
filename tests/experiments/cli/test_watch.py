"""`run.py watch` on the runs of a plan: what it shows, that it ends, that it changes nothing."""

import io
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import call
from plans import TABLE1, plan_of

from experiments.cli import watch
from experiments.cli.loss_curve import LEVELS
from experiments.cli.screen import fit
from experiments.cli.watch import POLL_SECONDS, RunsWatch
from experiments.running.display import LiveDisplay
from experiments.slurm import scheduler as slurm
from experiments.slurm.submissions import Submission, write_submission
from results.store import State, StateName, Store

RUNNING = State("running", done=50, total=200, unit="steps", images_per_second=340, seconds_left=30)
LOG = '{"step": 0, "loss": 4.5}\n{"step": 10, "loss": 2.25}\n{"step": 10, "validation_avg": 0.5}\n'


@pytest.fixture
def runs(tmp_path: Path) -> RunsWatch:
    """Table 1 at scale smoke, of which nothing has started."""
    return RunsWatch(plan_of(tmp_path), Store(tmp_path))


def write_run(runs: RunsWatch, position: int, state: State, log: str = "") -> str:
    """Write the state and the log of a run; returns its id. position: in the plan."""
    run = list(runs.plan.runs)[position]
    folder = runs.store.run(run).folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(json.dumps(asdict(state)))
    (folder / "metrics.jsonl").write_text(log)
    return run


def shown(runs: RunsWatch, width: int = 80, height: int | None = 24) -> list[str]:
    return [line.plain for line in fit(runs.view(width), width, height)]


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def watch_command(
    capsys: pytest.CaptureFixture[str], results: Path, *options: str
) -> tuple[int, str, str]:
    settings = ("--scale", "smoke", "--device", "cpu", "--results", results)
    return call(capsys, "watch", TABLE1, *settings, *options)


def test_running_runs_are_first_then_failed_waiting_and_latest_complete_ones(
    runs: RunsWatch,
) -> None:
    states: tuple[StateName, ...] = (
        "complete",
        "complete",
        "preempted",
        "failed",
        "planned",
        "running",
    )
    ids = [
        write_run(runs, position, State(state, updated=position))
        for position, state in enumerate(states)
    ]
    with runs.store.run(ids[5]).lock():
        lines = shown(runs)
    shown_ids = [line.split()[1] for line in lines[:5]]
    assert shown_ids == [ids[position][:13] for position in (5, 3, 2, 1, 0)]
    assert lines[-1] == "1 running, 1 failed, 1 preempted, 2 complete, 5 planned"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_running_run_shows_all_its_numbers_at_every_width(runs: RunsWatch, width: int) -> None:
    run = write_run(runs, 2, RUNNING, LOG)
    with runs.store.run(run).lock():
        lines = shown(runs, width)
    entry = " ".join(lines[: {60: 3, 80: 2, 140: 1}[width]])
    assert (run if width == 140 else f"{run[:13]} ") in entry
    progress = "50/200 steps, 340 images/s, 00:30 left"
    for part in ("running", "no guidance", "█▁", "2.25", "50.0 % correct", progress):
        assert part in entry
    assert max(map(len, lines[:3])) <= width
    assert lines[-1].startswith("1 running, 9 planned; 340 images/s; about ")


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("device", ["cuda:2", "cuda:15", "cpu"])
def test_a_running_run_shows_its_device(runs: RunsWatch, width: int, device: str) -> None:
    run = write_run(runs, 2, replace(RUNNING, device=device), LOG)
    write_run(runs, 3, State("complete", device="cuda:7"))
    with runs.store.run(run).lock():
        lines = shown(runs, width)
    assert f"left on {device}" in " ".join(lines)
    assert "cuda:7" not in " ".join(lines)
    assert max(map(len, lines)) <= width


def test_a_changed_log_changes_the_curve(runs: RunsWatch) -> None:
    run = write_run(runs, 0, State("complete"), '{"step": 0, "loss": 4.5}\n')
    assert f" {LEVELS[0]} " in shown(runs)[0]
    with (runs.store.run(run).folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 10, "loss": 9.5}\n')
    assert f" {LEVELS[0]}{LEVELS[-1]} " in shown(runs)[0]


def test_without_a_terminal_all_runs_are_printed_once(
    runs: RunsWatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = watch_command(capsys, runs.store.root)
    assert (code, err, len(out.splitlines())) == (0, "", 11)
    message = "the reason\nis " + "long " * 40
    run = write_run(runs, 0, State("failed", message), '{"step": 0, "loss": 4.5}\n')
    code, out, err = watch_command(capsys, runs.store.root, "--once")
    assert (code, err) == (0, "")
    assert out.split()[:2] == ["failed", run]
    assert " ".join(message.split()) in out


def test_watch_makes_and_changes_no_file(
    runs: RunsWatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch_command(capsys, runs.store.root)
    assert list(runs.store.root.iterdir()) == []
    write_run(runs, 0, State("failed", "a reason"), LOG)
    before = files(runs.store.root)
    watch_command(capsys, runs.store.root)
    assert files(runs.store.root) == before


def test_a_damaged_state_file_is_one_sentence(
    runs: RunsWatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(runs, 0, State("complete"))
    (runs.store.run(run).folder / "state.json").write_text("{")
    code, out, err = watch_command(capsys, runs.store.root)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "state.json" in err
    assert "move it aside" in err


def test_slurm_is_polled_at_most_every_poll_seconds(
    runs: RunsWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[str] = []

    def answer(*command: str) -> str:
        polls.append(command[0])
        return "7|n|PENDING|Priority\n"

    monkeypatch.setattr(slurm, "_ask", answer)
    run = next(iter(runs.plan.runs))
    write_submission(runs.store, Submission("n", "pretrain", (run,), 1000, "7"))
    for seconds, expected_polls in ((0, 1), (1, 1), (POLL_SECONDS, 2)):
        runs.scheduler.polled_at -= seconds
        lines = shown(runs, 140)
        assert len(polls) == expected_polls
        assert lines[0].split() == [
            "queued",
            run,
            *["teacher", "of", "no", "guidance", "job", "7,", "Priority"],
        ]
        assert lines[-1] == "1 queued, 9 planned; source: state files and squeue"


@pytest.mark.parametrize("size", [(80, 24), (140, 12)])
def test_in_a_terminal_the_last_view_stays_and_the_command_ends(
    runs: RunsWatch, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for position in range(len(runs.plan.runs)):
        state: StateName = "running" if position == 9 else "complete"
        write_run(runs, position, State(state, updated=position))

    def sleep(seconds: float) -> None:
        write_run(runs, 9, State("complete", updated=9))

    displays: list[LiveDisplay] = []

    class RecordedDisplay(LiveDisplay):
        def __exit__(self, *reason: object) -> None:
            displays.append(self)
            super().__exit__(*reason)

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    monkeypatch.setattr(watch, "LiveDisplay", RecordedDisplay)
    monkeypatch.setenv("COLUMNS", str(size[0]))
    monkeypatch.setenv("LINES", str(size[1]))
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", terminal)
    assert watch.watch(runs.view, once=False) == 0
    output = terminal.getvalue()
    assert "1 preempted, 9 complete" in output
    assert output.endswith("\x1b[?25h")  # the cursor is visible again
    assert "10 complete" in output.splitlines()[-2]
    assert len(displays) == 1
