"""The options of a command that computes runs: device, processes, checkpoints, launcher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.runtime.errors import UserError
from core.runtime.processes import cores

if TYPE_CHECKING:
    import torch

    from core.training.run_context import RunContext

GPU_NUM_WORKERS = 8  # default of --num-workers on a GPU of this machine


def _never() -> bool:
    return False


@dataclass(frozen=True)
class ComputeOptions:
    """How runs are computed. Nothing here is part of a run's identity.

    device: auto, cpu, cuda, cuda:1, ...
    launcher: "local" computes on this machine, "slurm" in jobs of a cluster.
    jobs: runs (of a sweep: trials) at a time. None: the launcher's default.
    threads: CPU threads of each run.
    num_workers: processes that decode images, per run. None: the launcher's default.
    micro_batch: images per forward pass; gradients accumulate. None: the whole batch.
    checkpoint_seconds: time between checkpoints.
    compile: compile the encoder's blocks with torch.compile; has an effect on CUDA only.
    cluster: file that says what jobs request (slurm). None: experiments/settings/cluster.yaml.
    dry_run: print what would be computed or submitted, and do nothing.
    wait: wait for the submitted jobs (slurm).
    gpus: ids of the GPUs of this machine that runs get one of, or "all". None: those of `device`.
    processes: processes of this machine that each run is divided over."""

    device: str = "auto"
    launcher: Literal["local", "slurm"] = "local"
    jobs: int | None = None
    threads: int = 1
    num_workers: int | None = None
    micro_batch: int | None = None
    checkpoint_seconds: float = 60.0
    compile: bool = False
    cluster: Path | None = None
    dry_run: bool = False
    wait: bool = True
    gpus: tuple[int, ...] | Literal["all"] | None = None
    processes: int = 1

    def on_this_machine(self, device: str, jobs: int) -> "ComputeOptions":
        """These options, resolved for `jobs` runs at a time on this machine.

        device: as `find_device` returns it."""
        num_workers = self.num_workers
        if num_workers is None:
            num_workers = 0 if device == "cpu" else GPU_NUM_WORKERS
        threads = max(1, cores() // (jobs * self.processes))
        return replace(self, device=device, jobs=jobs, threads=threads, num_workers=num_workers)

    def devices(self, gpus: Sequence[int]) -> list[tuple[str, ...]]:
        """For each worker the devices of its processes. `device` and `jobs` are resolved.

        gpus: ids of the GPUs that runs get; () for `device` alone.

        Raises UserError if a run has more processes than there are GPUs."""
        jobs = self.jobs or 1
        if not gpus:
            if self.processes > 1 and self.device.startswith("cuda"):
                raise UserError(
                    f"--processes {self.processes}: on GPUs, name one for each process with --gpus"
                )
            return [(self.device,) * self.processes] * jobs
        if self.processes > len(gpus):
            raise UserError(
                f"--processes {self.processes}: each process of a run needs a GPU, and --gpus "
                f"names {len(gpus)}; name more GPUs or use fewer processes"
            )
        groups = [
            tuple(f"cuda:{gpu}" for gpu in gpus[start : start + self.processes])
            for start in range(0, len(gpus) - self.processes + 1, self.processes)
        ]
        return groups[:jobs]

    def in_job(self, threads: int) -> "ComputeOptions":
        """These options, resolved for a job of a cluster that has `threads` cores."""
        return replace(self, threads=threads)

    def run_context(
        self,
        device: "torch.device",
        should_stop: Callable[[], bool],
        should_save: Callable[[], bool] = _never,
    ) -> "RunContext":
        """The context that stages compute in.

        device: the device of this process.
        should_stop: whether to save a checkpoint and stop.
        should_save: whether to save a checkpoint and continue."""
        from core.training.run_context import RunContext

        num_workers = self.num_workers
        if num_workers is None:
            num_workers = 0 if device.type == "cpu" else max(1, self.threads - 1)
        return RunContext(
            device=device,
            micro_batch=self.micro_batch,
            num_workers=num_workers,
            checkpoint_seconds=self.checkpoint_seconds,
            compile=self.compile,
            should_stop=should_stop,
            should_save=should_save,
        )
