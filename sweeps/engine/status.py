"""How a sweep stands, for people and as JSON."""

import time
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from core.runtime.errors import UserError
from experiments.cli.watch import View, rank
from experiments.running.display import duration, progress_text
from results.store import State
from sweeps.engine.schema import OBJECTIVES
from sweeps.engine.space import Values, range_text
from sweeps.engine.trials import Trials

Described = dict[str, Any]


def describe_trial(trials: Trials, trial: FrozenTrial) -> Described:
    """One trial: what it is, how it stands, which runs it is made of."""
    state = trials.state(trial)
    pruned = trial.state == TrialState.PRUNED
    return {
        "number": trial.number,
        "state": "pruned" if pruned else state.name,
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "reached": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        "values": {key: trial.params[key] for key in trials.search.space if key in trial.params},
        "runs": trial.user_attrs.get("runs", []),
        "recognizers": trial.user_attrs.get("recognizers", {}),
        "seconds": trial.user_attrs.get("seconds", 0.0),
        "detail": _detail(trials, trial, state),
    }


def _detail(trials: Trials, trial: FrozenTrial, state: State) -> str:
    """What a trial says of itself; of one that runs, how far its run is."""
    if trial.state == TrialState.PRUNED:
        return f"at {max(trial.intermediate_values, default=0)} % of its fine-tuning"
    if state.name != "running":
        return state.message
    progress = progress_text(trials.store.run(state.message.partition(" ")[0]).last_written_state())
    return f"{state.message} {progress}".strip()


def describe(trials: Trials) -> Described:
    """The sweep and all of its trials."""
    search, sweep = trials.search, trials.search.sweep
    found = trials.all()
    described = [describe_trial(trials, trial) for trial in found]
    states = [one["state"] for one in described]
    best = best_trial(described, sweep.direction)
    return {
        "id": trials.folder.name,
        "title": sweep.title,
        "scale": search.scale,
        "objective": sweep.objective,
        "direction": sweep.direction,
        "seeds": list(sweep.seeds),
        "total": sweep.trials,
        "counts": {name: states.count(name) for name in dict.fromkeys(sorted(states))},
        "over": trials.begun() and trials.over(found),
        "hours": round(trials.hours(found), 4),
        "best": None if best is None else best["number"],
        "trials": described,
        "source": "the sweep's storage and state files",
    }


def best_trial(described: Sequence[Described], direction: str) -> Described | None:
    """The complete trial with the best value, the first of equals."""
    complete = [one for one in described if one["state"] == "complete"]
    sign = 1 if direction == "maximize" else -1
    return max(complete, key=lambda one: sign * one["value"], default=None)


def ended(description: Described) -> int:
    """How many trials count: complete or pruned."""
    return sum(description["counts"].get(name, 0) for name in ("complete", "pruned"))


def told(values: Values) -> str:
    """A trial's values on one line."""
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def status_text(description: Described) -> str:
    """Trials as aligned lines, and their sum."""
    return "\n".join([*map(trial_text, description["trials"]), sum_text(description)])


def trial_text(one: Described) -> str:
    """A trial on one line."""
    return f"{one['number']:5}  {one['state']:9}  {percent(one['value']):>8}  {told(one['values'])}  {one['detail']}".rstrip()


def view(description: Described, width: int) -> View:
    """The trials as `run.py watch` shows them on a screen of so many columns."""
    order = sorted(description["trials"], key=lambda one: rank(one["state"], one["number"]))
    blocks = (
        (one["state"], "\n".join(wrap(trial_text(one), width, subsequent_indent=" " * 7)))
        for one in order
    )
    return View(description["counts"], blocks, sum_text(description), description["over"])


def sum_text(description: Described) -> str:
    """How many trials there are of each kind, and the best one."""
    counted = (
        ", ".join(f"{number} {name}" for name, number in description["counts"].items())
        or "no trial yet"
    )
    best = ""
    if description["best"] is not None:
        one = description["trials"][description["best"]]
        best = f"; best: trial {one['number']}, {percent(one['value'])} {description['objective']}, {told(one['values'])}"
    return f"{description['id']}: {counted}, of {description['total']} (source: {description['source']}){best}"


def plan_text(trials: Trials, description: Described) -> str:
    """What is searched, and how."""
    search, sweep = trials.search, trials.search.sweep
    lines = [
        f"{search.name}: {sweep.title} (scale {search.scale}); {description['total']} trials by {sweep.sampler.kind}"
    ]
    lines[0] += f", pruned by {sweep.pruner.kind}" if sweep.pruner else ""
    lines += [f"  {key}: {range_text(parameter)}" for key, parameter in search.space.items()]
    lines.append(
        f"  objective: {OBJECTIVES[sweep.objective]}, {sweep.direction}d; seeds {' '.join(map(str, sweep.seeds))}"
    )
    return "\n".join(lines)


class SweepWatch:
    """What trials are doing: a live table in a terminal, lines elsewhere."""

    def __init__(self, trials: Trials, workers: int, console: Console) -> None:
        self.trials, self.workers, self.console = trials, workers, console
        self.live = (
            Live(console=console, auto_refresh=False, transient=True)
            if console.is_terminal
            else None
        )
        self.last = {one["number"]: one["state"] for one in describe(trials)["trials"]}
        self.looked, self.begun, self.ended_here = 0.0, time.monotonic(), 0

    def __enter__(self) -> "SweepWatch":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def look(self) -> None:
        """Show how the trials stand now; at most once a second. While the storage is away there is nothing to show."""
        if time.monotonic() - self.looked < 1:
            return
        self.looked = time.monotonic()
        try:
            description = describe(self.trials)
        except UserError:  # workers wait for it, and tell it if it stays away
            return
        for one in description["trials"]:
            if self.last.get(one["number"]) != one["state"]:
                self.ended_here += one["state"] in ("complete", "pruned")
                self._tell(one, description)
            self.last[one["number"]] = one["state"]
        if self.live is not None:
            self.live.update(self._table(description), refresh=True)

    def _tell(self, one: Described, description: Described) -> None:
        words = [
            time.strftime("%H:%M:%S"),
            f"{one['state']:9}",
            f"trial {one['number']:<4}",
            told(one["values"]),
        ]
        words += [percent(one["value"]), one["detail"] if one["state"] != "running" else ""]
        left = self._left(description) if one["state"] in ("complete", "pruned") else ""
        self.console.print(
            "  ".join(word for word in [*words, left] if word), highlight=False, markup=False
        )

    def _left(self, description: Described) -> str:
        """How many trials are left, and for how long by the rate since this command began."""
        rest = description["total"] - ended(description)
        so_far = f"{ended(description)} of {description['total']}"
        if not rest or not self.ended_here:
            return so_far
        seconds = (time.monotonic() - self.begun) / self.ended_here * rest
        return f"{so_far}, about {duration(seconds)} left"

    def _table(self, description: Described) -> Table:
        table = Table(box=None, show_header=False)
        for one in description["trials"]:
            if one["state"] == "running":
                table.add_row(f"trial {one['number']}", told(one["values"]), one["detail"])
        table.add_row(self._left(description))
        return table
