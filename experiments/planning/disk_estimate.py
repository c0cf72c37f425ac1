"""How many bytes a run writes, estimated from its config alone.

A test compares the estimates with the files of real runs; they are within 10 %.
"""

from dataclasses import dataclass

from core.config import (
    ContrastivePretrain,
    Encoder,
    Evaluate,
    Finetune,
    Pretrain,
    Probe,
)
from core.model.cost import (
    FRAMES_PER_COLUMN,
    averaged_parameters,
    cost,
    encoder_cost,
    linear_parameters,
    moving_averages,
    norm_parameters,
)
from core.synthetic.config import Synthetic, language_sizes, split_sizes
from core.text.charset import make_charset
from experiments.planning.plan import PlannedRun, resolved_schedule

VALUE_BYTES = 4  # weights, gradients and optimizer state are stored in fp32
ADAMW_STATES = 2  # running means of the gradient and of its square, for each parameter

# Measured on the files of runs at scales smoke and mini.
TENSOR_ENTRY_BYTES = 105  # of a tensor in the header of a safetensors file
CONFIG_BYTES = 1_500  # the config in the header of `model.safetensors`
LOG_STEPS = 10  # steps between two logged ones (core/training/loop.py)
LOG_ENTRY_BYTES = 400  # of a logged step in metrics.jsonl and in the TensorBoard file
RUN_FILES_BYTES = 8_000  # config.json, record.json and state.json
PREDICTION_BYTES = 45  # of an image in predictions.csv
CORRECT_BYTES = 0.25  # of an image in correct.json and validation.json: a bit as hexadecimal digit
FEATURE_CACHE_BYTES = 8 << 30  # at most (core/probes/features.py)
RENDERED_IMAGE_BYTES = 3_200  # of a synthetic word in its LMDB, 32 x 128 pixels
RENDERED_PNG_BYTES = 10_000  # the same, as PNG
REPAIR_TENSORS = {"predictor": 5, "vicreg": 7}  # of the trained head of an alignment repair
SPLIT_BYTES = 30_000  # of an LMDB besides its images


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a run occupies.

    kept: after it is complete.
    temporary: in addition, at the moment at which the run occupies most."""

    kept: int
    temporary: int = 0

    @property
    def peak(self) -> int:
        """The most bytes that the run occupies at any moment."""
        return self.kept + self.temporary


def disk_use(run: PlannedRun) -> DiskUse:
    """The bytes that a run writes into its folder.

    A training keeps weights (fine-tuning: of `last_checkpoints` steps) and logs. It replaces its
    checkpoint atomically, so for a moment two checkpoints exist; `model.safetensors` is written
    beside the last checkpoint:

        kept = last_checkpoints * weights + logs
        temporary = max(2 * checkpoint - weights, checkpoint)

    An evaluation keeps, for each image, a row of `predictions.csv` for each of the `last`
    checkpoints and a bit of `correct.json`. A probe keeps rows of `predictions.csv`, and caches the
    encoder's features while it runs."""
    config = run.config
    if isinstance(config, Evaluate):
        image_bytes = config.last * PREDICTION_BYTES + CORRECT_BYTES
        return DiskUse(RUN_FILES_BYTES + round(run.images() * image_bytes))
    if isinstance(config, Probe):
        features = (1 + config.encoder.patches) * config.encoder.width * VALUE_BYTES
        cache = min(FEATURE_CACHE_BYTES, run.images() * features)
        return DiskUse(RUN_FILES_BYTES + run.images() * PREDICTION_BYTES, cache)
    weights = weights_bytes(config)
    checkpoint = checkpoint_bytes(config)
    validation = sum(root.images for root in run.data.get("validation", ()))
    logs = log_bytes(resolved_schedule(run).steps or 0)
    copies = config.last_checkpoints if isinstance(config, Finetune) else 1
    kept = copies * weights + logs + RUN_FILES_BYTES + round(validation * CORRECT_BYTES)
    return DiskUse(kept, max(2 * checkpoint - weights, checkpoint))


def weights_bytes(config: Pretrain | ContrastivePretrain | Finetune) -> int:
    """Size of `model.safetensors`: 4 bytes for each parameter and each value of the position table.

    Frozen parameters of a recognizer are stored too, an auxiliary CTC head is not."""
    table = (1 + config.encoder.patches) * config.encoder.width
    header = CONFIG_BYTES + (tensor_count(config) + 1) * TENSOR_ENTRY_BYTES
    return VALUE_BYTES * (cost(config).parameters + table) + header


def checkpoint_bytes(config: Pretrain | ContrastivePretrain | Finetune) -> int:
    """Size of `checkpoint.safetensors`: for each trained parameter its value and AdamW's state.

    Each tensor has four entries in the header: its values, two states and the step. Moving
    averages of the encoder are stored too, with one entry for each tensor."""
    values = (1 + ADAMW_STATES) * trained_parameters(config) + averaged_parameters(config)
    entries = (2 + ADAMW_STATES) * tensor_count(config)
    entries += moving_averages(config) * encoder_tensors(config.encoder)
    return VALUE_BYTES * values + TENSOR_ENTRY_BYTES * entries


def log_bytes(steps: int) -> int:
    """Size of metrics.jsonl and the TensorBoard file of a training."""
    return (steps // LOG_STEPS + 2) * LOG_ENTRY_BYTES


def trained_parameters(config: Pretrain | ContrastivePretrain | Finetune) -> int:
    """Parameters that the optimizer changes: those of the model, minus the frozen blocks of the
    encoder, plus the CTC head."""
    parameters = cost(config).parameters
    if isinstance(config, Finetune):
        parameters += ctc_parameters(config) - frozen_parameters(config)
    return parameters


def frozen_parameters(config: Finetune) -> int:
    """Parameters of the encoder that fine-tuning does not change (`frozen_blocks`)."""
    if config.frozen_blocks == 0:
        return 0
    frozen = config.encoder.model_copy(update={"depth": config.frozen_blocks})
    parameters = encoder_cost(frozen).parameters
    if config.frozen_blocks < config.encoder.depth:  # the final norm is trained
        parameters -= norm_parameters(config.encoder.width)
    return parameters


def ctc_parameters(config: Finetune) -> int:
    """Parameters of the auxiliary CTC head, which `cost` does not count; 0 without the loss."""
    if not config.ctc_weight:
        return 0
    classes = make_charset(config.charset).classes + 1  # and the blank
    inputs = config.encoder.grid[0] * config.encoder.width
    return linear_parameters(inputs, FRAMES_PER_COLUMN * classes)


def tensor_count(config: Pretrain | ContrastivePretrain | Finetune) -> int:
    """Number of parameter tensors of a model."""
    count = encoder_tensors(config.encoder)
    if isinstance(config, ContrastivePretrain):
        return count + 4
    if isinstance(config, Finetune):
        return count + (2 if config.decoder is None else 9 + 18 * config.decoder.layers)
    sublayers = config.decoder.order.split("-")
    branches = 2 if "CA" in sublayers else 1
    repair = None if config.alignment is None else config.alignment.repair
    heads = REPAIR_TENSORS.get("" if repair is None else repair.kind, 0)
    return count + 5 + 2 * branches + 6 * len(sublayers) * config.decoder.depth + heads


def encoder_tensors(config: Encoder) -> int:
    """Number of parameter tensors of an encoder."""
    return 5 + 12 * config.depth


def rendered_bytes(config: Synthetic, for_language: bool = False) -> int:
    """Size of a set of synthetic words: the LMDBs of all splits. Proportional to the pixels.

    for_language: the splits for hidden letters instead, whose images are PNG files."""
    sizes = language_sizes(config) if for_language else split_sizes(config)
    pixels = config.image[0] * config.image[1] / (32 * 128)
    of_image = RENDERED_PNG_BYTES if for_language else RENDERED_IMAGE_BYTES
    images = round(sum(sizes.values()) * of_image * pixels)
    return images + SPLIT_BYTES * len(sizes)
