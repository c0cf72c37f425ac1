"""How a run is computed: device, workers, callbacks. Nothing here is part of a run's identity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from core.config import Precision
from core.runtime.distributed import SINGLE_PROCESS, ProcessGroup


class Interrupted(Exception):
    """The run was asked to stop. Its last checkpoint keeps what was computed."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is, for display. `unit` says what `done` and `total` count."""

    done: int
    total: int
    unit: str
    images_per_second: float
    seconds_left: float
    note: str = ""


def never() -> bool:
    """The default of callbacks that ask for something."""
    return False


def ignore_progress(progress: RunProgress) -> None:
    """The default of `on_progress`."""


def never_prune(share: float, values: Mapping[str, float]) -> str:
    """The default of `should_prune`."""
    return ""


@dataclass(frozen=True)
class RunContext:
    """How a run is computed. It can change the last bits of a result and nothing else.

    device: where the model and the batches are.
    micro_batch: images per forward pass, in whole chunks (`core/runtime/seeds.py`); gradients
        are accumulated over the batch. None: the whole batch at once.
    num_workers: processes that decode images; 0: the training process decodes them.
    checkpoint_seconds: least time between checkpoints. The interval grows if writing a
        checkpoint takes more than 1 % of it.
    should_stop: whether to save a checkpoint and stop after the current step.
    should_save: whether to save a checkpoint after the current step and continue.
    milestones: shares of the training, in (0, 1), after which the model is validated.
    should_prune: (share, validation values) at a milestone -> the reason to stop, or "".
    process_group: the processes that compute this run together.
    on_progress: called about once a second.
    compile: compile the encoder's blocks with `torch.compile`; has an effect on CUDA only.
    """

    device: torch.device
    micro_batch: int | None = None
    num_workers: int = 0
    checkpoint_seconds: float = 60.0
    should_stop: Callable[[], bool] = never
    should_save: Callable[[], bool] = never
    milestones: tuple[float, ...] = ()
    should_prune: Callable[[float, Mapping[str, float]], str] = never_prune
    process_group: ProcessGroup = SINGLE_PROCESS
    on_progress: Callable[[RunProgress], None] = ignore_progress
    compile: bool = False

    @property
    def pinned(self) -> bool:
        """Whether batches are decoded into pinned memory, which a GPU copies asynchronously."""
        return self.device.type == "cuda"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context of a forward pass in `precision`. Weights and optimizer state are always fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
