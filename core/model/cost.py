"""Cost of a run, computed from its config alone: parameters and floating-point operations.

Closed forms, so that a plan needs no model; a test compares them with counts on the models. Only
matrix products count, a multiplication and an addition as two operations. Masks, losses, norms and
position tables count as zero.
"""

from itertools import pairwise
from typing import NamedTuple

from core.config import (
    Contrast,
    ContrastivePretrain,
    EmaFeatureTarget,
    EmaRepair,
    Encoder,
    PredictorRepair,
    Pretrain,
    Probe,
    RecognizerModel,
    ReconstructionDecoder,
    StageConfig,
    TextDecoder,
    VicregRepair,
    visible_count,
)
from core.text.charset import make_charset

MLP_RATIO = 4  # width of an encoder block's feed-forward network, in encoder widths
FRAMES_PER_COLUMN = 2  # of the CTC head (core/model/ctc.py)
PREDICTOR_DIVISOR = 4  # SimSiam's predictor (core/model/alignment_repair.py)
PROJECTOR_FACTOR = 4  # VICReg's projector (core/model/alignment_repair.py)
TRAINING = 3  # a training step in forward passes: the backward pass costs two


class Cost(NamedTuple):
    """Cost of a model or a stage."""

    parameters: int  # trainable ones
    operations: float  # floating-point operations per image


def target_bytes(patches: int, width: int) -> int:
    """Bytes of the target of an image: features of a teacher, float32."""
    return 4 * patches * width


def linear_parameters(inputs: int, outputs: int, bias: bool = True) -> int:
    """Parameters of a linear layer."""
    return inputs * outputs + (outputs if bias else 0)


def norm_parameters(width: int) -> int:
    """Parameters of a layer norm."""
    return 2 * width


def linear_operations(tokens: int, inputs: int, outputs: int) -> int:
    """Operations of a linear layer on `tokens` tokens."""
    return 2 * tokens * inputs * outputs


def attention_operations(queries: int, keys: int, width: int) -> int:
    """Operations of Q K^T and of the weights' product with V, for any number of heads."""
    return 4 * queries * keys * width


def encoder_cost(config: Encoder, visible: int | None = None) -> Cost:
    """Forward pass of the encoder over `visible` patches; None is all patches."""
    patches = config.patches if visible is None else visible
    tokens = 1 + patches
    width = config.width
    inner = MLP_RATIO * width
    block_parameters = (
        2 * norm_parameters(width)
        + linear_parameters(width, 3 * width)
        + linear_parameters(width, width)
        + linear_parameters(width, inner)
        + linear_parameters(inner, width)
    )
    block_operations = (
        linear_operations(tokens, width, 3 * width)
        + attention_operations(tokens, tokens, width)
        + linear_operations(tokens, width, width)
        + linear_operations(tokens, width, inner)
        + linear_operations(tokens, inner, width)
    )
    return Cost(
        linear_parameters(config.patch_values, width)
        + width  # [cls]
        + config.depth * block_parameters
        + norm_parameters(width),
        linear_operations(patches, config.patch_values, width) + config.depth * block_operations,
    )


def decoder_cost(
    encoder: Encoder, config: ReconstructionDecoder, values: int, visible: int
) -> Cost:
    """Forward pass of the reconstruction decoder.

    encoder: the encoder whose features it gets.
    config: the decoder.
    values: predicted values per patch.
    visible: visible patches."""
    width = config.width
    tokens = 1 + encoder.patches
    sublayers = config.order.split("-")
    embedded = [1 + visible]  # tokens of each branch that enters the decoder
    if "CA" in sublayers:
        embedded.append(tokens)

    parameters = (
        len(embedded) * linear_parameters(encoder.width, width)
        + width  # mask token
        + norm_parameters(width)
        + linear_parameters(width, values)
    )
    operations = sum(linear_operations(count, encoder.width, width) for count in embedded)
    operations += linear_operations(tokens, width, values)
    for sublayer in sublayers * config.depth:
        parameters += norm_parameters(width)
        if sublayer == "FFN":
            parameters += linear_parameters(width, config.feedforward)
            parameters += linear_parameters(config.feedforward, width)
            operations += 2 * linear_operations(tokens, width, config.feedforward)
        else:
            parameters += linear_parameters(width, 3 * width) + linear_parameters(width, width)
            operations += linear_operations(tokens, width, 4 * width)
            operations += attention_operations(tokens, tokens, width)
    return Cost(parameters, operations)


def repair_cost(config: Pretrain) -> Cost:
    """Forward pass of what a repair of the alignment loss trains: a predictor or a projector.

    It is computed for the [cls] of both branches."""
    repair = None if config.alignment is None else config.alignment.repair
    width = config.encoder.width
    if isinstance(repair, PredictorRepair):
        widths = [width, width // PREDICTOR_DIVISOR, width]
    elif isinstance(repair, VicregRepair):
        widths = [width] + [PROJECTOR_FACTOR * width] * 3
    else:
        return Cost(0, 0)
    layers = list(pairwise(widths))
    parameters = sum(linear_parameters(*layer, bias=False) for layer in layers)
    parameters += sum(norm_parameters(outputs) for _, outputs in layers[:-1])
    parameters += width if isinstance(repair, PredictorRepair) else 0  # bias of the last layer
    return Cost(parameters, 2 * sum(linear_operations(1, *layer) for layer in layers))


def moving_averages(config: StageConfig) -> int:
    """How many moving averages of the encoder a run has: of an EMA target, of an EMA repair."""
    if not isinstance(config, Pretrain):
        return 0
    repair = None if config.alignment is None else config.alignment.repair
    return isinstance(config.target, EmaFeatureTarget) + isinstance(repair, EmaRepair)


def averaged_parameters(config: StageConfig) -> int:
    """Parameters of all moving averages of the encoder, which follow those of the encoder."""
    if not isinstance(config, Pretrain):
        return 0
    return moving_averages(config) * encoder_cost(config.encoder).parameters


def seqclr_cost(encoder: Encoder, contrast: Contrast) -> Cost:
    """Forward pass of SeqCLR: encoder and projection head on two views of each image."""
    parameters, operations = encoder_cost(encoder)
    width = encoder.width
    head = linear_operations(contrast.windows, width, width)
    head += linear_operations(contrast.windows, width, contrast.projection)
    parameters += linear_parameters(width, width) + linear_parameters(width, contrast.projection)
    return Cost(parameters, 2.0 * (operations + head))


def recognizer_cost(config: RecognizerModel) -> Cost:
    """Forward pass of the recognizer over all text positions."""
    parameters, operations = encoder_cost(config.encoder)
    decoder = config.decoder
    classes = make_charset(config.charset).classes
    if decoder is None:
        return _ctc_cost(config.encoder, classes, Cost(parameters, operations))
    width = decoder.width
    text = config.max_length
    source = 1 + config.encoder.patches

    layer = _text_layer_cost(decoder, text, source)
    parameters += (
        linear_parameters(config.encoder.width, width)
        + 2 * norm_parameters(width)
        + (classes + 1) * width  # embedding; BOS is an input only
        + linear_parameters(width, classes)
        + decoder.layers * layer.parameters
    )
    operations += linear_operations(source, config.encoder.width, width)
    operations += linear_operations(text, width, classes)
    operations += decoder.layers * layer.operations
    return Cost(parameters, operations)


def _ctc_cost(encoder: Encoder, classes: int, backbone: Cost) -> Cost:
    """The encoder and the CTC head on its columns. backbone: cost of the encoder."""
    rows, columns = encoder.grid
    inputs = rows * encoder.width
    outputs = FRAMES_PER_COLUMN * (classes + 1)
    return Cost(
        backbone.parameters + linear_parameters(inputs, outputs),
        backbone.operations + linear_operations(columns, inputs, outputs),
    )


def _text_layer_cost(decoder: TextDecoder, text: int, source: int) -> Cost:
    """One layer of the text decoder, for `text` positions and `source` image features."""
    width = decoder.width
    parameters = (
        8 * linear_parameters(width, width, bias=False)
        + linear_parameters(width, decoder.feedforward)
        + linear_parameters(decoder.feedforward, width)
        + 3 * norm_parameters(width)
    )
    self_attention = linear_operations(text, width, 4 * width)
    self_attention += attention_operations(text, text, width)
    cross_attention = linear_operations(text, width, 2 * width)
    cross_attention += linear_operations(source, width, 2 * width)
    cross_attention += attention_operations(text, source, width)
    feedforward = 2 * linear_operations(text, width, decoder.feedforward)
    return Cost(parameters, self_attention + cross_attention + feedforward)


def pretrain_cost(config: Pretrain | ContrastivePretrain) -> Cost:
    """Training on an image, backward pass included."""
    encoder = config.encoder
    if isinstance(config, ContrastivePretrain):
        parameters, operations = seqclr_cost(encoder, config.contrast)
        return Cost(parameters, TRAINING * operations)
    visible = visible_count(encoder.patches, config.mask.ratio)
    whole_view = encoder_cost(encoder)
    decoder = decoder_cost(encoder, config.decoder, config.target_values, visible)
    trained = encoder_cost(encoder, visible).operations + decoder.operations
    if config.guidance is not None:
        trained += whole_view.operations
    repair = repair_cost(config)
    trained += repair.operations
    # forward passes of the frozen encoder, and of moving averages of the encoder
    untrained = config.has_frozen_target + moving_averages(config)
    return Cost(
        whole_view.parameters + decoder.parameters + repair.parameters,
        float(TRAINING) * trained + untrained * whole_view.operations,
    )


def cost(config: StageConfig, recognizer: RecognizerModel | None = None) -> Cost:
    """Cost of a stage: of a training image, or of recognizing an image.

    recognizer: needed for an evaluation, whose cost is 0 without it. A probe costs the features of
    its encoder; its head is small beside them."""
    if isinstance(config, Probe):
        return Cost(0, encoder_cost(config.encoder).operations)
    if isinstance(config, Pretrain | ContrastivePretrain):
        return pretrain_cost(config)
    if isinstance(config, RecognizerModel):
        parameters, operations = recognizer_cost(config)
        return Cost(parameters, TRAINING * operations)
    return Cost(0, 0.0) if recognizer is None else recognizer_cost(recognizer)
