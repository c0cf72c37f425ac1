"""`run.py logs` and `run.py cancel`: what a run's jobs said, and an end to them."""

import argparse
import sys
from pathlib import Path
from typing import Any

from core.runtime.errors import UserError
from experiments.cli.options import add_command, positive
from results.store import Run, Store

LAST = 3  # lines that tell a failure


def add_job_commands(commands: Any) -> None:
    """Add the parser of `logs`; `cancel` takes the options of a plan (run.py)."""
    logs = add_command(
        commands,
        "logs",
        logs_command,
        "what a run says: its state, its traceback, its jobs' output",
    )
    logs.add_argument(
        "run", metavar="RUN", help="a run's id, or its beginning (`status` lists them)"
    )
    logs.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    logs.add_argument(
        "--lines",
        type=positive,
        default=30,
        metavar="N",
        help="last lines of each file (default 30)",
    )


def find_run(name: str, store: Store) -> Run:
    """The one run whose id begins so. Raises UserError."""
    from experiments.slurm.submissions import latest_submissions

    known = {path.name for path in (store.root / "runs").glob("*-*")} | latest_submissions(
        store
    ).keys()
    found = sorted(run for run in known if run == name or run.startswith(name))
    if name in found:
        return store.run(name)
    if len(found) != 1:
        choice = (
            f"more than one begins so: {', '.join(found[:5])}"
            if found
            else "no run below it begins so"
        )
        raise UserError(f"{name}: {choice} ({store.root / 'runs'}; `status` lists runs)")
    return store.run(found[0])


def job_files(run: str, store: Store) -> list[Path]:
    """What the last job of a run printed, one file for each of its processes and streams."""
    from experiments.slurm.submissions import jobs_folder, latest_submissions

    submission = latest_submissions(store).get(run)
    if submission is None:
        return []
    return sorted((jobs_folder(store) / submission.name).glob(f"{submission.job(run)}_*_log.*"))


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 400 * lines - 4096))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


def last_words(run: str, store: Store) -> list[str]:
    """The end of a failed run's traceback; of its job's output where it left none."""
    from experiments.running.execute import TRACEBACK

    if words := [line for line in tail(store.run(run).folder / TRACEBACK, LAST) if line.strip()]:
        return words
    errors = [
        line for path in job_files(run, store) if path.suffix == ".err" for line in tail(path, 20)
    ]
    return [line for line in errors if line.strip()][-LAST:]


def logs_command(arguments: argparse.Namespace) -> int:
    from experiments.running.display import progress_text
    from experiments.running.execute import TRACEBACK
    from experiments.slurm.status import current_state

    store = Store(arguments.results)
    run = find_run(arguments.run, store)
    state = current_state(run.folder.name, store)
    print(f"{run.folder.name}: {state.name}  {progress_text(state)}".rstrip())
    files = [run.folder / TRACEBACK, *job_files(run.folder.name, store)]
    shown = [path for path in files if path.is_file() and path.stat().st_size]
    for path in shown:
        print(f"\n==> {path} <==", *tail(path, arguments.lines), sep="\n")
    if not shown:
        print(
            "no traceback, and no output of a job; a run of this machine prints where its command runs"
        )
    return 0


def cancel_runs(plan: Any, store: Store) -> int:
    """End the queued and running jobs of a plan's runs. Raises UserError if SLURM does not."""
    from experiments.slurm import scheduler as slurm
    from experiments.slurm.status import current_statuses

    scheduler = slurm.Scheduler(0)
    now = current_statuses(plan.runs.values(), store, scheduler, now=True)
    scheduler.require_answer("nothing was cancelled")
    if not now.jobs:
        print("no job of these runs is queued or running")
        return 0
    slurm.cancel(now.jobs.values())
    print(
        f"cancelled {len(now.jobs)} jobs; what ran keeps its last checkpoint, and the same command goes on from there"
    )
    for run, job in now.jobs.items():
        print(f"  {job}  {run}  {plan.runs[run].rows[0]}", file=sys.stderr)
    return 0
