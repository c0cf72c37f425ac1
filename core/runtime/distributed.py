"""The processes that compute one run together: what each takes, and what they tell one another.

Every process walks through the same steps with the same seeds and takes its own places of each batch; gradients are averaged by
DistributedDataParallel (NCCL between GPUs, gloo between CPUs), whole numbers and rows of readings go through gloo.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core.runtime.errors import UserError
from core.runtime.seeds import chunk_size


class _Sum(torch.autograd.Function):
    """A tensor's sum over all processes; each one's gradient is the sum of theirs."""

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
    """This process among those of a run; by default it is alone."""

    rank: int = 0
    size: int = 1
    group: Any = None  # for what is told from CPU to CPU

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def local_slice(self, batch: int) -> slice:
        """The places of a batch that this process takes: whole chunks. Raises UserError if there are fewer than processes."""
        if self.size == 1:
            return slice(0, batch)
        chunk = chunk_size(batch)
        chunks = -(-batch // chunk)
        if chunks < self.size:
            raise UserError(
                f"a batch of {batch} images can be divided among {chunks} processes, not {self.size}; use fewer"
            )
        first, last = (chunks * rank // self.size * chunk for rank in (self.rank, self.rank + 1))
        return slice(first, min(last, batch))

    def distribute(self, model: nn.Module) -> nn.Module:
        """The model as the loss calls it: with gradients that become the mean over all processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    def totals(self, *numbers: int) -> list[int]:
        """Whole numbers, each summed over all processes."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(tensor, group=self.group)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self.group)
        return values

    def all_reduce_sum(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars, each summed over all processes."""
        if self.size == 1 or not values:
            return values
        names = sorted(values)
        stacked = torch.stack([values[name].float() for name in names])
        dist.all_reduce(stacked)
        return dict(zip(names, stacked.unbind(), strict=True))

    def gather_rows(self, rows: Tensor, places: Tensor, size: int) -> Tensor:
        """Rows of all processes, each at its place among `size`; zeros where there is none. Gradients go back to each."""
        whole = rows.new_zeros(size, *rows.shape[1:]).index_copy(0, places.to(rows.device), rows)
        return whole if self.size == 1 else _Sum.apply(whole)


SINGLE_PROCESS = ProcessGroup()


def synchronized(network: nn.Module, now: bool) -> Any:
    """Context: whether the processes exchange gradients at the end of this backward pass, or add them up first."""
    return (
        network.no_sync()
        if isinstance(network, DistributedDataParallel) and not now
        else nullcontext()
    )


@contextmanager
def join_process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the other processes that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT tell of (PyTorch's own variables)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup()
        return
    patience = timedelta(
        days=1
    )  # one that waits for the run's lock, or renders words, keeps the others waiting
    if device.type == "cuda":
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo", timeout=patience)
    try:
        group = dist.new_group(backend="gloo", timeout=patience) if device.type == "cuda" else None
        yield ProcessGroup(dist.get_rank(), size, group)
    finally:
        dist.destroy_process_group()
