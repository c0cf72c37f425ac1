"""Runs a plan on this machine: worker processes that take whatever is ready, and a display of what they do.

Workers agree through the runs' locks and states alone, so a second command on the same plan joins in instead of repeating."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from experiments.planning.plan import PlannedRun
from experiments.planning.schema import STAGES
from results import provenance
from results.store import State, Store

if TYPE_CHECKING:
    from core.training.loop import RunContext

EXIT_STATE_NOT_WRITTEN = 3  # a worker's exit code


@dataclass(frozen=True)
class Options:
    """How a command computes its runs; no part of any run's identity."""

    jobs: int
    threads: int  # of each job
    device: str
    num_workers: int
    micro_batch: int | None
    checkpoint_seconds: float

    @classmethod
    def of(cls, arguments: argparse.Namespace, device: str, jobs: int) -> "Options":
        """As the command line has it, for so many jobs at a time."""
        on_cpu, every = device == "cpu", arguments.checkpoint_minutes
        return cls(
            jobs=jobs,
            threads=max(1, provenance.cores() // jobs),
            device=device,
            num_workers=arguments.num_workers
            if arguments.num_workers is not None
            else (0 if on_cpu else 8),
            micro_batch=arguments.micro_batch,
            checkpoint_seconds=60 if every is None else 60 * every,
        )

    def run_context(self, should_stop: Callable[[], bool]) -> "RunContext":
        """As the stages are told."""
        import torch

        from core.training.loop import RunContext

        return RunContext(
            device=torch.device(self.device),
            micro_batch=self.micro_batch,
            num_workers=self.num_workers,
            checkpoint_seconds=self.checkpoint_seconds,
            should_stop=should_stop,
        )


def is_settled(run: PlannedRun, store: Store, started: float, lost: set[str]) -> bool:
    """Whether nothing is left to do for a run in this command: complete, failed since it began, or without its inputs."""
    state = store.run(run.id).state()
    if state.name == "complete":
        return True
    failed = run.id in lost or (state.name == "failed" and state.updated >= started)
    if failed or lost.intersection(run.inputs.values()):
        lost.add(run.id)
        return True
    return False


def stop_with(parent: int) -> Callable[[], bool]:
    """Of a worker process: whether it is to stop, by SIGTERM or for its parent is gone; Ctrl-C is the parent's to pass on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    return lambda: bool(asked) or os.getppid() != parent


def work(
    runs: list[PlannedRun], store: Store, options: Options, started: float, parent: int
) -> None:
    """Take runs until none is left. Stops, with a checkpoint, on SIGTERM or when the parent process is gone.

    Exits with EXIT_STATE_NOT_WRITTEN if a run's end could not be written into its folder."""
    should_stop = stop_with(parent)
    import torch

    from experiments.running.execute import Outcome, execute

    provenance.commit()  # of the code as it was imported, whatever is edited while it runs
    context = options.run_context(should_stop)
    runs = sorted(
        runs, key=lambda run: STAGES.index(run.stage)
    )  # earlier stages first: others wait for them
    lost: set[str] = set()
    untold = False
    while not should_stop():
        open_runs = [run for run in runs if not is_settled(run, store, started, lost)]
        if not open_runs:
            break
        for run in open_runs:
            if not all(
                name.startswith("file:") or store.run(name).state().name == "complete"
                for name in run.inputs.values()
            ):
                continue
            try:
                with store.run(run.id).lock() as free:
                    if not free or is_settled(run, store, started, lost):
                        continue
                    torch.set_num_threads(options.threads)
                    outcome = execute(run, store, context)
            except OSError as error:  # the lock's own file cannot be made
                outcome = Outcome("failed", f"{error.filename}: {error.strerror}", told=False)
            if not outcome.told:
                print(f"{run.id} {outcome.state}: {outcome.message}", file=sys.stderr)
                lost.add(run.id)
                untold = True
            break
        else:
            time.sleep(0.3)
    sys.exit(EXIT_STATE_NOT_WRITTEN if untold else 0)


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into an orderly stop of the workers, the second into an immediate one."""

    def __init__(self, workers: list[BaseProcess]) -> None:
        self.workers, self.asked = workers, 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        for worker in self.workers:
            if worker.is_alive():
                worker.terminate() if self.asked == 1 else worker.kill()
        if self.asked == 1:
            print("\nstopping: runs write their checkpoints (again: at once) ...", file=sys.stderr)


@dataclass(frozen=True)
class LaunchResult:
    """How a command ended: interrupted by the user, unable to write its runs' states, or with its jobs left to themselves."""

    interrupted: bool = False
    unwritable: bool = False
    left: bool = False


def launch(
    runs: Iterable[PlannedRun], store: Store, options: Options, console: Console
) -> LaunchResult:
    """Compute the runs that are not complete."""
    runs = list(runs)
    watch = Watch(runs, console)

    def look() -> None:
        watch.update({run.id: store.run(run.id).state() for run in runs})

    with watch.live:
        return supervise(work, (runs, store, options, time.time()), options.jobs, look)


def supervise(
    target: Callable[..., None], arguments: tuple[Any, ...], jobs: int, look: Callable[[], None]
) -> LaunchResult:
    """Run `target(*arguments, parent)` in so many processes until all have ended; `look` is called meanwhile and at the end."""
    context = get_context("spawn")
    workers: list[BaseProcess] = [
        context.Process(target=target, args=(*arguments, os.getpid())) for _ in range(jobs)
    ]
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # inherited: Ctrl-C is this process's to pass on, from their first moment
    for worker in workers:
        worker.start()
    interrupt = Interrupt(workers)
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.2)
        look()
    look()
    return LaunchResult(
        bool(interrupt.asked), any(worker.exitcode == EXIT_STATE_NOT_WRITTEN for worker in workers)
    )


class Watch:
    """What the runs are doing: a live table in a terminal, lines elsewhere."""

    def __init__(self, runs: list[PlannedRun], console: Console) -> None:
        self.runs, self.console = runs, console
        self.live = (
            Live(console=console, auto_refresh=False, transient=True)
            if console.is_terminal
            else _NoLive()
        )
        self.last: dict[str, str] = {}
        self.told = {run.id: 0.0 for run in runs}

    def update(self, states: Mapping[str, State]) -> None:
        """Show how the runs stand now."""
        for run in self.runs:
            state = states[run.id]
            changed = self.last.get(run.id, "planned") != state.name and (
                state.updated > 0 or state.name == "queued"
            )
            due = (
                state.name == "running"
                and not self.console.is_terminal
                and time.monotonic() - self.told[run.id] > 30
            )
            if changed or due:
                self._tell(run, state)
            self.last[run.id] = state.name
        if isinstance(self.live, Live):
            self.live.update(self._table(states), refresh=True)

    def _tell(self, run: PlannedRun, state: State) -> None:
        self.told[run.id] = time.monotonic()
        clock = time.strftime("%H:%M:%S")
        self.console.print(
            f"{clock} {state.name:9} {run.id}  {run.rows[0]}  {progress_text(state)}",
            highlight=False,
            markup=False,
        )

    def _table(self, states: Mapping[str, State]) -> Table:
        table = Table(box=None, show_header=False)
        for run in self.runs:
            state = states[run.id]
            if state.name == "running":
                bar = "━" * round(24 * state.done / max(state.total, 1))
                table.add_row(run.id, run.rows[0], f"{bar:╌<24}", progress_text(state))
        done = sum(state.name == "complete" for state in states.values())
        table.add_row(f"{done} of {len(self.runs)} runs complete")
        return table


class _NoLive:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def progress_text(state: State) -> str:
    """How far a run is, how fast, how long still; or what it says."""
    if not state.total or state.name != "running":
        return state.message
    left = duration(state.seconds_left)
    text = f"{state.done}/{state.total} {state.unit}, {state.images_per_second:.0f} images/s, {left} left"
    return f"{text} ({state.message})" if state.message else text


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some: 03:07, 01:03:07, 51:03:07."""
    hours, rest = divmod(int(seconds), 3600)
    minutes = f"{rest // 60:02}:{rest % 60:02}"
    return f"{hours:02}:{minutes}" if hours else minutes
