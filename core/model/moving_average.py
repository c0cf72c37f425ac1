"""A teacher whose weights are a moving average of those of the trained encoder.

The EMA repair of the alignment loss and the EMA target have one each. It starts as a copy of the
encoder, gets no gradient, and moves after each step. Checkpoints hold it; `model.safetensors` does
not.
"""

import math
from copy import deepcopy

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from core.config import MovingAverage
from core.model.vit import VisionTransformer


def ema_momentum(average: MovingAverage, share: float) -> float:
    """The momentum after a `share` of the training in [0, 1]: a half cosine, as in BYOL.

    final - (final - first) * (1 + cos(pi * share)) / 2, arXiv 2006.07733."""
    remaining = (1 + math.cos(math.pi * share)) / 2
    return average.final_momentum - (average.final_momentum - average.momentum) * remaining


class AveragedTeacher(nn.Module):
    """Base of the parts of LMIM that may have a moving average of the encoder as `teacher`."""

    def __init__(self, average: MovingAverage | None, encoder: VisionTransformer) -> None:
        """average: its momentum; None: no teacher. encoder: the one that is trained."""
        super().__init__()
        self.average = average
        self.teacher: VisionTransformer | None = None
        if average is not None:
            self.teacher = deepcopy(encoder).requires_grad_(False)

    def restart_teacher(self, encoder: VisionTransformer) -> None:
        """Set the moving average, if there is one, to the encoder's present weights."""
        if self.teacher is not None:
            self.teacher.load_state_dict(encoder.state_dict())

    def update_teacher(self, encoder: VisionTransformer, share: float) -> None:
        """Move the moving average, if there is one, towards the encoder: m t + (1 - m) e.

        share: of the training that is done, in [0, 1]; the momentum m depends on it."""
        if self.teacher is None or self.average is None:
            return
        momentum = ema_momentum(self.average, share)
        update = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
        update(list(self.teacher.parameters()), list(encoder.parameters()), 0)


def averaged_teachers(model: nn.Module) -> list[AveragedTeacher]:
    """The parts of a model that may have a moving average of its encoder."""
    return [module for module in model.modules() if isinstance(module, AveragedTeacher)]
