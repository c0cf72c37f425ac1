"""The submitit job: computes one run and resumes it after each requeue."""

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from submitit.core.job_environment import JobEnvironment
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from core.runtime.errors import UserError
from experiments.planning.plan import PlannedRun
from experiments.running.options import ComputeOptions
from results import provenance
from results.store import Run, Store

if TYPE_CHECKING:
    import torch

    from core.training.run_context import RunContext
    from experiments.running.execute import Outcome

# SLURM sends it before the time limit and before preemption.
SIGNAL: signal.Signals = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
INPUTS_SECONDS = 60  # time that files of another node may take to become visible
RANK_VARIABLES = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
)


class RunFailed(Exception):
    """The run failed, so the scheduler must count its job as failed."""


@dataclass(frozen=True)
class JobLimits:
    """The limits of a job, from the cluster's file.

    warning_seconds: time between SIGNAL and the end of the job.
    limit_seconds: time limit of the job.
    max_idle_stops: a run fails after this many stops in a row without a new checkpoint."""

    warning_seconds: int
    limit_seconds: int
    max_idle_stops: int


class SignalFlags:
    """The signals that a job received: SIGTERM requests a checkpoint, SIGNAL also a stop."""

    def __init__(self) -> None:
        self.to_stop = False
        self.to_save = False
        # submitit's handler: it calls `checkpoint` and requeues the job.
        self.requeue: Any = signal.getsignal(SIGNAL)
        signal.signal(SIGNAL, self._stop)
        signal.signal(signal.SIGTERM, self._save)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.to_stop = True

    def _save(self, number: int, frame: FrameType | None) -> None:
        self.to_save = True

    def should_stop(self) -> bool:
        """Whether the job must stop."""
        return self.to_stop

    def should_save(self) -> bool:
        """Whether a checkpoint was requested since the last call."""
        requested = self.to_save
        self.to_save = False
        return requested


class ClusterJob(ABC):
    """A job that submitit pickles, calls on the cluster, and calls again after each requeue.

    results: the results folder.
    options: how the job computes, resolved for a job (`ComputeOptions.in_job`).
    limits: the limits of the job."""

    def __init__(self, results: Path, options: ComputeOptions, limits: JobLimits) -> None:
        self.results = results.resolve()
        self.options = options
        self.limits = limits
        self.folder = Path.cwd()
        self.idle_stops = 0

    @abstractmethod
    def __call__(self) -> str:
        """Do the remaining work, or requeue the job if SLURM sent SIGNAL. Raises RunFailed."""

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues: this job, whose runs resume from their checkpoints."""
        return DelayedSubmission(self)

    def begin(self) -> SignalFlags:
        """Install the signal handlers and go to the folder that relative paths refer to."""
        flags = SignalFlags()
        os.chdir(self.folder)
        provenance.commit()  # before somebody edits the code that this process has imported
        return flags

    def run_context(self, device: "torch.device", flags: SignalFlags) -> "RunContext":
        """The context that the job's stages compute in; it reacts to the job's signals."""
        return self.options.run_context(device, flags.should_stop, flags.should_save)

    def should_give_up(self, progressed: bool, seconds: float) -> bool:
        """Count a stop; returns whether the job was stopped too often without progress.

        A stop in the first half of the job's time is a preemption and does not count.

        progressed: a checkpoint was written since the job started.
        seconds: time since the job started."""
        if progressed:
            self.idle_stops = 0
        elif seconds > 0.5 * (self.limits.limit_seconds - self.limits.warning_seconds):
            self.idle_stops += 1
        return self.idle_stops >= self.limits.max_idle_stops


class RunJob(ClusterJob):
    """The job of one run."""

    def __init__(
        self, run: PlannedRun, results: Path, options: ComputeOptions, limits: JobLimits
    ) -> None:
        super().__init__(results, options, limits)
        self.run = run
        self.steps = 0  # in the run's checkpoint when the job started

    def __call__(self) -> str:
        """Compute the run or what remains of it; returns its state.

        Requeues the job if SLURM sent SIGNAL. Raises RunFailed."""
        flags = self.begin()
        started = time.time()
        from experiments.running.execute import end_run, fail_run

        folder = Store(self.results).run(self.run.id)
        is_main = os.environ.get("SLURM_PROCID", "0") == "0"
        try:
            outcome = self._compute(folder, flags)
        except UserError as reason:
            outcome = end_run(folder, "failed", str(reason), user_error=True)
        except Exception:
            outcome = fail_run(folder, started, flags.to_stop)
        if is_main:
            outcome = self._count_stop(outcome, folder, time.time() - started)
            if outcome.state == "preempted":
                requeue(flags, self.limits.warning_seconds)
        signal.signal(SIGNAL, signal.SIG_IGN)  # it would kill the interpreter while it exits
        if outcome.state == "failed":
            raise RunFailed(f"{self.run.id}: {outcome.message}")
        return outcome.state

    def _compute(self, folder: Run, flags: SignalFlags) -> "Outcome":
        import torch

        from core.runtime.distributed import join_process_group
        from experiments.running.execute import LockState, Outcome, acquire, execute

        export_rank_variables()
        device = device_of_job(self.options.device)
        torch.set_num_threads(self.options.threads)
        store = Store(self.results)
        self.steps = checkpoint_steps(folder)
        with join_process_group(device) as group:
            context = replace(self.run_context(device, flags), process_group=group)
            lock: AbstractContextManager[LockState] = nullcontext("open")
            if group.is_main:
                lock = acquire(folder, flags.should_stop)
            with lock as lock_state:
                state: LockState = group.all_gather(lock_state)[0]
                if state != "open":
                    return Outcome(state, "stopped before it started")
                _wait_for_inputs(self.run, store)
                return execute(self.run, store, context)

    def _count_stop(self, outcome: "Outcome", folder: Run, seconds: float) -> "Outcome":
        """The outcome; "failed" if the job was stopped too often without progress."""
        if outcome.state != "preempted":
            return outcome
        progressed = checkpoint_steps(folder) > self.steps
        if not self.should_give_up(progressed, seconds):
            return outcome
        message = (
            f"stopped {self.idle_stops} times in a row without a new checkpoint; "
            "increase time in the cluster's file"
        )
        folder.set_state("failed", message=message, user_error=True)
        return replace(outcome, state="failed", message=message)


def export_rank_variables() -> None:
    """Set PyTorch's rank variables for the processes of this job.

    Variables that the submitting command inherited from another launcher are removed."""
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def checkpoint_steps(run: Run) -> int:
    """The training steps in a run's checkpoint; 0 without a checkpoint."""
    from core.runtime.artifacts import CHECKPOINT
    from core.runtime.safetensors_io import read_metadata

    return int(read_metadata(run.folder / CHECKPOINT).get("step", 0))


def device_of_job(wanted: str) -> "torch.device":
    """This process's device; with several visible GPUs, the one of its local rank.

    Raises UserError if the job has GPUs that PyTorch cannot use."""
    import torch

    from experiments.planning.device import find_device

    name = find_device(wanted)
    has_gpus = os.environ.get("CUDA_VISIBLE_DEVICES") and list(Path("/dev").glob("nvidia[0-9]*"))
    if name == "cpu" != wanted and has_gpus:
        raise UserError(
            "PyTorch cannot use the GPUs of this job: install its CUDA build, or use --device cpu"
        )
    if name != "cuda":
        return torch.device(name)
    local_rank = int(os.environ.get("SLURM_LOCALID", "0"))
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _wait_for_inputs(run: PlannedRun, store: Store) -> None:
    """Wait until files of another node are visible; `execute` reports what stays absent."""
    deadline = time.monotonic() + INPUTS_SECONDS
    while run.waiting_for(store) and time.monotonic() < deadline:
        time.sleep(1)


def requeue(flags: SignalFlags, seconds: int) -> None:
    """Let submitit requeue the job, and end this process. Repeats if SLURM does not answer.

    seconds: time until SLURM kills the job."""
    deadline = time.monotonic() + 0.8 * seconds
    while True:
        try:
            flags.requeue(SIGNAL, None)
            return
        except subprocess.SubprocessError as error:
            if time.monotonic() > deadline:
                raise
            print(f"requeue failed, trying again: {error}", file=sys.stderr)
            time.sleep(2)
