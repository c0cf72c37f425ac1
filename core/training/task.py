"""What a stage adds to the training loop: a model, the losses of a batch, validation."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from core.data.batches import Batch
from core.model.compile import compile_for
from core.training.run_context import RunContext

LossTerms = dict[str, Tensor]  # name -> scalar; the term `loss` is minimized, others are logged


class TrainingTask(Protocol):
    """The stage's side of the training loop."""

    @property
    def model(self) -> nn.Module:
        """The model. Parameters with `requires_grad` are trained; all others stay unchanged."""

    @property
    def network(self) -> nn.Module:
        """The model as the losses call it (see `prepare_network`)."""

    def prepare_batch(self, batch: Batch, step: int) -> Callable[[slice], LossTerms]:
        """Draw all random values of the batch; return the function from a slice to its losses.

        The slice selects images of the batch. Each loss is a mean over these images."""

    def validate(self) -> dict[str, float]:
        """Values to log after each epoch and milestone. Leaves the model unchanged."""


def prepare_network(model: nn.Module, context: RunContext) -> nn.Module:
    """Move the model to the device, in training mode; return it as the losses call it.

    The returned module is the model, compiled if `context.compile`, or a wrapper that averages
    gradients over the processes of the run."""
    model.to(context.device).train()
    if context.compile:
        compile_for(context.device, model)
    return context.process_group.data_parallel(model)
