"""How much memory a run needs at most, estimated from its config alone.

A training holds weights, gradients, AdamW's state and what the backward pass needs of the forward
pass (activations). Norm statistics, masks of attention and random draws count as zero. A test
compares the estimate with a measured training step; it is within a factor of 1.5.

Values have 4 bytes, or with precision bf16 2 bytes where autocast computes in bf16. The inputs of
layer norms have 4.
"""

from core.config import (
    ContrastivePretrain,
    Encoder,
    Evaluate,
    Finetune,
    Pretrain,
    Probe,
    RecognizerModel,
    ReconstructionDecoder,
    StageConfig,
    visible_count,
)
from core.model.cost import (
    FRAMES_PER_COLUMN,
    MLP_RATIO,
    averaged_parameters,
    encoder_cost,
    recognizer_cost,
)
from core.text.charset import make_charset
from experiments.planning.disk_estimate import (
    ADAMW_STATES,
    VALUE_BYTES,
    frozen_parameters,
    trained_parameters,
)

PROCESS_BYTES = 400_000_000  # Python, PyTorch and the other libraries; on a GPU: CUDA's context
PROBE_BATCH = 128  # words of a forward pass of a probe (core/probes/features.py)
WORKSPACE = 3 * MLP_RATIO  # values of the largest temporary tensors, per token and width
COMPUTE_BYTES = {"fp32": 4, "bf16": 2}


def memory_bytes(
    config: StageConfig,
    recognizer: RecognizerModel | None = None,
    *,
    micro_batch: int | None = None,
    processes: int = 1,
) -> int:
    """The most memory that one process of a run needs, on the device that computes it.

    Training: process + states + max(activations and workspace, copy of the checkpoint).

    config: of the run.
    recognizer: of an evaluation; None counts as no recognizer.
    micro_batch: images of a forward pass; None: the whole batch.
    processes: the processes that share each batch."""
    if isinstance(config, Evaluate):
        weights = 0
        activations = 0
        if recognizer is not None:
            weights = VALUE_BYTES * recognizer_cost(recognizer).parameters
            activations = config.batch * decoding_bytes(recognizer, config)
        return PROCESS_BYTES + 2 * weights + activations  # the file and the model
    if isinstance(config, Probe):
        features = (1 + config.encoder.patches) * config.encoder.width * VALUE_BYTES
        weights = VALUE_BYTES * encoder_cost(config.encoder).parameters
        return PROCESS_BYTES + 2 * weights + PROBE_BATCH * WORKSPACE * features
    batch = -(-config.optimizer.batch // processes)
    images = min(batch, micro_batch or batch)
    values = (1 + ADAMW_STATES) * trained_parameters(config) + averaged_parameters(config)
    copies = VALUE_BYTES * values
    return PROCESS_BYTES + state_bytes(config) + max(images * activation_bytes(config), copies)


def state_bytes(config: Pretrain | ContrastivePretrain | Finetune) -> int:
    """Bytes that stay for the whole training.

    16 for each trained parameter: weight, gradient and two states of AdamW in fp32. 4 for each
    frozen parameter: a teacher's or a random encoder, moving averages of the encoder, and frozen
    blocks."""
    frozen = averaged_parameters(config)
    if isinstance(config, Finetune):
        frozen += frozen_parameters(config)
    elif isinstance(config, Pretrain) and config.has_frozen_target:
        frozen += encoder_cost(config.encoder).parameters
    return VALUE_BYTES * ((2 + ADAMW_STATES) * trained_parameters(config) + frozen)


def activation_bytes(config: Pretrain | ContrastivePretrain | Finetune) -> int:
    """Bytes per image of a training step: image, activations of all branches, workspace."""
    encoder = config.encoder
    compute = COMPUTE_BYTES[config.precision]
    height, width = encoder.image
    image = 3 * height * width * (1 + 4 * VALUE_BYTES)  # uint8; in [0, 1], a view, normalized, copy
    workspace = WORKSPACE * encoder.width * (1 + encoder.patches) * compute
    whole = encoder_bytes(encoder, encoder.patches, compute)
    if isinstance(config, ContrastivePretrain):
        return image + workspace + 2 * whole
    if isinstance(config, Finetune):
        blocks = encoder.depth - config.frozen_blocks  # those that have a backward pass
        return image + workspace + whole * blocks // encoder.depth + text_bytes(config, compute)
    visible = visible_count(encoder.patches, config.mask.ratio)
    branches = encoder_bytes(encoder, visible, compute)
    if config.guidance is not None:
        branches += whole
    decoder = decoder_bytes(encoder, config.decoder, config.target_values, compute)
    return image + workspace + branches + decoder


def encoder_bytes(config: Encoder, patches: int, compute: int) -> int:
    """Activations of the encoder, per image.

    Per token, block and unit of width: 2 inputs of norms (4 bytes each); 2 outputs of norms, 3 of
    queries, keys and values, 1 of attention, and 2 of `MLP_RATIO` in the feed-forward network.

    config: of the encoder.
    patches: patches that enter it.
    compute: bytes of a value in matrix products."""
    per_block = 2 * VALUE_BYTES + (2 + 3 + 1 + 2 * MLP_RATIO) * compute
    tokens = 1 + patches
    embedding = tokens * config.patch_values * VALUE_BYTES
    return embedding + tokens * config.width * (config.depth * per_block + 2 * VALUE_BYTES)


def decoder_bytes(
    encoder: Encoder, config: ReconstructionDecoder, values: int, compute: int
) -> int:
    """Activations of the reconstruction decoder, per image.

    Each sub-layer keeps its input, the input of its norm and a dropout mask of 1 byte. Attention
    keeps queries, keys, values and its output; the feed-forward network keeps its inner values
    before and after GELU. The prediction, the target and their difference are in fp32.

    encoder: the encoder whose features it gets.
    config: of the decoder.
    values: predicted values per patch.
    compute: bytes of a value in matrix products."""
    mask = 1 if config.dropout else 0
    tokens = 1 + encoder.patches
    total = 3 * encoder.patches * values * VALUE_BYTES
    total += 3 * tokens * config.width * VALUE_BYTES  # embedded branches, sequence
    for sublayer in config.order.split("-") * config.depth:
        total += tokens * config.width * (VALUE_BYTES + compute + mask)
        if sublayer == "FFN":
            total += tokens * config.feedforward * (2 * compute + mask)
        else:
            total += tokens * config.width * 4 * compute
    return total


def text_bytes(config: RecognizerModel, compute: int) -> int:
    """Activations of the bridge and text decoder of a recognizer, or its CTC head, per image.

    Each layer keeps, per position of text: 3 inputs of norms and 3 dropout masks; 3 outputs of
    norms, 4 values of self-attention, 2 of cross-attention, and the inner values of the
    feed-forward network before and after GELU; and per image feature: a key and a value.

    compute: bytes of a value in matrix products."""
    decoder = config.decoder
    if decoder is None:  # logits, their logarithms and gradients
        columns = config.encoder.grid[1]
        classes = make_charset(config.charset).classes + 1
        return 3 * columns * FRAMES_PER_COLUMN * classes * VALUE_BYTES
    mask = 1 if decoder.dropout else 0
    features = 1 + config.encoder.patches
    norms = 3 * decoder.width * (VALUE_BYTES + mask + compute)
    attention = 6 * decoder.width * compute
    feedforward = 2 * decoder.feedforward * compute
    layer = config.max_length * (norms + attention + feedforward)
    layer += features * 2 * decoder.width * compute
    bridge = features * decoder.width * 2 * VALUE_BYTES
    return bridge + decoder.layers * layer


def decoding_bytes(config: RecognizerModel, evaluation: Evaluate) -> int:
    """Bytes per image of greedy decoding or beam search, without activations.

    The encoder's features, and then the larger one of two: the workspace of an encoder block; or
    in each layer of the text decoder the keys and values of the image (twice while they are
    rearranged) and of the text, for each beam."""
    compute = COMPUTE_BYTES[evaluation.precision]
    features = 1 + config.encoder.patches
    encoded = features * config.encoder.width * VALUE_BYTES
    workspace = features * config.encoder.width * WORKSPACE * compute
    decoder = config.decoder
    if decoder is None:
        return encoded + workspace
    sources = (decoder.layers + 1) * features * 2 * decoder.width * compute
    caches = evaluation.beams * decoder.layers * config.max_length * 2 * decoder.width * compute
    return encoded + max(workspace, sources + caches)
