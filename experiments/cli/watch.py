"""`run.py watch`: states, loss curves, remaining time, every second. It changes nothing."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group

from core.runtime.artifacts import METRICS
from experiments.cli.loss_curve import LossCurves
from experiments.cli.remaining_time import nothing_left, work_left, work_rate
from experiments.cli.screen import View, counts_text, fit, rank
from experiments.planning.plan import Plan, PlannedRun, resolved_schedule
from experiments.planning.run_cost import run_cost
from experiments.running.display import LiveDisplay, duration, progress_text
from experiments.slurm.scheduler import Scheduler
from experiments.slurm.status import RunStatuses, current_statuses
from results.store import State, Store

REFRESH_SECONDS = 1.0  # least time between two views
REFRESH_SHARE = 10  # a view is made again after this many times the time that it took
POLL_SECONDS = 15.0  # between two polls of SLURM
SMOOTHING = 0.9  # weight of the earlier views in the rate of work
DETAIL_WIDTH = 79  # columns for the curve and the progress of a running run
WIDE_SCREEN = 120  # columns of a screen that has room for whole ids
SHORT_ID = len("pretrain-1a2b")  # characters of an id on a narrow screen; `logs` accepts them
LEAST_NAME_WIDTH = 20
UNLIMITED_WIDTH = 10_000  # columns if standard output is no terminal


@dataclass(frozen=True)
class Columns:
    """Widths of the columns of a screen.

    screen: all columns. run: the id. name: the longest name of a row. detail: of a running run."""

    screen: int
    run: int
    name: int
    detail: int


class RunsWatch:
    """The views of a plan's runs."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan = plan
        self.store = store
        self.scheduler = Scheduler(POLL_SECONDS)
        self.curves = LossCurves()
        self.rate = 0.0  # operations per second, smoothed over views
        self.work = {
            run.id: run_cost(run, plan).operations * resolved_schedule(run).images
            for run in plan.runs.values()
        }

    def view(self, width: int) -> View:
        """The runs now, for a screen of `width` columns.

        Raises UserError if a state file is damaged."""
        runs = self.plan.runs.values()
        statuses = current_statuses(runs, self.store, self.scheduler)
        counts = Counter[str](state.name for state in statuses.states.values())
        return View(
            counts,
            self._blocks(statuses.states, width),
            self._summary(counts, statuses),
            nothing_left(runs, statuses.states),
        )

    def _summary(self, counts: Mapping[str, int], statuses: RunStatuses) -> str:
        """Counts, images per second, remaining time and source."""
        states = statuses.states
        parts = [counts_text(counts)]
        running = [state for state in states.values() if state.name == "running"]
        if images_per_second := sum(state.images_per_second for state in running):
            parts.append(f"{images_per_second:.0f} images/s")
        if rate := work_rate(states, self.work):
            self.rate = SMOOTHING * self.rate + (1 - SMOOTHING) * rate if self.rate else rate
            seconds_left = work_left(states, self.work) / self.rate
            parts.append(f"about {duration(seconds_left)} left")
        if statuses.source != "state files":
            parts.append(f"source: {statuses.source}")
        return "; ".join(parts)

    def _blocks(self, states: Mapping[str, State], width: int) -> Iterator[tuple[str, str]]:
        """State and text of each run, in the order of the screen."""
        runs = sorted(
            self.plan.runs.values(),
            key=lambda run: rank(states[run.id].name, states[run.id].updated),
        )
        longest_device = max(len(state.device) for state in states.values())
        columns = Columns(
            screen=width,
            run=max(len(run.id) for run in runs) if width >= WIDE_SCREEN else SHORT_ID,
            name=max(cell_len(run.rows[0]) for run in runs),
            detail=DETAIL_WIDTH + (len(" on ") + longest_device if longest_device else 0),
        )
        for run in runs:
            yield states[run.id].name, self._block(run, states[run.id], columns)

    def _block(self, run: PlannedRun, state: State, columns: Columns) -> str:
        """The text of a run: one line, or two or three if the screen is too narrow."""
        head = f"{state.name:9}  {run.id[: columns.run]:{columns.run}}  "
        name = run.rows[0]
        details = self._details(run, state)
        if not details:
            return head + name
        detail = "  ".join(details)
        room = columns.screen - len(head) - 2
        name_width = min(columns.name, max(LEAST_NAME_WIDTH, room - columns.detail))
        detail_width = cell_len(detail)
        if state.name == "running":
            detail_width = max(detail_width, columns.detail)
        if name_width + detail_width > room:
            lines = [detail] if cell_len(detail) + 2 <= columns.screen else details
            return "\n  ".join([head + name, *lines])
        return f"{head}{_end_of(name, name_width)}  {detail}"

    def _details(self, run: PlannedRun, state: State) -> list[str]:
        """The loss curve of a run that has started, and its progress or message."""
        curve = ""
        if state.name not in ("planned", "queued"):
            curve = self.curves.curve(self.store.run(run.id).folder / METRICS).text()
        progress = " ".join(progress_text(state).split())
        return [part for part in (curve, progress) if part]


def _end_of(text: str, width: int) -> str:
    """A text in exactly `width` columns. If it is too long, its end is kept: it names the seed."""
    while cell_len(text) > width:
        text = f"…{text[2:]}"
    return text + " " * (width - cell_len(text))


def watch(make_view: Callable[[int], View], once: bool) -> int:
    """Show views until nothing is left to wait for; returns the exit code.

    If standard output is no terminal, one view with all runs is printed.

    make_view: columns of the screen -> a view of this moment.
    once: show one view, as much as fits on the screen."""
    console = Console(highlight=False)
    if not sys.stdout.isatty():
        print(*fit(make_view(UNLIMITED_WIDTH), UNLIMITED_WIDTH, None), sep="\n")
        return 0
    if once or console.is_dumb_terminal:
        console.print(Group(*fit(make_view(console.width), *console.size)))
        return 0
    with LiveDisplay(console, transient=False) as display:
        while True:
            started = time.monotonic()
            view = make_view(console.width)
            display.show(Group(*fit(view, *console.size)))
            if view.over:
                return 0
            time.sleep(max(REFRESH_SECONDS, REFRESH_SHARE * (time.monotonic() - started)))
