"""Process groups: several processes that compute one run together.

All processes take the same steps with the same seeds. Each process computes its slice of every
batch. DistributedDataParallel averages the gradients (NCCL between GPUs, gloo between CPUs). Counts
and predictions are exchanged between CPUs with gloo.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from core.runtime.errors import UserError
from core.runtime.seeds import chunk_size

Value = TypeVar("Value")

# One process may wait for the run's lock or render synthetic words while the others wait for it.
TIMEOUT = timedelta(days=1)
LOCAL_ADDRESS = "127.0.0.1"


class _AllReduceSum(torch.autograd.Function):
    """A tensor summed over all processes. Its gradient is summed over all processes, too."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run as this process sees them. By default there is only this process."""

    rank: int = 0  # number of this process
    size: int = 1  # number of processes
    cpu_group: Any = None  # the torch group for exchange between CPUs; None: the default group

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def local_slice(self, batch: int) -> slice:
        """The positions of a batch that this process computes: whole chunks (`core.runtime.seeds`).

        Raises UserError if the batch has fewer chunks than there are processes.
        """
        if self.size == 1:
            return slice(0, batch)
        chunk = chunk_size(batch)
        chunks = -(-batch // chunk)
        if chunks < self.size:
            raise UserError(
                f"a batch of {batch} images can be divided among {chunks} processes, "
                f"not {self.size}; use fewer"
            )
        first = chunks * self.rank // self.size * chunk
        last = chunks * (self.rank + 1) // self.size * chunk
        return slice(first, min(last, batch))

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """The model wrapped so that gradients are averaged over all processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    def all_reduce_counts(self, *counts: int) -> list[int]:
        """Each count summed over all processes."""
        if self.size == 1:
            return list(counts)
        tensor = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(tensor, group=self.cpu_group)
        return [int(total) for total in tensor.tolist()]

    def all_gather(self, value: Value) -> list[Value]:
        """The values of all processes in the order of ranks. A value is any picklable object."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self.cpu_group)
        return values

    def all_reduce_sum(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named scalars, each summed over all processes. All processes give the same names."""
        if self.size == 1 or not values:
            return values
        names = sorted(values)
        stacked = torch.stack([values[name].float() for name in names])
        dist.all_reduce(stacked)
        return dict(zip(names, stacked.unbind(), strict=True))

    def all_gather_rows(self, rows: Tensor, positions: Tensor, size: int) -> Tensor:
        """The rows of all processes in one tensor. Gradients flow back to each process's rows.

        Args:
            rows: (n, ...) rows of this process.
            positions: (n,) their positions in the result.
            size: Number of rows of the result.

        Returns:
            (size, ...) rows; zeros at positions that no process has.
        """
        filled = rows.new_zeros(size, *rows.shape[1:])
        filled = filled.index_copy(0, positions.to(rows.device), rows)
        if self.size == 1:
            return filled
        all_reduce_sum: Callable[[Tensor], Tensor] = _AllReduceSum.apply
        return all_reduce_sum(filled)


SINGLE_PROCESS = ProcessGroup()


def gradient_sync(network: nn.Module, enabled: bool) -> AbstractContextManager[None]:
    """Context for a backward pass that ends with the gradient all-reduce only if `enabled`.

    Otherwise gradients accumulate in each process (micro-batches before the last one of a step).
    """
    if isinstance(network, DistributedDataParallel) and not enabled:
        context: AbstractContextManager[None] = network.no_sync()
        return context
    return nullcontext()


@contextmanager
def join_process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the process group that PyTorch's environment variables describe.

    These are RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Without WORLD_SIZE the group is this
    process alone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup()
        return
    with _joined(device) as group:
        yield group


def open_rendezvous(size: int) -> TCPStore:
    """The place where the processes of a group on this machine meet. Its `port` is free.

    size: number of processes. Only the main process opens it."""
    return TCPStore(LOCAL_ADDRESS, 0, size, is_master=True, wait_for_workers=False)


@contextmanager
def join_local_group(
    device: torch.device, rendezvous: TCPStore | int, rank: int, size: int
) -> Iterator[ProcessGroup]:
    """Join a group of processes of this machine.

    device: of this process.
    rendezvous: what the main process opened; in the other processes its port.
    rank: number of this process.
    size: number of processes."""
    store = rendezvous
    if isinstance(store, int):
        store = TCPStore(LOCAL_ADDRESS, store, size, is_master=False)
    if Path("/sys/class/net/lo").exists():  # the host's name need not have an address
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with _joined(device, store=store, rank=rank, world_size=size) as group:
        yield group


@contextmanager
def _joined(device: torch.device, **rendezvous: Any) -> Iterator[ProcessGroup]:
    """Join a group. rendezvous: arguments of `init_process_group`; none: from the environment."""
    cpu_group = None
    if device.type == "cuda":
        dist.init_process_group("nccl", **rendezvous)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT, **rendezvous)
    try:
        if device.type == "cuda":
            cpu_group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), cpu_group)
    finally:
        dist.destroy_process_group()
