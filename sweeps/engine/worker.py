"""What a worker of a sweep does: takes trials, computes their runs, tells how they ended; until none is left."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from core.runtime.errors import UserError
from experiments.planning.plan import PlannedRun
from experiments.running.options import ComputeOptions
from experiments.running.worker import EXIT_STATE_NOT_WRITTEN, stop_with
from results import provenance
from results.records import StoredValidation, read_record
from results.store import Run, Store
from sweeps.engine.schema import Sweep
from sweeps.engine.search import Search, recognizers, training_runs
from sweeps.engine.storage import STORAGE_ERRORS, masked, reason_of
from sweeps.engine.trials import ClaimedTrial, Trials, pruned_by

if TYPE_CHECKING:
    from core.training.run_context import RunContext

PATIENCE, AWAY_SECONDS = 300, 5.0  # that a storage may be away, and between looks at it


@dataclass
class Part:
    """What a worker has done: trials that it brought to an end, and the run it was at when it was stopped."""

    ended: int = 0
    at: str = ""


def work(
    search: Search,
    store: Store,
    url: str | None,
    options: ComputeOptions,
    since: float,
    parent: int,
) -> None:
    """A worker process of this machine. Exits with EXIT_STATE_NOT_WRITTEN where the user has to mend something, after saying what."""
    import torch

    should_stop = stop_with(parent)
    provenance.commit()  # of the code as it was imported, whatever is edited while it runs
    try:
        search_on(
            Trials(search, store, url),
            options.run_context(torch.device(options.device), should_stop),
            since,
            threads=options.threads,
            wait_for_others=True,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_STATE_NOT_WRITTEN)
    except OSError as error:  # the journal, a lock, or a trial's state cannot be written
        place = error.filename or store.root / "sweeps" / search.id
        print(
            f"error: {place}: {error.strerror}; make room there, or name another place with --results",
            file=sys.stderr,
        )
        sys.exit(EXIT_STATE_NOT_WRITTEN)


def search_on(
    trials: Trials, context: "RunContext", since: float, *, threads: int, wait_for_others: bool
) -> Part:
    """Compute trials until the sweep is over, or the machine is to stop. linger: wait for trials that others are at, in case
    they die. A storage that is away for some minutes is waited for. Raises UserError."""
    import torch

    part, away = Part(), 0.0
    torch.set_num_threads(threads)
    while not context.should_stop():
        try:
            with trials.take(since) as taken:
                if taken is not None:
                    part.ended += Work(trials, taken, context, threads, part).run()
            away = 0.0
            if taken is None:
                if trials.over(trials.read()) or not wait_for_others:
                    trials.collect()
                    break
                time.sleep(0.5)
        except STORAGE_ERRORS as error:
            away = away or time.monotonic()
            if time.monotonic() - away > PATIENCE:
                reason = f"{reason_of(error)}; nothing is lost, the same command goes on"
                raise UserError(f"--storage {masked(trials.url)}: {reason}") from error
            time.sleep(AWAY_SECONDS)
    return part


class Work:
    """One trial in this process's hands."""

    def __init__(
        self, trials: Trials, taken: ClaimedTrial, context: "RunContext", threads: int, part: Part
    ) -> None:
        self.trials, self.taken, self.context, self.threads, self.part = (
            trials,
            taken,
            context,
            threads,
            part,
        )
        self.place, self.store, self.sweep = (
            trials.place(taken.number),
            trials.store,
            trials.search.sweep,
        )
        self.compared = set(
            trials.read()[taken.number].intermediate_values
        )  # steps at which the trial has been compared
        self.told = dict(taken.trial.user_attrs)
        self.spent = self.told.get("seconds", 0.0)

    def run(self) -> bool:
        """Compute what the trial still lacks; whether it has ended. Raises UserError for what the user has to mend."""
        if verdict := self.told.get(
            "pruned"
        ):  # its worker was killed before it could end the trial
            self._finish(TrialState.PRUNED, reason=verdict)
            return True
        plan = self.trials.search.plan(f"trial {self.taken.number}", self.taken.values, self.store)
        runs, seeds = training_runs(plan), {run: seed for seed, run in recognizers(plan).items()}
        for number, run in enumerate(runs, 1):
            self.place.set_state("running", message=f"{run.id} ({number} of {len(runs)} runs)")
            self.part.at = run.id
            reached = self._compute(run, seeds.get(run.id))
            if reached.state == "preempted":
                self._pause(reached.message)
                return False
            if reached.state != "complete":
                self._end(run.id, reached)
                return True
        values = [objective(self.sweep, self.store.run(run)) for run in recognizers(plan).values()]
        self._finish(TrialState.COMPLETE, sum(values) / len(values))
        return True

    def _end(self, run: str, reached: "Reached") -> None:
        """After a run that was pruned, or failed. Raises UserError where the sweep is to stop: nothing of it has worked yet, or
        what failed is the place that runs are written to."""
        if reached.state == "pruned":
            self._finish(TrialState.PRUNED, reason=reached.message)
            return
        reason = f"{run}: {reached.message}"
        hopeful = any(trial.state.name in ("COMPLETE", "PRUNED") for trial in self.trials.read())
        again = self.told.get("failed") == reason  # nobody mended it, so it is the trial's own
        if self.store.run(run).last_written_state().user_error and (
            reached.outside or not (hopeful or again)
        ):
            self.taken.trial.set_user_attr("failed", reason)
            self._pause(reason)
            raise UserError(reason)
        self._finish(TrialState.FAIL, reason=reason)

    def _pause(self, why: str) -> None:
        self.taken.trial.set_user_attr("seconds", round(self.spent, 3))
        self.place.set_state("preempted", message=why)

    def _finish(self, state: TrialState, value: float | None = None, reason: str = "") -> None:
        self.taken.trial.set_user_attr("seconds", round(self.spent, 3))
        self.trials.finish(self.taken, state, value, reason)

    def _compute(self, run: PlannedRun, seed: int | None) -> "Reached":
        """A run, computed by this process or another. seed: of a run whose validation counts."""
        from experiments.running.execute import acquire

        judge = (
            None
            if seed is None or self.sweep.pruner is None
            else PruningCallback(self, seed, self.sweep.pruner.at)
        )
        with acquire(self.store.run(run.id), self.context.should_stop) as mine:
            if mine == "preempted":
                return Reached("preempted", "stopped while it waited for another process")
            if judge is not None:
                judge.replay(self.store.run(run.id), decide=mine == "open")
            if mine == "open":
                begun = time.time()
                try:
                    reached = self._execute(run, judge)
                finally:
                    self.spent += time.time() - begun
                if reached.state != "complete":
                    return reached
        if judge is not None and (verdict := judge.at_end(self.store.run(run.id))):
            return Reached("pruned", verdict)
        return Reached("complete")

    def _execute(self, run: PlannedRun, judge: "PruningCallback | None") -> "Reached":
        """A run whose lock is held."""
        import torch

        from experiments.running.execute import execute

        context = self.context
        if judge is not None:
            if judge.verdict:
                return Reached("pruned", judge.verdict)
            context = replace(context, milestones=judge.at, should_prune=judge)
        torch.set_num_threads(self.threads)
        outcome = execute(run, self.store, context)
        if judge is not None and judge.away is not None:
            raise judge.away
        if judge is not None and judge.verdict and outcome.state == "preempted":
            return Reached("pruned", judge.verdict)
        return Reached(outcome.state, outcome.message, outcome.environment_failure)


@dataclass(frozen=True)
class Reached:
    """How far a trial's run came. outside: it failed by where it is computed, not by what it is."""

    state: str
    message: str = ""
    outside: bool = False


class PruningCallback:
    """Reports validations in the middle of a trial, each once; calling it says why to stop there, or nothing."""

    def __init__(self, work: Work, seed: int, at: tuple[float, ...]) -> None:
        self.work, self.seed, self.at = work, seed, at
        self.verdict = ""
        self.away: Exception | None = None  # what the storage raised instead of answering

    def __call__(self, share: float, values: Mapping[str, float]) -> str:
        trial = self.work.taken.trial
        try:
            if self._report(share, values) and trial.should_prune():
                self.verdict = pruned_by(self.work.trials.search)
                trial.set_user_attr("pruned", self.verdict)
        except (
            STORAGE_ERRORS
        ) as error:  # the run stops with a checkpoint, and goes on once the storage answers
            self.away = error
            return "the sweep's storage does not answer"
        return self.verdict

    def _report(self, share: float, values: Mapping[str, float]) -> bool:
        """Whether these were not reported before."""
        sweep = self.work.sweep
        step = round(100 * (sweep.seeds.index(self.seed) + share) / len(sweep.seeds))
        if step in self.work.compared:
            return False
        self.work.taken.trial.report(measure(sweep, values), step)
        self.work.compared.add(step)
        return True

    def replay(self, run: Run, *, decide: bool) -> None:
        """Report the validations that a run's log has already. decide: the run is not complete, and may be stopped."""
        for share, values in validations(run, self.at):
            if decide and not self.verdict:
                self(share, values)
            else:
                self._report(share, values)
        if self.away is not None:
            raise self.away

    def at_end(self, run: Run) -> str:
        """Between two seeds of a trial."""
        if self.seed == self.work.sweep.seeds[-1]:
            return ""
        verdict = self(
            1.0, read_record(run, StoredValidation).metrics.model_dump(exclude_none=True)
        )
        if self.away is not None:
            raise self.away
        return verdict


def measure(sweep: Sweep, values: Mapping[str, float]) -> float:
    """The objective of a validation's numbers."""
    if sweep.objective == "validation_avg" and "validation_avg" in values:
        return float(values["validation_avg"])
    return values["validation_correct"] / values["validation_images"]


def objective(sweep: Sweep, run: Run) -> float:
    """The objective of a complete fine-tuning run. Raises UserError for a damaged record, or one too old to tell."""
    record = read_record(run, StoredValidation)
    several = len(record.data.get("validation", [])) != 1
    if sweep.objective == "validation_avg" and record.metrics.validation_avg is None and several:
        raise UserError(
            f"{run.folder}: an older version of the code kept no validation Avg; move the folder aside and run again"
        )
    return measure(sweep, record.metrics.model_dump(exclude_none=True))


def validations(run: Run, shares: tuple[float, ...]) -> list[tuple[float, dict[str, float]]]:
    """What a fine-tuning run's log says of the milestones that it passed."""
    from core.runtime.artifacts import METRICS

    try:
        lines = [
            json.loads(line)
            for line in (run.folder / METRICS).read_text().splitlines()
            if line.endswith("}")
        ]
    except (OSError, ValueError):
        return []
    return [(line["milestone"], line) for line in lines if line.get("milestone") in shares]
