"""What a run costs, from its config alone: parameters and arithmetic, counted on models without memory.

Each part is counted once for all rows that have it: masks, losses and position tables cost nothing."""

from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from core.config import (
    Contrast,
    ContrastivePretrain,
    Encoder,
    Pretrain,
    RecognizerModel,
    ReconstructionDecoder,
    StageConfig,
    TextDecoder,
    visible_count,
)
from core.decoder import GuidedDecoder
from core.loop import trainable_parameters
from core.recognizer import Recognizer
from core.seqclr import SeqCLR
from core.vit import VisionTransformer

Cost = tuple[int, float]  # trainable parameters, floating-point operations of one forward pass per image


def _forward_flops(module: nn.Module, *inputs: torch.Tensor | None) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


def _sizes(encoder: Encoder) -> Encoder:
    return encoder.model_copy(update={"positions": "grid"})


@cache
def _encoder_cost(encoder: Encoder, visible: int | None) -> Cost:
    """An encoder that sees so many patches, or all of them."""
    with torch.device("meta"):
        model = VisionTransformer(encoder)
        patches = None if visible is None else torch.empty(1, visible, dtype=torch.long)
        return trainable_parameters(model), _forward_flops(model, torch.empty(1, 3, *encoder.image), patches)


@cache
def _decoder_cost(encoder: Encoder, decoder: ReconstructionDecoder, values: int, visible: int) -> Cost:
    """A reconstruction decoder that predicts so many values a patch."""
    with torch.device("meta"):
        model = GuidedDecoder(encoder, decoder, values)
        features = torch.empty(1, 1 + visible, encoder.width)
        guidance = torch.empty(1, 1 + encoder.patches, encoder.width) if "CA" in decoder.order else None
        flops = _forward_flops(model, features, torch.empty(1, visible, dtype=torch.long), guidance)
        return trainable_parameters(model), flops


@cache
def _seqclr_cost(encoder: Encoder, contrast: Contrast) -> Cost:
    with torch.device("meta"):
        model = SeqCLR(encoder, contrast)
        forward = _forward_flops(model.encoder, torch.empty(1, 3, *encoder.image))
        forward += _forward_flops(model.head, torch.empty(contrast.windows, encoder.width))
        return trainable_parameters(model), 2.0 * forward


@cache
def _recognizer_cost(encoder: Encoder, decoder: TextDecoder, charset: str, max_length: int) -> Cost:
    with torch.device("meta"):
        model = Recognizer(RecognizerModel(encoder=encoder, decoder=decoder, charset=charset, max_length=max_length))
        tokens = torch.zeros(1, max_length, dtype=torch.long)
        flops = _forward_flops(model, torch.empty(1, 3, *encoder.image), tokens, torch.ones(1, dtype=torch.long))
        return trainable_parameters(model), flops


def pretrain_cost(config: Pretrain | ContrastivePretrain) -> Cost:
    """(trainable parameters, floating-point operations per training image). Backward counts twice forward."""
    encoder = _sizes(config.encoder)
    if isinstance(config, ContrastivePretrain):
        parameters, forward = _seqclr_cost(encoder, config.contrast)
        return parameters, 3 * forward
    visible = visible_count(encoder.patches, config.mask.ratio)
    parameters, whole = _encoder_cost(encoder, None)
    pixels = config.target.kind == "pixel"
    decoder, decoding = _decoder_cost(encoder, config.decoder, encoder.patch_values if pixels else encoder.width, visible)
    trained = _encoder_cost(encoder, visible)[1] + decoding + (whole if config.guidance is not None else 0)
    return parameters + decoder, 3.0 * trained + (0 if pixels else whole)


def recognizer_cost(config: RecognizerModel) -> Cost:
    """(trainable parameters, floating-point operations of one forward pass per image, all text positions)."""
    return _recognizer_cost(_sizes(config.encoder), config.decoder, config.charset, config.max_length)


def cost(config: StageConfig, recognizer: RecognizerModel | None = None) -> Cost:
    """(parameters, floating-point operations per image) of a stage; an evaluation needs its recogniser, else they are 0."""
    if isinstance(config, Pretrain | ContrastivePretrain):
        return pretrain_cost(config)
    if isinstance(config, RecognizerModel):
        parameters, forward = recognizer_cost(config)
        return parameters, 3 * forward
    return (0, 0.0) if recognizer is None else recognizer_cost(recognizer)
