"""A repair of the alignment loss, with what it needs besides the [cls] of these images.

A predictor (SimSiam), a projector (VICReg), a moving average of the encoder (EMA), random
directions (SIGReg), or the whole batch. The losses are in core/model/alignment_losses.py. Shapes:
B images, D features.
"""

from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor, nn

from core.config import (
    Alignment,
    EmaRepair,
    InfonceRepair,
    NormalizedRepair,
    PredictorRepair,
    Repair,
    SigregRepair,
    UniformityRepair,
    VicregRepair,
)
from core.model.alignment_losses import (
    ema_alignment,
    info_nce,
    normalized_alignment,
    predictor_alignment,
    random_directions,
    sigreg_alignment,
    uniformity_alignment,
    vicreg_alignment,
)
from core.model.cost import PREDICTOR_DIVISOR, PROJECTOR_FACTOR
from core.model.moving_average import AveragedTeacher
from core.model.vit import VisionTransformer, initialize
from core.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from core.runtime.errors import UserError


@dataclass(frozen=True)
class BatchPlace:
    """Where the images of a forward pass are in their batch, and the draws of its step."""

    positions: Tensor  # (B,) in the whole batch, ascending; -1: a dummy image of zero weight
    size: int  # images of the whole batch
    generator: torch.Generator  # draws the step's random directions
    group: ProcessGroup = SINGLE_PROCESS  # the processes that share the batch


def predictor(width: int) -> nn.Sequential:
    """SimSiam's predictor, D -> D / 4 -> D: (B, D) -> (B, D)."""
    hidden = width // PREDICTOR_DIVISOR
    return nn.Sequential(*_hidden_layer(width, hidden), nn.Linear(hidden, width))


def projector(width: int) -> nn.Sequential:
    """VICReg's projector, three layers of width 4 D: (B, D) -> (B, 4 D)."""
    wide = PROJECTOR_FACTOR * width
    return nn.Sequential(
        *_hidden_layer(width, wide),
        *_hidden_layer(wide, wide),
        nn.Linear(wide, wide, bias=False),  # VICReg does not depend on a shift
    )


def _hidden_layer(inputs: int, outputs: int) -> list[nn.Module]:
    """Linear layer, batch norm, ReLU. The norm is over the given batch, in evaluation too."""
    linear = nn.Linear(inputs, outputs, bias=False)
    return [linear, nn.BatchNorm1d(outputs, track_running_stats=False), nn.ReLU()]


class RepairedAlignment(AveragedTeacher):
    """The loss of a repair, in place of Eq. 3."""

    def __init__(self, repair: Repair, encoder: VisionTransformer) -> None:
        """encoder: the one that is trained. A moving average starts as its copy."""
        super().__init__(repair if isinstance(repair, EmaRepair) else None, encoder)
        self.repair = repair
        width = encoder.config.width
        self.head: nn.Module = nn.Identity()  # predictor or projector
        if isinstance(repair, PredictorRepair):
            self.head = predictor(width)
        elif isinstance(repair, VicregRepair):
            self.head = projector(width)
        initialize(self.head)

    def forward(
        self,
        cls: Tensor,
        guidance_cls: Tensor,
        guidance_views: Tensor,
        place: BatchPlace | None = None,
    ) -> Tensor:
        """The loss, a scalar; of the whole batch, of all processes, if it compares images.

        cls, guidance_cls: (B, D) of both branches.
        guidance_views: (B, 3, H, W) in [-1, 1], which a teacher sees.
        place: of these images in their batch; None: they are the whole batch.

        Raises UserError if the loss compares images and there are fewer than two."""
        if self.teacher is not None:
            with torch.no_grad():
                teacher_cls = self.teacher(guidance_views)[:, 0]
            return ema_alignment(cls, teacher_cls)
        if isinstance(self.repair, NormalizedRepair):
            return normalized_alignment(cls, guidance_cls)
        if place is None:
            count = len(cls)
            place = BatchPlace(torch.arange(count), count, torch.Generator().manual_seed(0))
        with torch.autocast(cls.device.type, enabled=False):  # bf16 cannot resolve similarities
            views = torch.stack([cls.float(), guidance_cls.float()], dim=1)  # (B, 2, D)
            first, second = gather_batch(views, place).unbind(dim=1)
            return self._loss_of_batch(first, second, place.generator)

    def _loss_of_batch(
        self, cls: Tensor, guidance_cls: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss of a repair that compares images. cls, guidance_cls: (B, D), the whole batch."""
        repair = self.repair
        match repair:
            case PredictorRepair():
                predictions = self.head(cls), self.head(guidance_cls)
                return predictor_alignment(cls, guidance_cls, *predictions)
            case VicregRepair():
                weights = repair.invariance, repair.variance, repair.covariance
                return vicreg_alignment(self.head(cls), self.head(guidance_cls), *weights)
            case SigregRepair():
                directions = random_directions(cls.shape[1], repair.directions, generator)
                integral = repair.share, repair.knots, repair.bound
                return sigreg_alignment(cls, guidance_cls, directions.to(cls.device), *integral)
            case UniformityRepair():
                return uniformity_alignment(cls, guidance_cls, repair.factor)
            case InfonceRepair():
                return info_nce(cls, guidance_cls, repair.temperature)
            case NormalizedRepair() | EmaRepair():
                raise AssertionError(f"{repair.kind} does not compare images")
        assert_never(repair)


def make_repair(
    alignment: Alignment | None, encoder: VisionTransformer
) -> RepairedAlignment | None:
    """The repair that the config names; None: there is none, or no alignment."""
    if alignment is None or alignment.repair is None:
        return None
    return RepairedAlignment(alignment.repair, encoder)


def gather_batch(rows: Tensor, place: BatchPlace) -> Tensor:
    """(B, ...) -> (images of the whole batch that some process has, ...), by position.

    Gradients flow back to each process's rows. Dummy images are left out. Raises UserError if
    fewer than two images are left."""
    if place.group.size > 1:
        positions = place.positions.to(rows.device)
        present = positions >= 0
        marked = torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)  # marks filled rows
        gathered = place.group.all_gather_rows(marked[present], positions[present], place.size)
        marks = gathered[..., -1].detach().reshape(place.size, -1)[:, 0]  # (size,)
        rows = gathered[marks > 0, ..., :-1]
    if len(rows) < 2:
        raise UserError(
            "a batch has fewer than two readable images, and this alignment.repair compares images;"
            " `run.py data check` shows which images cannot be read"
        )
    return rows
