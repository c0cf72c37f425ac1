"""`run.py watch`: states, curves of the loss, time left, again every second. It only looks: nothing is computed or changed."""

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from core.model.cost import cost
from core.runtime.artifacts import METRICS
from experiments.cli.describe import recognizer_of
from experiments.cli.jobs import tail
from experiments.planning.plan import Plan, PlannedRun, resolved_schedule
from experiments.running.display import duration, progress_text
from experiments.slurm.scheduler import Scheduler
from experiments.slurm.status import current_statuses
from results.store import State, Store

LOOK_SECONDS = 1.0  # between looks at state files
POLL_SECONDS = 15.0  # between questions to SLURM
SMOOTH = 0.9  # of the pace: how much the looks before count
LAST = 600  # lines of a log that make a curve
BLOCKS, CURVE = "▁▂▃▄▅▆▇█", 12  # a curve's characters, and how many it has
NUMBERS = 79  # columns that a running run's curve and progress may take
WIDE, ENDLESS = (
    120,
    10_000,
)  # columns of a screen that has room for whole ids, and of what is no screen
RANKS = {
    "running": 0,
    "failed": 1,
    "lost": 2,
    "preempted": 3,
    "queued": 3,
    "complete": 4,
    "pruned": 4,
    "planned": 5,
}
COLOURS = {
    "running": "cyan",
    "failed": "red",
    "lost": "red",
    "preempted": "yellow",
    "complete": "green",
}


@dataclass(frozen=True)
class View:
    """How things stand at one moment."""

    counts: Mapping[str, int]  # state -> how many
    blocks: Iterable[
        tuple[str, str]
    ]  # state and line, or lines, of each, most telling first; made when they are asked for
    total: str
    over: bool  # nothing is left to wait for


def rank(state: str, latest: float) -> tuple[int, float]:
    """What is shown first sorts first: running, failed, waiting, the latest complete, planned."""
    place = RANKS.get(state, len(RANKS))
    return place, -latest if place == RANKS["complete"] else 0.0


def sparkline(values: Sequence[float], width: int) -> str:
    """(N,) -> at most `width` blocks, each the mean of its share of the values, from the lowest to the highest."""
    if not values:
        return ""
    count = min(width, len(values))
    means = [
        fmean(values[start:end])
        for start, end in pairwise(len(values) * place // count for place in range(count + 1))
    ]
    low, span = min(means), max(means) - min(means) or 1.0
    return "".join(BLOCKS[round((len(BLOCKS) - 1) * (mean - low) / span)] for mean in means)


@dataclass(frozen=True)
class Curve:
    """What the end of a run's log says. A line that is cut short says nothing."""

    losses: tuple[float, ...] = ()
    validation: float | None = (
        None  # share of validation images read right, the mean over their roots; the last one
    )

    @classmethod
    def of(cls, path: Path) -> "Curve":
        losses, validation = [], None
        for text in tail(path, LAST):
            try:
                line = json.loads(text)
                losses += [loss] if math.isfinite(loss := line.get("loss", math.nan)) else []
                validation = (
                    float(line["validation_avg"]) if "validation_avg" in line else validation
                )
            except (ValueError, TypeError, AttributeError):
                continue
        return cls(tuple(losses), validation)

    def text(self) -> str:
        """The curve, the last loss, and the accuracy where there is one; nothing before the first loss."""
        if not self.losses:
            return ""
        read = "" if self.validation is None else f"{100 * self.validation:.1f} % read"
        return f"{sparkline(self.losses, CURVE):{CURVE}}  {self.losses[-1]:<6.4g}  {read}".rstrip()


class RunsWatch:
    """A plan's runs, and what their logs said when they were read last."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store, self.scheduler = plan, store, Scheduler(POLL_SECONDS)
        self.curves: dict[Path, tuple[tuple[int, int], Curve]] = {}
        self.pace, runs = 0.0, plan.runs.values()
        self.work = {
            run.id: cost(run.config, recognizer_of(run, plan))[1] * resolved_schedule(run).images
            for run in runs
        }

    def look(self, width: int) -> View:
        """How the runs stand now, for a screen of so many columns. Raises UserError for a damaged state."""
        runs = self.plan.runs
        now = current_statuses(runs.values(), self.store, self.scheduler)
        counts: Counter[str] = Counter(state.name for state in now.states.values())
        order = sorted(
            runs.values(), key=lambda run: rank(now.states[run.id].name, now.states[run.id].updated)
        )
        ids = (
            max(len(run.id) for run in order) if width >= WIDE else len("pretrain-1a2b")
        )  # `logs` knows a run by it
        names = max(cell_len(run.rows[0]) for run in order)
        blocks = (
            (now.states[run.id].name, self._block(run, now.states[run.id], ids, names, width))
            for run in order
        )
        rate = sum(
            state.images_per_second for state in now.states.values() if state.name == "running"
        )
        left = 0.0
        if speed := pace(now.states, self.work):
            self.pace = SMOOTH * self.pace + (1 - SMOOTH) * speed if self.pace else speed
            left = work_left(now.states, self.work) / self.pace
        told = [
            counted(counts),
            f"{rate:.0f} images/s" if rate else "",
            f"about {duration(left)} left" if left else "",
        ]
        told.append("" if now.source == "state files" else f"source: {now.source}")
        return View(
            counts, blocks, "; ".join(one for one in told if one), over(runs.values(), now.states)
        )

    def _block(self, run: PlannedRun, state: State, ids: int, names: int, width: int) -> str:
        """One line; of a run that needs more room, its name and what it does on two."""
        curve = (
            ""
            if state.name in ("planned", "queued")
            else self._curve(self.store.run(run.id).folder / METRICS).text()
        )
        said = "  ".join(part for part in (curve, " ".join(progress_text(state).split())) if part)
        head, name = f"{state.name:9}  {run.id[:ids]:{ids}}  ", run.rows[0]
        room = min(names, max(20, width - len(head) - NUMBERS - 2))
        if not said:
            return head + name
        if len(head) + room + 2 + (NUMBERS if state.name == "running" else cell_len(said)) > width:
            return f"{head}{name}\n  {said}"
        while cell_len(name) > room:  # its end tells more: the row's own name, the seed
            name = f"…{name[2:]}"
        return f"{head}{name}{' ' * (room - cell_len(name))}  {said}"

    def _curve(self, path: Path) -> Curve:
        try:
            found = path.stat()
        except OSError:  # nothing is logged yet
            return Curve()
        stamp = (found.st_mtime_ns, found.st_size)
        if path not in self.curves or self.curves[path][0] != stamp:
            self.curves[path] = stamp, Curve.of(path)
        return self.curves[path][1]


def over(runs: Iterable[PlannedRun], states: Mapping[str, State]) -> bool:
    """Whether each run is complete, failed, or needs one that failed. Inputs come before those that need them."""
    lost: set[str] = set()
    for run in runs:
        name = states[run.id].name
        if name == "failed" or (
            name not in ("complete", "running", "queued") and lost.intersection(run.inputs.values())
        ):
            lost.add(run.id)
        elif name != "complete":
            return False
    return True


def work_left(states: Mapping[str, State], work: Mapping[str, float]) -> float:
    """What the runs that are neither complete nor failed have before them. work: run -> its arithmetic, in any unit."""
    return sum(
        work[run] * _rest(state)
        for run, state in states.items()
        if state.name not in ("complete", "failed")
    )


def pace(states: Mapping[str, State], work: Mapping[str, float]) -> float:
    """Work per second of the trainings that run now; 0 where none does, or tells."""
    running = {
        run: state for run, state in states.items() if state.name == "running" and _rest(state) < 1
    }
    return sum(
        work[run] * _rest(state) / state.seconds_left
        for run, state in running.items()
        if state.seconds_left > 0
    )


def _rest(state: State) -> float:
    """The share of its work that a run has before it; what is counted in other things than steps is but a part of a run."""
    return 1 - state.done / state.total if state.unit == "steps" and state.total else 1.0


def counted(counts: Mapping[str, int]) -> str:
    """3 running, 1 failed, 20 complete."""
    return ", ".join(
        f"{counts[name]:,} {name}"
        for name in sorted(counts, key=lambda name: rank(name, 0))
        if counts[name]
    )


def fit(view: View, width: int, height: int | None) -> list[Text]:
    """The lines of a screen: as many runs as have room, how many have not, the total. height: None for all."""
    totals = [Text(part, style="bold") for part in wrap(view.total, width)]
    room = (
        math.inf if height is None else height - 2 - len(totals)
    )  # one for what is hidden, the last one for the cursor
    lines: list[Text] = []
    left = Counter(view.counts)
    for state, block in view.blocks:
        parts = [Text(part, no_wrap=True, overflow="ellipsis") for part in block.split("\n")]
        if len(lines) + len(parts) > room:
            break
        parts[0].highlight_words([state], COLOURS.get(state, ""))
        lines += parts
        left[state] -= 1
    hidden = (
        [Text(f"not shown: {counted(left)}", style="dim", no_wrap=True)] if left.total() else []
    )
    return [*lines, *hidden, *totals]


def watch(look: Callable[[int], View], once: bool) -> int:
    """Show how things stand until nothing is left to wait for; once, and all of it, where standard output is no terminal."""
    console = Console(highlight=False)
    if not sys.stdout.isatty():
        print(*fit(look(ENDLESS), ENDLESS, None), sep="\n")
        return 0
    if once or console.is_dumb_terminal:
        console.print(Group(*fit(look(console.width), *console.size)))
        return 0
    with Live(console=console, auto_refresh=False) as live:
        while True:
            started = time.monotonic()
            view = look(console.width)
            live.update(Group(*fit(view, *console.size)), refresh=True)
            if view.over:
                return 0
            time.sleep(max(LOOK_SECONDS, 10 * (time.monotonic() - started)))
