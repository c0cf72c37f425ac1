"""Computes one run whose lock is acquired, and writes its states, its record and its traceback."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch

from core.runtime.artifacts import CHECKPOINT
from core.runtime.errors import DiskError, UserError
from core.runtime.files import USER_FIXABLE_ERRORS, folder_bytes, write_text
from core.runtime.peak_memory import PeakMemory
from core.training.loop import NonFiniteLoss
from core.training.run_context import Interrupted, RunContext, RunProgress
from experiments.planning.plan import PlannedRun
from experiments.running.capacity import check_run
from experiments.running.run_stage import run_stage
from results import provenance
from results.store import Run, StateName, Store

REPORT_SECONDS = 1.0  # least time between two writes of a running run's state
TRACEBACK = "traceback.txt"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
LockState = Literal["open", "complete", "preempted"]


@contextmanager
def acquire(run: Run, should_stop: Callable[[], bool]) -> Iterator[LockState]:
    """Acquire a run's lock; waits while another process computes the run.

    Yields "open" if this process may compute the run, "complete" if the other process completed
    it, "preempted" if `should_stop` became true while waiting."""
    while not should_stop():
        with run.lock() as free:
            if free:
                yield "complete" if run.last_written_state().name == "complete" else "open"
                return
        time.sleep(0.5)
    yield "preempted"


@dataclass(frozen=True)
class Outcome:
    """How the computation of a run ended.

    state: complete, failed or preempted.
    message: why the run is not complete.
    state_written: the state could be written into the run's folder.
    environment_failure: the machine failed (e.g. a full disk), not the run."""

    state: StateName
    message: str = ""
    state_written: bool = True
    environment_failure: bool = False


def execute(run: PlannedRun, store: Store, context: RunContext) -> Outcome:
    """Compute a run whose lock is acquired. Writes states, record and traceback; raises nothing.

    With several processes, the main process writes; the others only compute."""
    folder = store.run(run.id)
    if not context.process_group.is_main:
        return _execute_other_rank(run, store, context)
    started = time.time()
    try:
        return _execute_main(
            run, store, replace(context, on_progress=ProgressWriter(folder, str(context.device)))
        )
    except Interrupted as reason:
        return end_run(folder, "preempted", str(reason))
    except DiskError as reason:
        outcome = end_run(folder, "failed", str(reason), user_error=True)
        return replace(outcome, environment_failure=True)
    except (UserError, NonFiniteLoss) as reason:
        return end_run(folder, "failed", str(reason), user_error=isinstance(reason, UserError))
    except OSError as reason:
        if reason.errno not in USER_FIXABLE_ERRORS:
            return fail_run(folder, started, context.should_stop())
        message = (
            f"{folder.folder}: {reason.strerror}; free some space or choose another folder "
            "with --results, then run the same command again to resume"
        )
        outcome = end_run(folder, "failed", message, user_error=True)
        return replace(outcome, environment_failure=True)
    except Exception:
        return fail_run(folder, started, context.should_stop())


def _execute_main(run: PlannedRun, store: Store, context: RunContext) -> Outcome:
    folder = store.run(run.id)
    started = time.time()
    folder.set_state("running", device=str(context.device))
    for leftover in folder.folder.glob(".*.tmp"):  # of a process that was killed while writing
        leftover.unlink()
    (folder.folder / TRACEBACK).unlink(missing_ok=True)
    folder.write_json("config.json", run.as_json())
    if unmet := run.unmet_requirements():
        raise UserError(f"{unmet[0]}; the run needs these data")
    for name, state in run.waiting_for(store).items():
        raise UserError(f"its input {name} is not complete ({state.name})")
    check_run(
        run,
        store,
        str(context.device),
        micro_batch=context.micro_batch,
        processes=context.process_group.size,
    )
    with PeakMemory(context.device) as memory:
        metrics = run_stage(run, store, folder.folder, context)
    space = measured_space(folder, memory)
    folder.write_json("record.json", make_record(run, metrics, context, started) | space)
    folder.set_state("complete")
    (folder.folder / CHECKPOINT).unlink(missing_ok=True)
    return Outcome("complete")


def _never() -> bool:
    return False


def _execute_other_rank(run: PlannedRun, store: Store, context: RunContext) -> Outcome:
    """The part of a process that is not the main process.

    The main process decides when to stop, and writes the errors that all processes raise."""
    folder = store.run(run.id)
    started = time.time()
    following = replace(context, should_stop=_never, should_save=_never)
    try:
        run_stage(run, store, folder.folder, following)
        return Outcome("complete")
    except Interrupted as reason:
        return Outcome("preempted", str(reason))
    except (UserError, NonFiniteLoss) as reason:
        return Outcome("failed", str(reason))
    except Exception:
        return Outcome("preempted") if context.should_stop() else fail_run(folder, started)


def fail_run(run: Run, started: float, stopping: bool = False) -> Outcome:
    """Write that the run failed by the exception that is being handled.

    run: the run's folder.
    started: when this process started the run (seconds since 1970).
    stopping: the run was asked to stop; it is then preempted, because the exception may come
        from another process of the run that stopped first."""
    if stopping:
        return end_run(run, "preempted", "stopped; it resumes from its last checkpoint")
    state = run.last_written_state()
    if state.name == "failed" and state.updated > started:
        # Another process of the run failed first and caused this exception.
        return Outcome("failed", state.message)
    last_line = traceback.format_exc().strip().splitlines()[-1]
    return end_run(run, "failed", f"{last_line} (traceback in {run.folder / TRACEBACK})")


def end_run(run: Run, state: StateName, message: str, *, user_error: bool = False) -> Outcome:
    """Write the final state of a run, and its traceback if it failed.

    run: the run's folder.
    state: failed or preempted.
    message: why the run is not complete.
    user_error: the user can fix the reason."""
    try:
        run.set_state(state, message=message, user_error=user_error)
    except OSError:
        # E.g. a full disk. The lock is released all the same, so the run does not count as running.
        return Outcome(state, message, state_written=False)
    if state == "failed":
        with suppress(OSError):  # a full disk: the state contains the message
            write_text(run.folder / TRACEBACK, traceback.format_exc())
    return Outcome(state, message)


class ProgressWriter:
    """Writes a run's progress into its state.json, at most once per REPORT_SECONDS."""

    def __init__(self, run: Run, device: str) -> None:
        """run: its folder. device: that computes it."""
        self.run = run
        self.device = device
        self.written_at = 0.0

    def __call__(self, progress: RunProgress) -> None:
        now = time.monotonic()
        if now - self.written_at < REPORT_SECONDS:
            return
        self.written_at = now
        self.run.set_state(
            "running",
            message=progress.note,
            device=self.device,
            done=progress.done,
            total=progress.total,
            unit=progress.unit,
            images_per_second=progress.images_per_second,
            seconds_left=progress.seconds_left,
        )


def make_record(
    run: PlannedRun, metrics: dict[str, object], context: RunContext, started: float
) -> dict[str, object]:
    """The content of record.json. `results/README.md` lists its fields.

    run: the run.
    metrics: what its stage returned.
    context: how it was computed.
    started: when its last part started (seconds since 1970)."""
    accelerator = None
    if context.device.type == "cuda":
        accelerator = torch.cuda.get_device_name(context.device)
    processes = {"threads": torch.get_num_threads(), "processes": context.process_group.size}
    return run.as_json() | {
        "seed": getattr(run.config, "seed", None),
        "metrics": metrics,
        "code": provenance.commit(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(accelerator) | processes,
        "started": time.strftime(TIME_FORMAT, time.gmtime(started)),
        "ended": time.strftime(TIME_FORMAT, time.gmtime()),
        "seconds": round(time.time() - started, 3),
    }


def measured_space(run: Run, memory: PeakMemory) -> dict[str, int | None]:
    """The fields of record.json on memory and disk space. `results/README.md` explains them.

    run: the folder of a run that has written everything but its record.
    memory: measured while its stage ran."""
    checkpoint = run.folder / CHECKPOINT  # it is removed after the record is written
    removed = checkpoint.stat().st_size if checkpoint.exists() else 0
    return {
        "peak_own_memory_bytes": memory.own_bytes(),
        "peak_gpu_memory_bytes": memory.gpu_bytes(),
        "disk_bytes": folder_bytes(run.folder) - removed,
    }
