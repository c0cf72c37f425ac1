"""Computes a sweep with worker processes of this machine."""

import time

from rich.console import Console

from experiments.running.local import LaunchResult, supervise
from experiments.running.options import ComputeOptions
from sweeps.engine.sweep_display import SweepDisplay
from sweeps.engine.trials import Trials
from sweeps.engine.worker import run_worker


def launch_local(
    trials: Trials, options: ComputeOptions, workers: int, console: Console
) -> LaunchResult:
    """Start workers and wait until the sweep is over.

    trials: the sweep.
    options: resolved for this machine.
    workers: number of processes.
    console: where changes of state are printed.
    """
    arguments = (trials.search, trials.store, trials.url, options, time.time())
    with SweepDisplay(trials, console) as display:
        return supervise(run_worker, [arguments] * workers, display.refresh)
