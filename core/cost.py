"""What a run costs, from its config alone: parameters and arithmetic, counted on a model without memory."""

from functools import cache
from typing import TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from core.config import (
    Closed,
    Contrast,
    ContrastivePretrain,
    Encoder,
    Pretrain,
    PretrainModel,
    RecognizerModel,
    StageConfig,
    visible_count,
)
from core.lmim import LMIM
from core.loop import trainable_parameters
from core.recognizer import Recognizer
from core.seqclr import SeqCLR

Model = TypeVar("Model", bound=Closed)


def _forward_flops(module: nn.Module, *inputs: torch.Tensor | None) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


def _only(kind: type[Model], config: Closed) -> Model:
    """The part of a stage's config that makes its model, so that rows that differ in the rest are counted once."""
    return kind(**{name: getattr(config, name) for name in kind.model_fields})


@cache
def _lmim_cost(config: PretrainModel, visible_patches: int) -> tuple[int, float]:
    encoder = config.encoder
    with torch.device("meta"):
        model = LMIM(config)
        image = torch.empty(1, 3, *encoder.image)
        visible = torch.empty(1, visible_patches, dtype=torch.long)
        trained = _forward_flops(model.encoder, image, visible)
        features = torch.empty(1, 1 + visible_patches, encoder.width)
        guidance = None
        if config.guidance is not None:
            trained += _forward_flops(model.encoder, image)
            guidance = torch.empty(1, 1 + encoder.patches, encoder.width)
        trained += _forward_flops(model.decoder, features, visible, guidance)
        frozen = _forward_flops(model.target, image)
    return trainable_parameters(model), 3.0 * trained + frozen


@cache
def _seqclr_cost(encoder: Encoder, contrast: Contrast) -> tuple[int, float]:
    with torch.device("meta"):
        model = SeqCLR(encoder, contrast)
        forward = _forward_flops(model.encoder, torch.empty(1, 3, *encoder.image))
        forward += _forward_flops(model.head, torch.empty(contrast.windows, encoder.width))
    return trainable_parameters(model), 2 * 3.0 * forward


def pretrain_cost(config: Pretrain | ContrastivePretrain) -> tuple[int, float]:
    """(trainable parameters, floating-point operations per training image). Backward counts twice forward."""
    if isinstance(config, ContrastivePretrain):
        return _seqclr_cost(config.encoder, config.contrast)
    return _lmim_cost(_only(PretrainModel, config), visible_count(config.encoder.patches, config.mask.ratio))


def recognizer_cost(config: RecognizerModel) -> tuple[int, float]:
    """(trainable parameters, floating-point operations of one forward pass per image, all text positions)."""
    return _recognizer_cost(_only(RecognizerModel, config))


@cache
def _recognizer_cost(config: RecognizerModel) -> tuple[int, float]:
    with torch.device("meta"):
        model = Recognizer(config)
        image = torch.empty(1, 3, *config.encoder.image)
        tokens = torch.zeros(1, config.max_length, dtype=torch.long)
        forward = _forward_flops(model, image, tokens, torch.ones(1, dtype=torch.long))
    return trainable_parameters(model), float(forward)


def cost(config: StageConfig, recognizer: RecognizerModel | None = None) -> tuple[int, float]:
    """(parameters, floating-point operations per image) of a stage; an evaluation needs its recogniser, else they are 0."""
    if isinstance(config, Pretrain | ContrastivePretrain):
        return pretrain_cost(config)
    if isinstance(config, RecognizerModel):
        parameters, forward = recognizer_cost(config)
        return parameters, 3 * forward
    return (0, 0.0) if recognizer is None else recognizer_cost(recognizer)
