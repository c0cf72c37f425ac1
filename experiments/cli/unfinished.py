"""The report of `run` about runs that are not complete, and its exit code."""

import sys
from collections.abc import Mapping

from experiments.cli.jobs import last_words
from experiments.planning.plan import Plan, PlannedRun
from experiments.running.local import LaunchResult
from results.store import State, Store


def report_unfinished(
    plan: Plan, store: Store, states: Mapping[str, State], result: LaunchResult
) -> int:
    """Print on standard error which runs are not complete, and why; returns the exit code.

    0: all runs are complete. 130: the user interrupted. 2: all failures are mistakes that the user
    can correct. 1: otherwise.

    plan: the runs.
    store: the results folder.
    states: run -> state after the launch.
    result: how the launch ended."""
    unfinished = [run for run in plan.runs.values() if states[run.id].name != "complete"]
    if not unfinished:
        return 0
    print(f"{len(unfinished)} of {len(states)} runs are not complete:", file=sys.stderr)
    for run in unfinished:
        print(*_run_lines(run, states[run.id], store), sep="\n", file=sys.stderr)
    failed = [states[run.id] for run in unfinished if states[run.id].name == "failed"]
    if result.unwritable or (failed and all(state.user_error for state in failed)):
        return 2
    if result.left:
        print("the jobs continue; run the same command again to watch them", file=sys.stderr)
        return 130
    if result.interrupted and not failed:
        print("run the same command again to resume", file=sys.stderr)
        return 130
    return 1


def _run_lines(run: PlannedRun, state: State, store: Store) -> list[str]:
    """The state of a run and its reason; the end of the traceback of an unexpected error."""
    reason = state.message or "its inputs are not complete"
    lines = [f"  {state.name:9} {run.id}  {run.rows[0]}: {reason}"]
    if state.name == "failed" and not state.user_error:
        lines += [f"      {line}" for line in last_words(run.id, store)]
    return lines
