"""The checkpoint of a training: when it is saved, what it holds, how a run resumes from it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.training.parameters import changing

LARGEST_SHARE = 0.01  # of the time, spent on writing checkpoints
OPTIMIZER_PREFIXES = ("optimizer.", "optimiser.")  # the second one: version 0.1


class CheckpointPolicy:
    """When to save: at least `seconds` apart, and rarely enough to cost at most 1 % of the time."""

    def __init__(self, seconds: float, now: float) -> None:
        """now: the time at which training starts, in seconds of a monotonic clock."""
        self.shortest = seconds
        self.interval = seconds
        self.last_saved = now

    def is_due(self, now: float) -> bool:
        """Whether the interval since the last checkpoint has passed."""
        return now - self.last_saved >= self.interval

    def record_saving(self, started: float, ended: float) -> None:
        """Start the next interval, as long as the time that saving took demands."""
        self.last_saved = ended
        self.interval = max(self.shortest, (ended - started) / LARGEST_SHARE)


@dataclass(frozen=True)
class Counters:
    """What a checkpoint stores beside tensors."""

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    unreadable: frozenset[int] = field(default_factory=frozenset)  # image numbers

    def to_json(self) -> dict[str, Any]:
        """The metadata of the file, with the number of threads that determines the last bits."""
        return {
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "threads": torch.get_num_threads(),
            "unreadable": sorted(self.unreadable),
        }

    @classmethod
    def from_json(cls, metadata: dict[str, Any]) -> "Counters":
        """The inverse of `to_json`."""
        return cls(
            step=metadata["step"],
            images=metadata["images"],
            seconds=metadata["seconds"],
            unreadable=frozenset(metadata["unreadable"]),
        )


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, counters: Counters
) -> None:
    """Write the parameters that training changes, the optimizer's state and counters, atomically.

    path: the file, safetensors.
    model, optimizer: of the run.
    counters: after the last step."""
    tensors: dict[str, Tensor] = {
        f"model.{name}": parameter for name, parameter in changing(model).items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
    safetensors_io.save(path, tensors, counters.to_json())


def restore_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Counters:
    """Load a checkpoint into model and optimizer; zero counters if the file does not exist.

    Sets the number of threads to the checkpoint's: the order of summation depends on it. Raises
    UserError if the file does not fit the model."""
    if not path.exists():
        return Counters()
    tensors, metadata = safetensors_io.load(path)
    weights = {
        name.removeprefix("model."): value
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    stored_shapes = {name: value.shape for name, value in weights.items()}
    if stored_shapes != {name: value.shape for name, value in changing(model).items()}:
        raise UserError(
            f"{path}: does not fit this model; another version of the code wrote it;"
            " move it aside to restart the run"
        )
    model.load_state_dict(weights, strict=False)
    torch.set_num_threads(metadata["threads"])
    optimizer.load_state_dict(
        {
            "state": _optimizer_state(tensors),
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
    return Counters.from_json(metadata)


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Number of a parameter -> its state, from tensors called `optimizer.NUMBER.KEY`."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(OPTIMIZER_PREFIXES):
            _, number, key = name.split(".")
            states.setdefault(int(number), {})[key] = value
    return states
