"""The command `logs`, and cancelling the jobs of a plan."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.runtime.errors import UserError
from experiments.cli import argument_types
from experiments.cli.options import add_command, add_results_option

if TYPE_CHECKING:
    from experiments.planning.plan import Plan
    from results.store import Run, Store

FAILURE_LINES = 3  # last lines of a traceback that `run` prints
ERROR_LINES = 20  # last lines of a job's output that are searched for an error
LINE_BYTES = 400  # assumed length of a line
MAX_LINES = 100_000
SHOWN_RUNS = 5  # of the runs that a beginning of an id fits


def add_job_commands(commands: Any) -> None:
    """Add the parser of `logs` to argparse's subparsers."""
    text = "Print a run's state, its traceback, and the output of its jobs."
    logs = add_command(commands, "logs", logs_command, text)
    logs.add_argument(
        "run",
        type=argument_types.not_empty,
        metavar="RUN",
        help="a run's id, or its beginning (`status` lists the ids)",
    )
    add_results_option(logs)
    logs.add_argument(
        "--lines",
        type=argument_types.whole_number(1, MAX_LINES),
        default=30,
        metavar="N",
        help="last lines of each file (default 30)",
    )


def find_run(name: str, store: "Store") -> "Run":
    """The run with this id, or the only one whose id begins so. Raises UserError."""
    from experiments.slurm.submissions import latest_submissions

    runs = store.root / "runs"
    known = {path.name for path in runs.glob("*-*")} | latest_submissions(store).keys()
    matches = sorted(run for run in known if run.startswith(name))
    if name in matches:
        return store.run(name)
    if not matches:
        raise UserError(f"{name}: no run in {runs} has an id that begins so; `status` lists them")
    if len(matches) > 1:
        shown = ", ".join(matches[:SHOWN_RUNS])
        raise UserError(f"{name}: {len(matches)} runs in {runs} have ids that begin so: {shown}")
    return store.run(matches[0])


def job_files(run: str, store: "Store") -> list[Path]:
    """The output of a run's last job: one file for each of its processes and streams."""
    from experiments.slurm.submissions import jobs_folder, latest_submissions

    submission = latest_submissions(store).get(run)
    if submission is None:
        return []
    return sorted((jobs_folder(store) / submission.name).glob(f"{submission.job(run)}_*_log.*"))


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LINE_BYTES * lines - 4096))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


def last_words(run: str, store: "Store") -> list[str]:
    """The end of a failed run's traceback, or of its job's errors if it has no traceback."""
    from experiments.running.execute import TRACEBACK

    traceback = tail(store.run(run).folder / TRACEBACK, FAILURE_LINES)
    if words := [line for line in traceback if line.strip()]:
        return words
    errors = [
        line
        for path in job_files(run, store)
        if path.suffix == ".err"
        for line in tail(path, ERROR_LINES)
    ]
    return [line for line in errors if line.strip()][-FAILURE_LINES:]


def logs_command(arguments: argparse.Namespace) -> int:
    """Run `logs`; returns the exit code."""
    from experiments.running.display import progress_text
    from experiments.running.execute import TRACEBACK
    from experiments.slurm.status import current_state
    from results.store import Store

    store = Store(arguments.results)
    run = find_run(arguments.run, store)
    name = run.folder.name
    state = current_state(name, store)
    print(f"{name}: {state.name}  {progress_text(state)}".rstrip())
    files = [run.folder / TRACEBACK, *job_files(name, store)]
    shown = [path for path in files if path.is_file() and path.stat().st_size]
    for path in shown:
        print(f"\n==> {path} <==", *tail(path, arguments.lines), sep="\n")
    if not shown:
        print(
            "no traceback, and no output of a job; a run of this machine prints in the terminal "
            "of its command"
        )
    return 0


def cancel_runs(plan: "Plan", store: "Store") -> int:
    """Cancel the queued and running jobs of a plan's runs; returns the exit code.

    Raises UserError if SLURM does not answer."""
    from experiments.slurm import scheduler as slurm
    from experiments.slurm.status import current_statuses

    scheduler = slurm.Scheduler(0)
    statuses = current_statuses(plan.runs.values(), store, scheduler, now=True)
    scheduler.require_answer("nothing was cancelled")
    if not statuses.jobs:
        print("no job of these runs is queued or running")
        return 0
    slurm.cancel(statuses.jobs.values())
    print(
        f"cancelled {len(statuses.jobs)} jobs; their runs keep the last checkpoint. "
        "Run the experiment again to resume"
    )
    for run, job in statuses.jobs.items():
        print(f"  {job}  {run}  {plan.runs[run].rows[0]}", file=sys.stderr)
    return 0
