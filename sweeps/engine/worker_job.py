"""The submitit job of a sweep's worker."""

import signal
import time
from pathlib import Path

from core.runtime.artifacts import CHECKPOINT
from core.runtime.errors import UserError
from experiments.running.options import ComputeOptions
from experiments.slurm.job import (
    SIGNAL,
    ClusterJob,
    JobLimits,
    RunFailed,
    SignalFlags,
    checkpoint_steps,
    device_of_job,
    requeue,
)
from results.store import Store
from sweeps.engine.search import Search
from sweeps.engine.trials import Trials
from sweeps.engine.worker import WorkerProgress, run_trials


class WorkerJob(ClusterJob):
    """A worker on a cluster. After a requeue it continues an open trial that has no worker."""

    def __init__(
        self,
        search: Search,
        results: Path,
        url: str | None,
        options: ComputeOptions,
        limits: JobLimits,
        since: float,
    ) -> None:
        """Args:

        search: the sweep.
        results: the results folder.
        url: Optuna's storage; None: the journal.
        options: how the job computes, resolved for a job.
        limits: the limits of the job.
        since: failures after this time (seconds since 1970) count.
        """
        super().__init__(results, options, limits)
        self.search = search
        self.url = url
        self.since = since

    def __call__(self) -> str:
        """Compute trials until none is left, or request a requeue after a warning signal.

        Raises RunFailed for what the user has to fix.
        """
        flags = self.begin()
        started = time.time()
        store = Store(self.results)
        steps = self._checkpoint_steps(store)
        try:
            context = self.run_context(device_of_job(self.options.device), flags)
            trials = Trials(self.search, store, self.url)
            progress = run_trials(
                trials, context, self.since, threads=self.options.threads, wait_for_others=False
            )
            if flags.to_stop and not trials.is_over(trials.all()):
                seconds = time.time() - started
                self._requeue(flags, self._has_progressed(store, progress, steps), seconds)
        except UserError as reason:
            raise RunFailed(str(reason)) from reason
        finally:
            # From here on the signal would kill the interpreter while it ends.
            signal.signal(SIGNAL, signal.SIG_IGN)
        return f"{progress.finished} trials"

    def _checkpoint_steps(self, store: Store) -> dict[str, int]:
        """Run -> the training steps in its checkpoint."""
        files = (self.results / "runs").glob(f"*/{CHECKPOINT}")
        return {file.parent.name: checkpoint_steps(store.run(file.parent.name)) for file in files}

    def _has_progressed(
        self, store: Store, progress: WorkerProgress, steps: dict[str, int]
    ) -> bool:
        """Whether a trial was finished or the current run's checkpoint has more steps."""
        run = progress.current_run
        if progress.finished or not run:
            return progress.finished > 0
        return checkpoint_steps(store.run(run)) > steps.get(run, 0)

    def _requeue(self, flags: SignalFlags, has_progressed: bool, seconds: float) -> None:
        """Have the job requeued. Raises RunFailed if it was stopped too often without progress.

        flags: the job's signals.
        has_progressed: anything was kept since the job started.
        seconds: time since the job started.
        """
        if self.should_give_up(has_progressed, seconds):
            raise RunFailed(
                f"stopped {self.idle_stops} times in a row without progress; "
                "increase time in the cluster's file (stages: {sweep: ...})"
            )
        requeue(flags, self.limits.warning_seconds)
