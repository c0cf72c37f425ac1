"""What a run costs, from its config alone: parameters and arithmetic, counted on a model without memory."""

from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from core.config import Evaluate, Finetune, Pretrain, RecognizerModel, visible_count
from core.lmim import LMIM
from core.loop import trainable_parameters
from core.recognizer import Recognizer


def _forward_flops(module: nn.Module, *inputs: torch.Tensor | None) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


@cache
def pretrain_cost(config: Pretrain) -> tuple[int, float]:
    """(trainable parameters, floating-point operations per training image). Backward counts twice forward."""
    encoder = config.encoder
    with torch.device("meta"):
        model = LMIM(config)
        image = torch.empty(1, 3, *encoder.image)
        visible = torch.empty(1, visible_count(encoder.patches, config.mask.ratio), dtype=torch.long)
        trained = _forward_flops(model.encoder, image, visible)
        features = torch.empty(1, 1 + visible.shape[1], encoder.width)
        guidance = None
        if config.guidance is not None:
            trained += _forward_flops(model.encoder, image)
            guidance = torch.empty(1, 1 + encoder.patches, encoder.width)
        trained += _forward_flops(model.decoder, features, visible, guidance)
        frozen = _forward_flops(model.target, image)
    return trainable_parameters(model), 3.0 * trained + frozen


@cache
def recognizer_cost(config: RecognizerModel) -> tuple[int, float]:
    """(trainable parameters, floating-point operations of one forward pass per image, all text positions)."""
    with torch.device("meta"):
        model = Recognizer(config)
        image = torch.empty(1, 3, *config.encoder.image)
        tokens = torch.zeros(1, config.max_length, dtype=torch.long)
        forward = _forward_flops(model, image, tokens, torch.ones(1, dtype=torch.long))
    return trainable_parameters(model), float(forward)


def cost(config: Pretrain | Finetune | Evaluate, recognizer: RecognizerModel | None = None) -> tuple[int, float]:
    """(parameters, floating-point operations per image) of a stage; an evaluation needs its recogniser, else they are 0."""
    if isinstance(config, Pretrain):
        return pretrain_cost(config)
    if isinstance(config, Finetune):
        parameters, forward = recognizer_cost(config)
        return parameters, 3 * forward
    return (0, 0.0) if recognizer is None else recognizer_cost(recognizer)
