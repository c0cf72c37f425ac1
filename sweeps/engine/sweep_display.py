"""The live display of a running sweep: a line for each change of state, and the running trials."""

import time

from rich.console import Console

from core.runtime.errors import UserError
from experiments.running.display import LiveDisplay, duration
from sweeps.engine.status import SweepStatus, TrialStatus, sweep_status
from sweeps.engine.status_text import percent_text, values_text
from sweeps.engine.trials import Trials

REFRESH_SECONDS = 1.0


class SweepDisplay(LiveDisplay):
    """What the trials of a sweep are doing, for the command that computes or submits them."""

    def __init__(self, trials: Trials, console: Console) -> None:
        super().__init__(console, transient=True)
        self.trials = trials
        self.shown_state = {trial.number: trial.state for trial in sweep_status(trials).trials}
        self.refreshed_at = 0.0
        self.started_at = time.monotonic()
        self.finished_here = 0

    def refresh(self) -> None:
        """Show the trials' states, at most once per REFRESH_SECONDS.

        If the storage does not answer, nothing changes: the workers wait for it and report it.
        """
        now = time.monotonic()
        if now - self.refreshed_at < REFRESH_SECONDS:
            return
        self.refreshed_at = now
        try:
            status = sweep_status(self.trials)
        except UserError:
            return
        for trial in status.trials:
            if self.shown_state.get(trial.number) != trial.state:
                self.finished_here += trial.is_counted
                self._print_trial(trial, status)
            self.shown_state[trial.number] = trial.state
        running = [trial for trial in status.trials if trial.state == "running"]
        self.show_table(
            [
                (f"trial {trial.number}", values_text(trial.values), trial.detail)
                for trial in running
            ],
            self._progress(status),
        )

    def _print_trial(self, trial: TrialStatus, status: SweepStatus) -> None:
        self.print_state(
            trial.state,
            f"trial {trial.number:<4}",
            values_text(trial.values),
            percent_text(trial.value),
            "" if trial.state == "running" else trial.detail,
            self._progress(status) if trial.is_counted else "",
        )

    def _progress(self, status: SweepStatus) -> str:
        """Finished trials, and the remaining time at the rate since this command began."""
        rest = status.total - status.counted
        text = f"{status.counted} of {status.total}"
        if not rest or not self.finished_here:
            return text
        seconds = (time.monotonic() - self.started_at) / self.finished_here * rest
        return f"{text}, about {duration(seconds)} left"
