"""The trials of a sweep: their states, and how workers claim, continue and finish them.

Optuna's storage keeps values and final states. A file lock for each trial shows whether it has a
worker. A trial is open from its creation until it is complete, pruned or failed. If the worker of
an open trial has ended (its lock is free), the next worker continues the trial before it creates a
new one. So no trial is lost or counted twice, and the total is exact for any number of workers.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from core.runtime.errors import UserError
from results.store import Run, State
from sweeps.engine.samplers import make_sampler
from sweeps.engine.schema import GridConfig
from sweeps.engine.search import Search, recognizer_runs, training_runs
from sweeps.engine.space import TrialValues
from sweeps.engine.sweep_folder import SweepFolder

COUNTED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)  # that count towards the total
SILENCE_SECONDS = 600  # a worker on another host that writes nothing for this long has ended
MIN_ALLOWED_FAILURES = 5
DRAWN = "drawn"  # attribute of trials that have all their values


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial whose lock this process has.

    number: the trial's number.
    values: its values, dotted key -> value or choice.
    study, trial: Optuna's objects, to report and finish it.
    """

    number: int
    values: TrialValues
    study: optuna.Study
    trial: optuna.Trial


class Trials(SweepFolder):
    """The trials of one search in one results folder."""

    def state(self, trial: FrozenTrial) -> State:
        """A trial's state: from the storage if it is finished, otherwise from its worker."""
        if trial.state in COUNTED_STATES:
            return State("complete", updated=_end_time(trial))
        if trial.state == TrialState.FAIL:
            return State("failed", trial.user_attrs.get("reason", ""), updated=_end_time(trial))
        if DRAWN not in trial.user_attrs:
            return State("planned", "its values are being suggested")
        folder = self.trial_folder(trial.number)
        state = folder.state()
        if state.name == "preempted" and self._runs_elsewhere(trial):
            return folder.last_written_state()
        if state.name in ("planned", "complete"):
            return State("preempted", "its worker has ended")
        return state

    def _runs_elsewhere(self, trial: FrozenTrial) -> bool:
        """Whether a worker on another host, whose lock may be invisible here, has the trial."""
        state = self.trial_folder(trial.number).last_written_state()
        is_local = state.process.startswith(f"{os.uname().nodename}:")
        if state.name != "running" or is_local:
            return False
        runs = [self.store.run(run) for run in trial.user_attrs.get("runs", [])]
        updates = [run.last_written_state().updated for run in runs]
        return time.time() - max([state.updated, *updates]) < SILENCE_SECONDS

    def hours(self, trials: list[FrozenTrial]) -> float:
        """The sum of the trials' computing times, without waiting for runs of other trials."""
        seconds: float = sum(trial.user_attrs.get("seconds", 0.0) for trial in trials)
        return seconds / 3600

    def is_over(self, trials: list[FrozenTrial]) -> bool:
        """Whether no trial is open and no other trial will be created."""
        if not all(trial.state.is_finished() for trial in trials):
            return False
        return not self._needs_another(trials, time.time())

    # Claiming

    @contextmanager
    def claim(self, since: float) -> Iterator[ClaimedTrial | None]:
        """Lock a trial for the time of the block.

        Yields an open trial without a worker, or a new trial, or None if there is neither now.

        since: failures after this time (seconds since 1970) count. Raises UserError if they are
            too many.
        """
        with ExitStack() as locks:
            with self.claim_lock():
                claimed = self._claim_open(locks) or self._claim_new(locks, since)
            yield claimed

    def _claim_open(self, locks: ExitStack) -> ClaimedTrial | None:
        """An open trial whose worker has ended."""
        for number in [
            trial.number
            for trial in self.fetch()
            if not trial.state.is_finished() and not self._runs_elsewhere(trial)
        ]:
            if not locks.enter_context(self.trial_folder(number).lock()):
                continue
            trial = self.fetch()[number]  # again: its worker may just have finished it
            if trial.state.is_finished():
                continue
            if DRAWN in trial.user_attrs:
                return self._claimed(trial)
            # Its worker was killed before the trial had all its values.
            claimed = self._suggest_values(trial, locks)
            if claimed is not None:
                return claimed
        return None

    def _claim_new(self, locks: ExitStack, since: float) -> ClaimedTrial | None:
        """A new trial; one whose values no run can have fails, and another is created."""
        while self._needs_another(self.fetch(), since):
            number = self.study().ask().number
            claimed = self._suggest_values(self.fetch()[number], locks)
            if claimed is not None:
                return claimed
        return None

    def _suggest_values(self, trial: FrozenTrial, locks: ExitStack) -> ClaimedTrial | None:
        """Suggest a trial's missing values. None if no run can have them: the trial has failed."""
        number = trial.number
        locks.enter_context(self.trial_folder(number).lock())
        sampler = make_sampler(self.search, number)
        optuna_trial = optuna.Trial(self.study(sampler), trial._trial_id)
        values = self.search.suggest(optuna_trial)
        try:
            plan = self.search.plan(f"trial {number}", values, self.store)
        except UserError as error:
            reason = str(error).removeprefix(f"{self.search.path}: ")
            optuna_trial.set_user_attr("reason", reason)
            self.study().tell(number, state=TrialState.FAIL)
            return None
        recognizers = {str(seed): run for seed, run in recognizer_runs(plan).items()}
        optuna_trial.set_user_attr("runs", [run.id for run in training_runs(plan)])
        optuna_trial.set_user_attr("recognizers", recognizers)
        optuna_trial.set_user_attr(DRAWN, True)
        return self._claimed(self.fetch()[number])

    def _claimed(self, trial: FrozenTrial) -> ClaimedTrial:
        values = {key: trial.params[key] for key in self.search.space if key in trial.params}
        self.trial_folder(trial.number).set_state("running", message="begins")
        study = self.study()  # without the sweep's sampler: the trial has all its values
        # Optuna has no public way to continue a trial of another process.
        return ClaimedTrial(trial.number, values, study, optuna.Trial(study, trial._trial_id))

    def _needs_another(self, trials: list[FrozenTrial], since: float) -> bool:
        """Whether another trial is to be created. Raises UserError after too many failures."""
        sweep = self.search.sweep
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        recent = [trial for trial in failed if _end_time(trial) >= since]
        if len(recent) > max(MIN_ALLOWED_FAILURES, sweep.trials):
            reason = recent[-1].user_attrs.get("reason", "")
            raise UserError(
                f"{self.search.path}: {len(recent)} trials failed, so no more are begun; "
                f"the last reason: {reason}"
            )
        if sweep.budget.hours is not None and self.hours(trials) >= sweep.budget.hours:
            return False
        # A failed trial is replaced, except in a grid, where each point is tried once.
        replaced = 0 if isinstance(sweep.sampler, GridConfig) else len(failed)
        return len(trials) - replaced < sweep.trials

    # The end of trials

    def finish(
        self, claimed: ClaimedTrial, state: TrialState, value: float | None = None, reason: str = ""
    ) -> None:
        """Write how a claimed trial ended.

        claimed: the trial.
        state: COMPLETE, PRUNED or FAIL.
        value: the objective of a complete trial.
        reason: why the trial was pruned or failed.
        """
        if reason:
            claimed.trial.set_user_attr("reason", reason)
        claimed.study.tell(claimed.number, value, state=state)
        folder = self.trial_folder(claimed.number)
        folder.set_state("failed" if state == TrialState.FAIL else "complete", message=reason)

    def delete_pruned_checkpoints(self) -> None:
        """Once the sweep is over, delete the checkpoints of pruned trials.

        A run that another command has continued since keeps its checkpoint.
        """
        with self.claim_lock():
            trials = self.fetch()
            if not self.is_over(trials):
                return
            pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
            runs = {run for trial in pruned for run in trial.user_attrs["recognizers"].values()}
            for run in runs:
                self._delete_checkpoint(self.store.run(run))

    def _delete_checkpoint(self, run: Run) -> None:
        from core.runtime.artifacts import CHECKPOINT

        checkpoint = run.folder / CHECKPOINT
        message = pruning_message(self.search)
        with run.lock() as free:
            if not free or message not in run.last_written_state().message:
                return
            if checkpoint.exists():
                checkpoint.unlink()
                run.set_state("preempted", message=f"{message}; its checkpoint was deleted")


def pruning_message(search: Search) -> str:
    """The message of a run whose trial was pruned."""
    return f"pruned by sweep {search.id}"


def _end_time(trial: FrozenTrial) -> float:
    """Seconds since 1970; 0 for an open trial."""
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0
