"""Export of a run's weights as a released checkpoint."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from core.checkpoints.released_names import to_released
from core.config import PretrainModel, RecognizerModel
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.runtime.pickle_io import save_pickle


class ExportSummary(NamedTuple):
    """How many weights were written, and which part the file did not hold ("" if none)."""

    weights: int
    absent: str


def export_released(path: Path, out: Path) -> ExportSummary:
    """Write the weights of a run's safetensors file under the released names.

    Raises UserError if the file holds no complete LMIM or recognizer, or if the disk is full."""
    weights, metadata = safetensors_io.load(path)
    safetensors_io.check_finite_weights(weights, path)
    config = _complete_model(metadata)
    if config is None:
        raise UserError(
            f"{path}: holds no complete LMIM or recognizer, and the released code has no format"
            " for an encoder alone; name a run's model.safetensors"
        )
    state = to_released(weights, config)
    arguments = argparse.Namespace(**metadata.get("imported", {}).get("args", {}))
    save_pickle(out, {"model": state, "args": arguments})
    has_teacher = any(name.startswith("model_maeenc_momentum.") for name in state)
    complete = has_teacher or isinstance(config, RecognizerModel)
    return ExportSummary(
        len(state), "" if complete else "the frozen teacher, which our runs do not store"
    )


def _complete_model(metadata: dict[str, Any]) -> PretrainModel | RecognizerModel | None:
    """The model's config in a file's metadata; None if the file holds no complete model."""
    models: dict[str, type[PretrainModel] | type[RecognizerModel]] = {
        "pretrain": PretrainModel,
        "finetune": RecognizerModel,
    }
    model = models.get(metadata.get("stage", ""))
    settings = metadata.get("config", {})
    if model is None or not model.model_fields.keys() <= settings.keys():
        return None
    if settings["decoder"] is None:
        return None
    return model.model_validate({name: settings[name] for name in model.model_fields})
