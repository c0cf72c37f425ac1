"""How much of a plan is left, from the states of its runs."""

from collections.abc import Iterable, Mapping

from experiments.planning.plan import PlannedRun
from results.store import State


def nothing_left(runs: Iterable[PlannedRun], states: Mapping[str, State]) -> bool:
    """Whether each run is complete, failed, or needs a run that failed.

    runs: inputs before the runs that need them.
    states: run -> state."""
    lost: set[str] = set()
    for run in runs:
        state = states[run.id].name
        is_waiting = state not in ("complete", "running", "queued", "failed")
        if state == "failed" or (is_waiting and lost.intersection(run.inputs.values())):
            lost.add(run.id)
        elif state != "complete":
            return False
    return True


def work_left(states: Mapping[str, State], work: Mapping[str, float]) -> float:
    """The work of the runs that are neither complete nor failed, in the unit of `work`.

    states: run -> state.
    work: run -> its work, e.g. operations."""
    return sum(
        work[run] * _share_left(state)
        for run, state in states.items()
        if state.name not in ("complete", "failed")
    )


def work_rate(states: Mapping[str, State], work: Mapping[str, float]) -> float:
    """The work per second of the trainings that run now; 0 if there is none.

    The arguments are those of `work_left`."""
    return sum(
        work[run] * _share_left(state) / state.seconds_left
        for run, state in states.items()
        if state.name == "running" and _share_left(state) < 1 and state.seconds_left > 0
    )


def _share_left(state: State) -> float:
    """The share of a run's work that is left. Units other than steps count a part of a run only."""
    if state.unit != "steps" or not state.total:
        return 1.0
    return 1 - state.done / state.total
