"""Weights from a file: a run's safetensors, or a checkpoint of the released code."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.checkpoints.released import read_released
from core.config import Encoder, RecognizerModel
from core.model.targets import teacher_encoder
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.errors import UserError


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights under our names and their metadata, from a `.safetensors` or a released file.

    Raises UserError if the file is missing, damaged, or of another kind."""
    if path.suffix == ".safetensors":
        weights, metadata = safetensors_io.load(path)
        safetensors_io.check_finite_weights(weights, path)
        return weights, metadata
    imported = read_released(path)
    return imported.weights, imported.metadata()


@cache
def check_encoder(path: Path, config: Encoder, any_position_table: bool) -> None:
    """Raise UserError unless the file holds an encoder of these sizes.

    any_position_table: whether its position table may be of another kind than the config's."""
    weights = load_weights(path)[0]
    sizes = teacher_encoder(config, weights) if any_position_table else config
    with torch.device("meta"):
        module = VisionTransformer(sizes)
    safetensors_io.check_fits(module, weights, "encoder.", path)


def read_recognizer(path: Path) -> tuple[RecognizerModel, dict[str, Tensor]]:
    """Config and weights of a recognizer's file. Raises UserError if it holds none."""
    weights, metadata = load_weights(path)
    if metadata.get("stage") != "finetune":
        raise UserError(
            f"{path}: holds no recognizer; name the model.safetensors of a finetune run,"
            " or a fine-tuned checkpoint"
        )
    settings = {name: metadata["config"][name] for name in RecognizerModel.model_fields}
    return RecognizerModel.model_validate(settings), weights
