"""A worker of a sweep: claims trials, computes their runs and finishes them until none is left."""

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from core.runtime.errors import UserError
from experiments.planning.plan import PlannedRun
from experiments.running.options import ComputeOptions
from experiments.running.worker import EXIT_STATE_NOT_WRITTEN, stop_with
from results import provenance
from results.store import Store
from sweeps.engine.objective import objective_of_run
from sweeps.engine.pruning import PruningCallback
from sweeps.engine.search import Search, recognizer_runs, training_runs
from sweeps.engine.storage import STORAGE_ERRORS, short_reason, without_password
from sweeps.engine.trials import ClaimedTrial, Trials

if TYPE_CHECKING:
    from core.training.run_context import RunContext

STORAGE_TIMEOUT = 300.0  # seconds that a storage may be unavailable
STORAGE_RETRY_SECONDS = 5.0
WAIT_SECONDS = 0.5  # between looks at trials of other workers


@dataclass
class WorkerProgress:
    """What a worker has done.

    finished: number of trials that it finished.
    current_run: id of the run that it computes, or computed last; "" before the first.
    """

    finished: int = 0
    current_run: str = ""


def run_worker(
    search: Search,
    store: Store,
    url: str | None,
    options: ComputeOptions,
    since: float,
    parent: int,
) -> None:
    """The main function of a worker process of this machine.

    search: the sweep.
    store: the results folder.
    url: Optuna's storage; None: the journal.
    options: resolved for this machine.
    since: failures after this time (seconds since 1970) count.
    parent: the process number of the command.

    Exits with EXIT_STATE_NOT_WRITTEN after an error that the user can fix, and prints the error.
    """
    import torch

    should_stop = stop_with(parent)
    provenance.commit()  # before somebody edits the code that this process has imported
    try:
        run_trials(
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
        path = error.filename or store.root / "sweeps" / search.id
        advice = "free some space there, or choose another folder with --results"
        print(f"error: {path}: {error.strerror}; {advice}", file=sys.stderr)
        sys.exit(EXIT_STATE_NOT_WRITTEN)


def run_trials(
    trials: Trials, context: "RunContext", since: float, *, threads: int, wait_for_others: bool
) -> WorkerProgress:
    """Compute trials until the sweep is over or `context.should_stop()`.

    If the storage is unavailable, wait for it up to STORAGE_TIMEOUT.

    trials: the sweep's trials.
    context: how runs are computed.
    since: failures after this time (seconds since 1970) count.
    threads: CPU threads.
    wait_for_others: wait while other workers compute the last trials, in case they end early.

    Raises UserError.
    """
    import torch

    progress = WorkerProgress()
    unavailable_since: float | None = None
    torch.set_num_threads(threads)
    while not context.should_stop():
        try:
            with trials.claim(since) as claimed:
                if claimed is not None:
                    worker = TrialWorker(trials, claimed, context, threads, progress)
                    progress.finished += worker.run()
            unavailable_since = None
            if claimed is None:
                if trials.is_over(trials.fetch()) or not wait_for_others:
                    trials.delete_pruned_checkpoints()
                    break
                time.sleep(WAIT_SECONDS)
        except STORAGE_ERRORS as error:
            now = time.monotonic()
            unavailable_since = unavailable_since or now
            if now - unavailable_since > STORAGE_TIMEOUT:
                raise UserError(
                    f"--storage {without_password(trials.url)}: {short_reason(error)}; "
                    "nothing is lost, run the same command again to resume"
                ) from error
            time.sleep(STORAGE_RETRY_SECONDS)
    return progress


@dataclass(frozen=True)
class TrialRunResult:
    """How the computation of one run of a trial ended.

    state: complete, failed, preempted or pruned.
    message: why the run is not complete.
    environment_failure: the machine failed (e.g. a full disk), not the run.
    """

    state: str
    message: str = ""
    environment_failure: bool = False


class TrialWorker:
    """Computes one claimed trial."""

    def __init__(
        self,
        trials: Trials,
        claimed: ClaimedTrial,
        context: "RunContext",
        threads: int,
        progress: WorkerProgress,
    ) -> None:
        self.trials = trials
        self.claimed = claimed
        self.context = context
        self.threads = threads
        self.progress = progress
        self.folder = trials.trial_folder(claimed.number)
        self.store = trials.store
        self.sweep = trials.search.sweep
        self.reported_steps = set(trials.fetch()[claimed.number].intermediate_values)
        self.attributes = dict(claimed.trial.user_attrs)
        self.seconds = self.attributes.get("seconds", 0.0)

    def run(self) -> bool:
        """Compute the trial's runs that are not complete; returns whether the trial is finished.

        Raises UserError for what the user has to fix.
        """
        if reason := self.attributes.get("pruned"):  # an earlier worker was killed after pruning
            self._finish(TrialState.PRUNED, reason=reason)
            return True
        number = self.claimed.number
        plan = self.trials.search.plan(f"trial {number}", self.claimed.values, self.store)
        runs = training_runs(plan)
        recognizers = recognizer_runs(plan)
        seeds = {run: seed for seed, run in recognizers.items()}
        for position, run in enumerate(runs, 1):
            message = f"{run.id} ({position} of {len(runs)} runs)"
            self.folder.set_state("running", message=message)
            self.progress.current_run = run.id
            result = self._compute(run, seeds.get(run.id))
            if result.state == "preempted":
                self._pause(result.message)
                return False
            if result.state != "complete":
                self._finish_early(run.id, result)
                return True
        values = [objective_of_run(self.sweep, self.store.run(run)) for run in recognizers.values()]
        self._finish(TrialState.COMPLETE, sum(values) / len(values))
        return True

    def _finish_early(self, run: str, result: TrialRunResult) -> None:
        """Finish the trial after a run that was pruned or failed.

        Raises UserError, and leaves the trial open, if the sweep must stop: its results folder
        cannot be written, or the user can fix the error and no trial has succeeded yet. The same
        error after a restart is the trial's own: then the trial fails.
        """
        if result.state == "pruned":
            self._finish(TrialState.PRUNED, reason=result.message)
            return
        reason = f"{run}: {result.message}"
        some_succeeded = any(
            trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in self.trials.fetch()
        )
        failed_before = self.attributes.get("failed") == reason
        must_stop = result.environment_failure or not (some_succeeded or failed_before)
        if must_stop and self.store.run(run).last_written_state().user_error:
            self.claimed.trial.set_user_attr("failed", reason)
            self._pause(reason)
            raise UserError(reason)
        self._finish(TrialState.FAIL, reason=reason)

    def _pause(self, reason: str) -> None:
        self.claimed.trial.set_user_attr("seconds", round(self.seconds, 3))
        self.folder.set_state("preempted", message=reason)

    def _finish(self, state: TrialState, value: float | None = None, reason: str = "") -> None:
        self.claimed.trial.set_user_attr("seconds", round(self.seconds, 3))
        self.trials.finish(self.claimed, state, value, reason)

    def _compute(self, run: PlannedRun, seed: int | None) -> TrialRunResult:
        """Compute a run, or wait for the process that computes it.

        run: a run of the trial.
        seed: the seed of a run whose validation accuracy counts; None for its inputs.
        """
        from experiments.running.execute import acquire

        folder = self.store.run(run.id)
        callback = self._pruning_callback(seed)
        with acquire(folder, self.context.should_stop) as acquired:
            if acquired == "preempted":
                return TrialRunResult("preempted", "stopped while it waited for another process")
            if callback is not None:
                callback.report_logged(folder, may_prune=acquired == "open")
            if acquired == "open":
                result = self._execute(run, callback)
                if result.state != "complete":
                    return result
        if callback is not None and (reason := callback.report_final(folder)):
            return TrialRunResult("pruned", reason)
        return TrialRunResult("complete")

    def _pruning_callback(self, seed: int | None) -> PruningCallback | None:
        if seed is None or self.sweep.pruner is None:
            return None
        search = self.trials.search
        return PruningCallback(self.claimed.trial, search, seed, self.reported_steps)

    def _execute(self, run: PlannedRun, callback: PruningCallback | None) -> TrialRunResult:
        """Compute a run whose lock is acquired, and measure its time."""
        started = time.time()
        try:
            return self._execute_with(run, callback)
        finally:
            self.seconds += time.time() - started

    def _execute_with(self, run: PlannedRun, callback: PruningCallback | None) -> TrialRunResult:
        import torch

        from experiments.running.execute import execute

        context = self.context
        if callback is not None:
            if callback.reason:
                return TrialRunResult("pruned", callback.reason)
            context = replace(context, milestones=callback.at, should_prune=callback)
        torch.set_num_threads(self.threads)
        outcome = execute(run, self.store, context)
        if callback is not None:
            callback.raise_storage_error()
            if callback.reason and outcome.state == "preempted":
                return TrialRunResult("pruned", callback.reason)
        return TrialRunResult(outcome.state, outcome.message, outcome.environment_failure)
