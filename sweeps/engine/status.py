"""The status of a sweep and of its trials, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from experiments.running.display import progress_text
from results.store import State
from sweeps.engine.space import TrialValues
from sweeps.engine.trials import Trials

COUNTED = ("complete", "pruned")  # states that count towards the total


@dataclass(frozen=True)
class TrialStatus:
    """One trial.

    number: its number, from 0.
    state: planned, running, preempted, complete, pruned or failed.
    value: the objective of a complete trial, in [0, 1]; None otherwise.
    reached: percent of fine-tuning -> the objective at that point.
    values: dotted key -> value or choice.
    runs: ids of its training runs, inputs first.
    recognizers: seed -> id of the fine-tuning run.
    seconds: computing time.
    detail: the reason of a failed or pruned trial, or the progress of a running trial.
    """

    number: int
    state: str
    value: float | None
    reached: Mapping[str, float]
    values: TrialValues
    runs: Sequence[str]
    recognizers: Mapping[str, str]
    seconds: float
    detail: str

    @property
    def is_counted(self) -> bool:
        """Whether the trial counts towards the total."""
        return self.state in COUNTED


@dataclass(frozen=True)
class SweepStatus:
    """A sweep with all of its trials.

    id: NAME.SCALE-HASH.
    title, scale, objective, direction, seeds: those of the sweep.
    total: number of complete and pruned trials at the end.
    counts: state -> number of trials.
    over: no trial is open and no other trial will begin.
    hours: the trials' computing time.
    best: number of the best complete trial; None if there is none.
    trials: all trials, by number.
    source: where the states come from.
    workers: name -> job of the workers on a cluster; None if the scheduler was not asked.
    """

    id: str
    title: str
    scale: str
    objective: str
    direction: str
    seeds: tuple[int, ...]
    total: int
    counts: Mapping[str, int]
    over: bool
    hours: float
    best: int | None
    trials: tuple[TrialStatus, ...]
    source: str
    workers: Mapping[str, str] | None = None

    @property
    def counted(self) -> int:
        """Number of trials that count towards the total."""
        return sum(self.counts.get(state, 0) for state in COUNTED)

    @property
    def complete(self) -> list[TrialStatus]:
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def best_trial(self) -> TrialStatus | None:
        return None if self.best is None else self.trials[self.best]

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        if self.workers is None:
            del content["workers"]
        return content


def sweep_status(trials: Trials) -> SweepStatus:
    """The sweep and its trials as the storage and the state files have them. Raises UserError."""
    sweep = trials.search.sweep
    stored = trials.all()
    statuses = tuple(trial_status(trials, trial) for trial in stored)
    states = sorted(status.state for status in statuses)
    return SweepStatus(
        id=trials.folder.name,
        title=sweep.title,
        scale=trials.search.scale,
        objective=sweep.objective,
        direction=sweep.direction,
        seeds=sweep.seeds,
        total=sweep.trials,
        counts={state: states.count(state) for state in dict.fromkeys(states)},
        over=trials.exists() and trials.is_over(stored),
        hours=round(trials.hours(stored), 4),
        best=_best(statuses, sweep.direction),
        trials=statuses,
        source="the sweep's storage and state files",
    )


def trial_status(trials: Trials, trial: FrozenTrial) -> TrialStatus:
    """One trial as the storage and its state file have it."""
    state = trials.state(trial)
    is_pruned = trial.state == TrialState.PRUNED
    reached = sorted(trial.intermediate_values.items())
    return TrialStatus(
        number=trial.number,
        state="pruned" if is_pruned else state.name,
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        reached={str(step): value for step, value in reached},
        values={key: trial.params[key] for key in trials.search.space if key in trial.params},
        runs=trial.user_attrs.get("runs", []),
        recognizers=trial.user_attrs.get("recognizers", {}),
        seconds=trial.user_attrs.get("seconds", 0.0),
        detail=_detail(trials, trial, state),
    )


def _detail(trials: Trials, trial: FrozenTrial, state: State) -> str:
    if trial.state == TrialState.PRUNED:
        return f"at {max(trial.intermediate_values, default=0)} % of its fine-tuning"
    if state.name != "running":
        return state.message
    run = state.message.partition(" ")[0]
    progress = progress_text(trials.store.run(run).last_written_state())
    return f"{state.message} {progress}".strip()


def _best(statuses: Sequence[TrialStatus], direction: str) -> int | None:
    """The number of the complete trial with the best value; the first of equals."""
    sign = 1 if direction == "maximize" else -1
    values = {status.number: sign * status.value for status in statuses if status.value is not None}
    return max(values, key=lambda number: values[number], default=None)
