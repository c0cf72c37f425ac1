"""What a worker of a sweep does: takes trials, computes their runs, tells how they ended; until none is left."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optuna.exceptions import OptunaError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from core.errors import UserError
from experiments.launch import UNTOLD, Options, stop_with
from experiments.plan import PlannedRun
from results import provenance
from results.records import StoredValidation, read_record
from results.store import Run, Store
from sweeps.schema import Sweep
from sweeps.search import Search, recognizers, training_runs
from sweeps.trials import Taken, Trials, masked

if TYPE_CHECKING:
    from core.loop import Machine

STOPPED, FAILED = 0, 2  # exit codes


@dataclass
class Part:
    """What a worker has done: trials that it brought to an end, and the run it was at when it was stopped."""

    ended: int = 0
    at: str = ""


def work(search: Search, store: Store, url: str | None, options: Options, since: float, parent: int) -> None:
    """A worker process of this machine. Exits with 2 where the user has to mend something, after saying what."""
    should_stop = stop_with(parent)
    import torch

    provenance.commit()  # of the code as it was imported, whatever is edited while it runs
    torch.set_num_threads(options.threads)
    try:
        search_on(Trials(search, store, url), options.machine(should_stop), since, threads=options.threads, linger=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except (OptunaError, SQLAlchemyError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        print(f"error: --storage {masked(url)}: {reason}; the same command goes on", file=sys.stderr)
        sys.exit(FAILED)
    except OSError as error:  # a lock, or a trial's state, cannot be written
        print(f"error: {error.filename}: {error.strerror}; the same command goes on", file=sys.stderr)
        sys.exit(UNTOLD)
    sys.exit(STOPPED)


def search_on(trials: Trials, machine: "Machine", since: float, *, threads: int, linger: bool) -> Part:
    """Compute trials until the sweep is over, or the machine is to stop. linger: wait for trials that others are at, in case
    they die. Raises UserError."""
    part = Part()
    while not machine.should_stop():
        with trials.take(since) as taken:
            if taken is not None:
                part.ended += _Work(trials, taken, machine, threads, part).carry_out()
                continue
        if trials.over(trials.all()) or not linger:
            break
        time.sleep(0.5)
    trials.collect()
    return part


class _Work:
    """One trial in this process's hands."""

    def __init__(self, trials: Trials, taken: Taken, machine: "Machine", threads: int, part: Part) -> None:
        self.trials, self.taken, self.machine, self.threads, self.part = trials, taken, machine, threads, part
        self.place, self.store, self.sweep = trials.place(taken.number), trials.store, trials.search.sweep
        self.compared = set(trials.all()[taken.number].intermediate_values)  # steps at which the trial has been compared
        self.begun = time.time()

    def carry_out(self) -> bool:
        """Compute what the trial still lacks; whether it has ended. Raises UserError for what the user has to mend."""
        plan = self.trials.search.plan(f"trial {self.taken.number}", self.taken.values, self.store)
        runs, seeds = training_runs(plan), {run: seed for seed, run in recognizers(plan).items()}
        for number, run in enumerate(runs, 1):
            self.place.set_state("running", message=f"{run.id} ({number} of {len(runs)} runs)")
            self.part.at = run.id
            outcome = self._compute(run, seeds.get(run.id))
            if outcome.state == "preempted":
                self._pause(outcome.message)
                return False
            if outcome.state == "pruned":
                self._finish(TrialState.PRUNED, reason=outcome.message)
                return True
            if outcome.state == "failed":
                reason = f"{run.id}: {outcome.message}"
                if self.store.run(run.id).told().user_error:
                    self._pause(reason)
                    raise UserError(reason)
                self._finish(TrialState.FAIL, reason=reason)
                return True
        values = [objective(self.sweep, self.store.run(run)) for run in recognizers(plan).values()]
        self._finish(TrialState.COMPLETE, sum(values) / len(values))
        return True

    def _pause(self, why: str) -> None:
        self._spend()
        self.place.set_state("preempted", message=why)

    def _finish(self, state: TrialState, value: float | None = None, reason: str = "") -> None:
        self._spend()
        self.trials.finish(self.taken, state, value, reason)

    def _spend(self) -> None:
        spent = self.taken.trial.user_attrs.get("seconds", 0.0) + time.time() - self.begun
        self.taken.trial.set_user_attr("seconds", round(spent, 3))

    def _compute(self, run: PlannedRun, seed: int | None) -> "Reached":
        """A run, computed by this process or another. seed: of a run whose validation counts."""
        import torch

        from experiments.execute import execute, hold

        place, pruner, machine = self.store.run(run.id), self.sweep.pruner, self.machine
        judge = None if seed is None or pruner is None else Judge(self, seed, pruner.at)
        with hold(place, machine.should_stop) as mine:
            if mine == "preempted":
                return Reached("preempted", "stopped while it waited for another process")
            if judge is not None:
                if judge.replay(place) and mine == "open":
                    return Reached("pruned", judge.reason)
                machine = replace(machine, milestones=judge.at, unwanted=judge)
            if mine == "open":
                torch.set_num_threads(self.threads)
                outcome = execute(run, self.store, machine)
                if outcome.state != "complete":
                    pruned = judge.reason if judge is not None and outcome.state == "preempted" else ""
                    return Reached("pruned", pruned) if pruned else Reached(outcome.state, outcome.message)
        if judge is not None and (pruned := judge.at_end(place)):
            return Reached("pruned", pruned)
        return Reached("complete")


@dataclass(frozen=True)
class Reached:
    """How far a trial's run came."""

    state: str
    message: str = ""


class Judge:
    """Reports validations in the middle of a trial, each once; calling it says why to stop there, or nothing."""

    def __init__(self, work: _Work, seed: int, at: tuple[float, ...]) -> None:
        self.work, self.seed, self.at, self.reason = work, seed, at, ""

    def __call__(self, share: float, values: Mapping[str, float]) -> str:
        sweep, trial = self.work.sweep, self.work.taken.trial
        step = round(100 * (sweep.seeds.index(self.seed) + share) / len(sweep.seeds))
        if step in self.work.compared:
            return ""
        self.work.compared.add(step)
        trial.report(measure(sweep, values), step)
        if trial.should_prune():
            self.reason = f"pruned at {step} % of its fine-tuning by sweep {self.work.trials.search.name}"
        return self.reason

    def replay(self, run: Run) -> str:
        """The validations that a run's log has already, for it was begun before."""
        for share, values in validations(run, self.at):
            self(share, values)
        return self.reason

    def at_end(self, run: Run) -> str:
        """Between two seeds of a trial."""
        if self.seed == self.work.sweep.seeds[-1]:
            return ""
        return self(1.0, read_record(run, StoredValidation).metrics.model_dump(exclude_none=True))


def measure(sweep: Sweep, values: Mapping[str, float]) -> float:
    """The objective of a validation's numbers."""
    if sweep.objective == "validation_avg" and "validation_avg" in values:
        return float(values["validation_avg"])
    return values["validation_correct"] / values["validation_images"]


def objective(sweep: Sweep, run: Run) -> float:
    """The objective of a complete fine-tuning run. Raises UserError for a damaged record, or one too old to tell."""
    metrics = read_record(run, StoredValidation).metrics
    roots = len(read_record(run, StoredValidation).data.get("validation", [None]))
    if sweep.objective == "validation_avg" and metrics.validation_avg is None and roots > 1:
        raise UserError(f"{run.folder}: an older version of the code kept no validation Avg; delete the folder and run again")
    return measure(sweep, metrics.model_dump(exclude_none=True))


def validations(run: Run, shares: tuple[float, ...]) -> list[tuple[float, dict[str, float]]]:
    """What a fine-tuning run's log says of the milestones that it passed."""
    from core.loop import METRICS

    try:
        lines = [json.loads(line) for line in (run.folder / METRICS).read_text().splitlines() if line.endswith("}")]
    except (OSError, ValueError):
        return []
    return [(line["milestone"], line) for line in lines if line.get("milestone") in shares]
