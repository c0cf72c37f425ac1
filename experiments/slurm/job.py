"""What one job of a cluster does: one run, gone on with after every requeue."""

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from submitit.core.job_environment import JobEnvironment
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from core.runtime.errors import UserError
from experiments.planning.plan import PlannedRun
from results import provenance
from results.store import Run, Store

SIGNAL = getattr(
    signal, f"SIG{JobEnvironment.USR_SIG}"
)  # before the time limit, and before preemption
INPUTS_SECONDS = 60  # that another node's files may take to be seen here


class RunFailed(Exception):
    """The run did not complete: the scheduler is to take its job for failed. Its traceback is in the run's folder."""


@dataclass(frozen=True)
class JobOptions:
    """How a job computes its run; no part of the run's identity."""

    device: str
    threads: int
    num_workers: int | None
    micro_batch: int | None
    checkpoint_seconds: float
    warning_seconds: int
    limit_seconds: int  # of the job
    stops: int  # so often in a row a run may be stopped without a checkpoint between


class SignalFlags:
    """Signals that were sent to this job: SIGTERM asks for a checkpoint, for what may come; SIGNAL to stop as well."""

    def __init__(self) -> None:
        self.to_stop = self.to_save = False
        self.requeue: Any = signal.getsignal(
            SIGNAL
        )  # submitit's: it calls `checkpoint` and requeues the job
        signal.signal(SIGNAL, self._stop)
        signal.signal(signal.SIGTERM, self._save)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.to_stop = True

    def _save(self, number: int, frame: FrameType | None) -> None:
        self.to_save = True

    def should_save(self) -> bool:
        """Whether a checkpoint was asked for since the last time this was asked."""
        asked, self.to_save = self.to_save, False
        return asked


class ClusterJob(ABC):
    """What submitit's jobs carry: called on the cluster, and again after each requeue."""

    def __init__(self, results: Path, options: JobOptions) -> None:
        self.results, self.options, self.folder = results.resolve(), options, Path.cwd()
        self.idle_stops = 0

    @abstractmethod
    def __call__(self) -> str:
        """Do the work, or what is left of it. Raises RunFailed; ends by a requeue where the job was warned."""

    def checkpoint(self) -> DelayedSubmission:
        """What is requeued: the same job, whose runs go on from their own checkpoints."""
        return DelayedSubmission(self)

    def begin(self) -> SignalFlags:
        """Listen for signals; go where paths were named from."""
        warned = SignalFlags()
        os.chdir(self.folder)
        provenance.commit()  # of the code as it was imported, whatever is edited while it runs
        return warned

    def should_give_up(self, came_on: bool, seconds: float) -> bool:
        """Whether it was stopped again and again late in its time and never came any further."""
        if came_on:
            self.idle_stops = 0
        elif seconds > 0.5 * (
            self.options.limit_seconds - self.options.warning_seconds
        ):  # else it was preempted early
            self.idle_stops += 1
        return self.idle_stops >= self.options.stops


class RunJob(ClusterJob):
    """One run, gone on with."""

    def __init__(self, run: PlannedRun, results: Path, options: JobOptions) -> None:
        super().__init__(results, options)
        self.run, self.steps = run, 0

    def __call__(self) -> str:
        """Compute the run, or what is left of it. Raises RunFailed; ends by a requeue where the job was warned."""
        warned, started = self.begin(), time.time()
        from experiments.running.execute import end_run, fail_run

        place, leads = (
            Store(self.results).run(self.run.id),
            os.environ.get("SLURM_PROCID", "0") == "0",
        )
        try:
            outcome = self._compute(place, warned)
        except UserError as reason:
            outcome = end_run(place, "failed", str(reason), user_error=True)
        except Exception:
            outcome = fail_run(place, started, warned.to_stop)
        if leads:
            outcome = self._count_stop(outcome, place, time.time() - started)
            if outcome.state == "preempted":
                requeue(warned, self.options.warning_seconds)
        signal.signal(
            SIGNAL, signal.SIG_IGN
        )  # from here on it would kill the interpreter that ends
        if outcome.state == "failed":
            raise RunFailed(f"{self.run.id}: {outcome.message}")
        return outcome.state

    def _compute(self, place: Run, warned: SignalFlags) -> Any:
        import torch

        from core.runtime.distributed import join_process_group
        from experiments.running.execute import Outcome, execute, hold

        export_rank_variables()
        device = device_of_job(self.options.device)
        torch.set_num_threads(self.options.threads)
        store, self.steps = Store(self.results), kept_steps(place)
        with join_process_group(device) as team:
            context = replace(job_context(self.options, device, warned), process_group=team)
            with hold(place, context.should_stop) if team.is_main else nullcontext("") as mine:
                begin = team.gather(mine)[0]
                if begin != "open":
                    return Outcome(begin, "stopped before it began")
                _wait_for_inputs(self.run, store)
                return execute(self.run, store, context)

    def _count_stop(self, outcome: Any, place: Run, seconds: float) -> Any:
        """The outcome; failed where the run was stopped again and again late in its time and never came any further."""
        if outcome.state != "preempted":
            return outcome
        if not self.should_give_up(kept_steps(place) > self.steps, seconds):
            return outcome
        message = f"stopped {self.idle_stops} times in a row before anything was kept; raise time in the cluster's file"
        place.set_state("failed", message=message, user_error=True)
        return replace(outcome, state="failed", message=message)


def export_rank_variables() -> None:
    """Let PyTorch know the processes of this job, whatever the command that submitted it was told of others."""
    for name in (
        "MASTER_ADDR",
        "MASTER_PORT",
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
    ):
        os.environ.pop(name, None)
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def kept_steps(place: Run) -> int:
    """How many steps of training a run's checkpoint holds."""
    from core.runtime.artefacts import CHECKPOINT
    from core.runtime.safetensors_io import read_metadata

    return int(read_metadata(place.folder / CHECKPOINT).get("step", 0))


def device_of_job(wanted: str) -> Any:
    """This process's device: with several GPUs in sight, that of its place on the node."""
    import torch

    from experiments.planning.device import find_device

    name = find_device(wanted)
    if (
        name == "cpu" != wanted
        and os.environ.get("CUDA_VISIBLE_DEVICES")
        and list(Path("/dev").glob("nvidia[0-9]*"))
    ):
        raise UserError(
            "PyTorch sees none of the GPUs of this job: install its CUDA build, or say --device cpu"
        )
    if name != "cuda":
        return torch.device(name)
    device = torch.device(
        "cuda", int(os.environ.get("SLURM_LOCALID", "0")) % torch.cuda.device_count()
    )
    torch.cuda.set_device(device)
    return device


def job_context(options: JobOptions, device: Any, warned: SignalFlags) -> Any:
    """As the stages are told; it heeds the signals that were sent to the job."""
    from core.training.loop import RunContext

    return RunContext(
        device=device,
        micro_batch=options.micro_batch,
        num_workers=_readers(options, device),
        checkpoint_seconds=options.checkpoint_seconds,
        should_stop=lambda: warned.to_stop,
        should_save=warned.should_save,
    )


def _readers(options: JobOptions, device: Any) -> int:
    if options.num_workers is not None:
        return options.num_workers
    return 0 if device.type == "cpu" else max(1, options.threads - 1)


def _wait_for_inputs(run: PlannedRun, store: Store) -> None:
    """Let another node's files come into sight; `execute` tells it if they do not."""
    deadline = time.monotonic() + INPUTS_SECONDS
    while run.waiting_for(store) and time.monotonic() < deadline:
        time.sleep(1)


def requeue(warned: SignalFlags, seconds: int) -> None:
    """Have submitit requeue the job; again, while the controller does not answer. Ends the process."""
    deadline = time.monotonic() + 0.8 * seconds
    while True:
        try:
            warned.requeue(SIGNAL, None)
            return
        except subprocess.SubprocessError as error:
            if time.monotonic() > deadline:
                raise
            print(f"not requeued yet: {error}", file=sys.stderr)
            time.sleep(2)
