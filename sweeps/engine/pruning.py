"""Reports a trial's validation accuracies to Optuna, and asks whether to prune the trial."""

from collections.abc import Mapping

import optuna

from results.store import Run
from sweeps.engine.objective import logged_validations, objective_value, validation_metrics
from sweeps.engine.search import Search
from sweeps.engine.storage import STORAGE_ERRORS
from sweeps.engine.trials import pruning_message


class PruningCallback:
    """Called after validations of one fine-tuning run of a trial; returns why to stop it, or "".

    Each validation is reported once, also if the trial is continued by another worker.
    """

    def __init__(
        self, trial: optuna.Trial, search: Search, seed: int, reported_steps: set[int]
    ) -> None:
        """Args:

        trial: the trial.
        search: its sweep, which has a pruner.
        seed: the seed of the run.
        reported_steps: steps that were reported; new steps are added.
        """
        assert search.sweep.pruner is not None
        self.trial = trial
        self.search = search
        self.sweep = search.sweep
        self.seed = seed
        self.reported_steps = reported_steps
        self.at = search.sweep.pruner.at
        self.reason = ""  # why the trial was pruned
        self.storage_error: Exception | None = None

    def __call__(self, share: float, metrics: Mapping[str, float]) -> str:
        """Report the metrics after a share of the fine-tuning."""
        try:
            if self._report(share, metrics) and self.trial.should_prune():
                self.reason = pruning_message(self.search)
                self.trial.set_user_attr("pruned", self.reason)
        except STORAGE_ERRORS as error:
            # The run stops with a checkpoint. It is continued when the storage answers again.
            self.storage_error = error
            return "the sweep's storage does not answer"
        return self.reason

    def raise_storage_error(self) -> None:
        """Raise the storage's error of an earlier call, if there was one."""
        if self.storage_error is not None:
            raise self.storage_error

    def report_logged(self, run: Run, *, may_prune: bool) -> None:
        """Report the validations in a run's log.

        may_prune: the run is not complete, so the trial may be pruned now.
        """
        for share, metrics in logged_validations(run, self.at):
            if may_prune and not self.reason:
                self(share, metrics)
            else:
                self._report(share, metrics)
        self.raise_storage_error()

    def report_final(self, run: Run) -> str:
        """Report a complete run, unless it is the run of the last seed; returns why to prune."""
        if self.seed == self.sweep.seeds[-1]:
            return ""
        reason = self(1.0, validation_metrics(run))
        self.raise_storage_error()
        return reason

    def _report(self, share: float, metrics: Mapping[str, float]) -> bool:
        """Report the metrics unless they were reported before; returns whether they are new."""
        seeds = self.sweep.seeds
        step = round(100 * (seeds.index(self.seed) + share) / len(seeds))
        if step in self.reported_steps:
            return False
        self.trial.report(objective_value(self.sweep, metrics), step)
        self.reported_steps.add(step)
        return True
