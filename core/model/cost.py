"""What a run costs, from its config alone: parameters, and the arithmetic of matrix products (multiply and add count as two).

FrozenModel forms, so that a plan needs no model; a test counts both on the models themselves. Masks, losses, norms and position
tables cost nothing."""

from core.config import (
    Contrast,
    ContrastivePretrain,
    Encoder,
    Pretrain,
    RecognizerModel,
    ReconstructionDecoder,
    StageConfig,
    visible_count,
)
from core.text.charset import make_charset

Cost = tuple[
    int, float
]  # trainable parameters, floating-point operations of one forward pass per image
MLP = 4  # an encoder block's feed-forward width, in widths


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """Parameters of a linear layer."""
    return inputs * outputs + (outputs if bias else 0)


def product(tokens: int, inputs: int, outputs: int) -> int:
    """Operations of a linear layer on so many tokens."""
    return 2 * tokens * inputs * outputs


def attend(queries: int, keys: int, width: int) -> int:
    """Operations of attention itself: similarities, and the mixture of values; whatever the number of heads."""
    return 4 * queries * keys * width


def norm(width: int) -> int:
    """Parameters of a layer norm."""
    return 2 * width


def encoder_cost(config: Encoder, visible: int | None = None) -> Cost:
    """An encoder that sees so many patches, or all of them."""
    patches, width = config.patches if visible is None else visible, config.width
    tokens, inner = 1 + patches, MLP * config.width
    block = (
        2 * norm(width)
        + linear(width, 3 * width)
        + linear(width, width)
        + linear(width, inner)
        + linear(inner, width)
    )
    mixing = (
        product(tokens, width, 3 * width)
        + attend(tokens, tokens, width)
        + product(tokens, width, width)
    )
    operations = mixing + product(tokens, width, inner) + product(tokens, inner, width)
    parameters = linear(config.patch_values, width) + width + config.depth * block + norm(width)
    return parameters, product(patches, config.patch_values, width) + config.depth * operations


def decoder_cost(
    encoder: Encoder, config: ReconstructionDecoder, values: int, visible: int
) -> Cost:
    """A reconstruction decoder that predicts so many values a patch."""
    width, tokens, order = config.width, 1 + encoder.patches, config.order.split("-")
    mixing = linear(width, 3 * width) + linear(width, width)
    feedforward = linear(width, config.feedforward) + linear(config.feedforward, width)
    mixed = product(tokens, width, 4 * width) + attend(tokens, tokens, width)
    fed = 2 * product(tokens, width, config.feedforward)
    block = sum(norm(width) + (feedforward if step == "FFN" else mixing) for step in order)
    operations = sum(fed if step == "FFN" else mixed for step in order)
    branches = [1 + visible, *([tokens] if "CA" in order else [])]
    parameters = (
        len(branches) * linear(encoder.width, width) + width + norm(width) + linear(width, values)
    )
    embedded = sum(product(branch, encoder.width, width) for branch in branches)
    return parameters + config.depth * block, embedded + config.depth * operations + product(
        tokens, width, values
    )


def seqclr_cost(encoder: Encoder, contrast: Contrast) -> Cost:
    """SeqCLR: two views of each image, and the head on their windows."""
    parameters, forward = encoder_cost(encoder)
    width, windows = encoder.width, contrast.windows
    head = product(windows, width, width) + product(windows, width, contrast.projection)
    return parameters + linear(width, width) + linear(width, contrast.projection), 2.0 * (
        forward + head
    )


def recognizer_cost(config: RecognizerModel) -> Cost:
    """(trainable parameters, floating-point operations of one forward pass per image, all text positions)."""
    parameters, forward = encoder_cost(config.encoder)
    decoder, classes, text = config.decoder, make_charset(config.charset).classes, config.max_length
    width, source, given = decoder.width, 1 + config.encoder.patches, config.encoder.width
    feedforward = linear(width, decoder.feedforward) + linear(decoder.feedforward, width)
    layer = 8 * linear(width, width, bias=False) + feedforward + 3 * norm(width)
    parameters += (
        linear(given, width) + 2 * norm(width) + (classes + 1) * width + linear(width, classes)
    )
    own = product(text, width, 4 * width) + attend(text, text, width)
    crossed = (
        product(text, width, 2 * width)
        + product(source, width, 2 * width)
        + attend(text, source, width)
    )
    operations = own + crossed + 2 * product(text, width, decoder.feedforward)
    forward += product(source, given, width) + product(text, width, classes)
    return parameters + decoder.layers * layer, forward + decoder.layers * operations


def pretrain_cost(config: Pretrain | ContrastivePretrain) -> Cost:
    """(trainable parameters, floating-point operations per training image). Backward counts twice forward."""
    encoder = config.encoder
    if isinstance(config, ContrastivePretrain):
        parameters, forward = seqclr_cost(encoder, config.contrast)
        return parameters, 3 * forward
    visible = visible_count(encoder.patches, config.mask.ratio)
    parameters, whole = encoder_cost(encoder)
    pixels = config.target.kind == "pixel"
    decoder, decoding = decoder_cost(
        encoder, config.decoder, encoder.patch_values if pixels else encoder.width, visible
    )
    trained = (
        encoder_cost(encoder, visible)[1] + decoding + (whole if config.guidance is not None else 0)
    )
    return parameters + decoder, 3.0 * trained + (0 if pixels else whole)


def cost(config: StageConfig, recognizer: RecognizerModel | None = None) -> Cost:
    """(parameters, floating-point operations per image) of a stage; an evaluation needs its recognizer, else they are 0."""
    if isinstance(config, Pretrain | ContrastivePretrain):
        return pretrain_cost(config)
    if isinstance(config, RecognizerModel):
        parameters, forward = recognizer_cost(config)
        return parameters, 3 * forward
    return (0, 0.0) if recognizer is None else recognizer_cost(recognizer)
