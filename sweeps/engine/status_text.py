"""The status of a sweep as text: for `plan`, `status`, `watch` and the live display."""

from textwrap import wrap

from experiments.cli.screen import View, rank
from sweeps.engine.schema import OBJECTIVES
from sweeps.engine.search import Search
from sweeps.engine.space import TrialValues, range_text
from sweeps.engine.status import SweepStatus, TrialStatus


def values_text(values: TrialValues) -> str:
    """A trial's values on one line."""
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )


def percent_text(value: float | None) -> str:
    """A value in [0, 1] in percent; "" for None."""
    return "" if value is None else f"{100 * value:.2f} %"


def trial_text(trial: TrialStatus) -> str:
    """A trial on one line."""
    value = f"{percent_text(trial.value):>8}"
    parts = [f"{trial.number:5}", f"{trial.state:9}", value, values_text(trial.values)]
    return "  ".join([*parts, trial.detail]).rstrip()


def summary_text(status: SweepStatus) -> str:
    """The number of trials in each state, and the best trial."""
    counts = ", ".join(f"{number} {state}" for state, number in status.counts.items())
    text = f"{status.id}: {counts or 'no trial yet'}, of {status.total} (source: {status.source})"
    best = status.best_trial
    if best is None:
        return text
    value = f"{percent_text(best.value)} {status.objective}"
    return f"{text}; best: trial {best.number}, {value}, {values_text(best.values)}"


def status_text(status: SweepStatus) -> str:
    """All trials as aligned lines, and a summary."""
    return "\n".join([*map(trial_text, status.trials), summary_text(status)])


def sweep_view(status: SweepStatus, width: int) -> View:
    """The trials for `watch`, on a screen with `width` columns."""
    trials = sorted(status.trials, key=lambda trial: rank(trial.state, trial.number))
    blocks = (
        (trial.state, "\n".join(wrap(trial_text(trial), width, subsequent_indent=" " * 7)))
        for trial in trials
    )
    return View(status.counts, blocks, summary_text(status), status.over)


def plan_text(search: Search) -> str:
    """The search in a few lines: sampler and pruner, space, objective and seeds."""
    sweep = search.sweep
    pruner = f", pruned by {sweep.pruner.kind}" if sweep.pruner else ""
    head = f"{search.name}: {sweep.title} (scale {search.scale})"
    seeds = " ".join(map(str, sweep.seeds))
    return "\n".join(
        [
            f"{head}; {sweep.trials} trials by {sweep.sampler.kind}{pruner}",
            *(f"  {key}: {range_text(parameter)}" for key, parameter in search.space.items()),
            f"  objective: {OBJECTIVES[sweep.objective]}, {sweep.direction}d; seeds {seeds}",
        ]
    )
