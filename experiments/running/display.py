"""The live display of a command: a line for each change of state, and a table in a terminal."""

import time
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from experiments.planning.plan import PlannedRun
from results.store import State

BAR_WIDTH = 24  # columns of a progress bar
REPEAT_SECONDS = 30.0  # between lines about a running run where the output is no terminal


class LiveDisplay:
    """Prints lines; in a terminal, shows below them a renderable that is replaced at each call.

    transient: remove the renderable at the end."""

    def __init__(self, console: Console, *, transient: bool) -> None:
        self.console = console
        self.live: Live | None = None
        if console.is_terminal:
            self.live = Live(console=console, auto_refresh=False, transient=transient)

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def print_state(self, state: str, *texts: str) -> None:
        """Print a line: the time, a state, and the texts that are not empty."""
        parts = [f"{time.strftime('%H:%M:%S')} {state:9}", *texts]
        line = "  ".join(part for part in parts if part)
        self.console.print(line, highlight=False, markup=False)

    def show(self, renderable: RenderableType) -> None:
        """Replace what is shown below the lines. Does nothing outside a terminal."""
        if self.live is not None:
            self.live.update(renderable, refresh=True)

    def show_table(self, rows: Sequence[Sequence[RenderableType]], summary: str) -> None:
        """Show rows of the same number of cells, and a line below them."""
        table = Table(box=None, show_header=False)
        for row in rows:
            table.add_row(*row)
        table.add_row(summary)
        self.show(table)


class RunsDisplay(LiveDisplay):
    """What the runs of a plan are doing, for the command that computes or submits them."""

    def __init__(self, runs: Sequence[PlannedRun], console: Console) -> None:
        super().__init__(console, transient=True)
        self.runs = runs
        self.shown_state: dict[str, str] = {}
        self.printed_at = {run.id: 0.0 for run in runs}

    def update(self, states: Mapping[str, State]) -> None:
        """Print the states that changed, and show the runs that are running.

        states: run -> state."""
        for run in self.runs:
            if self._is_news(run.id, states[run.id]):
                self.printed_at[run.id] = time.monotonic()
                detail = progress_text(states[run.id])
                self.print_state(states[run.id].name, run.id, run.rows[0], detail)
            self.shown_state[run.id] = states[run.id].name
        if self.live is not None:
            running = [run for run in self.runs if states[run.id].name == "running"]
            complete = sum(state.name == "complete" for state in states.values())
            self.show_table(
                [
                    (
                        run.id,
                        run.rows[0],
                        progress_bar(states[run.id]),
                        progress_text(states[run.id]),
                    )
                    for run in running
                ],
                f"{complete} of {len(self.runs)} runs complete",
            )

    def _is_news(self, run_id: str, state: State) -> bool:
        changed = self.shown_state.get(run_id, "planned") != state.name
        if changed and (state.updated > 0 or state.name == "queued"):
            return True
        if state.name != "running" or self.console.is_terminal:
            return False
        return time.monotonic() - self.printed_at[run_id] > REPEAT_SECONDS


def progress_bar(state: State) -> ProgressBar:
    """A bar for the progress of a running run."""
    return ProgressBar(total=max(state.total, 1), completed=state.done, width=BAR_WIDTH)


def progress_text(state: State) -> str:
    """Progress, rate, remaining time and device of a running run; the message of any other."""
    if not state.total or state.name != "running":
        return state.message
    progress = f"{state.done}/{state.total} {state.unit}"
    left = duration(state.seconds_left)
    text = f"{progress}, {state.images_per_second:.0f} images/s, {left} left"
    if state.device:
        text += f" on {state.device}"
    return f"{text} ({state.message})" if state.message else text


def duration(seconds: float) -> str:
    """Minutes and seconds, and hours from one hour on: 03:07, 01:03:07, 51:03:07."""
    hours, rest = divmod(int(seconds), 3600)
    minutes = f"{rest // 60:02}:{rest % 60:02}"
    return f"{hours:02}:{minutes}" if hours else minutes
