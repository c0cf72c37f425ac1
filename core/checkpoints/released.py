"""Import and export of released checkpoints (LMIM pre-trained and fine-tuned, MAERec).

A released file is a pickle `{"model": state dict, "args": Namespace, ...}`.
"""

import argparse
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from core.checkpoints.released_config import InferredConfig, ModelConfig, infer_config
from core.checkpoints.released_names import (
    ReleasedKind,
    from_released,
    has_counterpart,
    reason_ignored,
    released_kind,
    to_released,
)
from core.config import Encoder, FrozenModel, PretrainModel, RecognizerModel
from core.lmim import LMIM
from core.model.recognizer import Recognizer
from core.model.vit import (
    VisionTransformer,
    is_table_of,
    position_kind,
    position_table,
    table_columns,
)
from core.runtime import safetensors_io
from core.runtime.errors import UserError


@dataclass(frozen=True)
class ReleasedFile:
    """Where imported weights come from."""

    file: str  # its name
    sha256: str
    epoch: int | None
    args: dict[str, Any]  # the Namespace's plain values


@dataclass(frozen=True)
class ImportedCheckpoint:
    """A released checkpoint under our names, and what was done with each of its weights."""

    kind: ReleasedKind
    config: ModelConfig
    weights: dict[str, Tensor]
    matched: list[str]  # released names
    ignored: dict[str, str]  # released name -> why
    missing: list[str]  # parts that a file of this kind may hold and this file does not
    assumed: dict[str, Any]  # dotted key -> value that the file does not state
    source: ReleasedFile

    def metadata(self) -> dict[str, Any]:
        """The metadata of the safetensors file: those of a run, and the source of the weights."""
        stage = "finetune" if isinstance(self.config, RecognizerModel) else "pretrain"
        sections = (
            {"encoder": self.config} if isinstance(self.config, Encoder) else dict(self.config)
        )
        config = {
            name: value.model_dump(mode="json") if isinstance(value, FrozenModel) else value
            for name, value in sections.items()
        }
        imported = asdict(self.source) | {"kind": self.kind, "assumed": self.assumed}
        return {"stage": stage, "config": config, "imported": imported}


def read_released(path: Path, overrides: Mapping[str, Any] | None = None) -> ImportedCheckpoint:
    """A released checkpoint, checked against a model of its sizes.

    overrides: dotted key of the config -> value, in place of the inferred one. Raises UserError
    if no name matches, a weight is missing or of another shape, or the file is damaged."""
    content = safetensors_io.load_pickle(path)
    state = _state_dict(content, path)
    kind = released_kind(state)
    if kind is None:
        raise UserError(
            f"{path}: 0 of {len(state)} weights matched (first: {next(iter(state))});"
            " a checkpoint of LMIM or MAERec is needed"
        )
    safetensors_io.check_finite_weights(state, path)
    weights = from_released(state)
    args = content.get("args")
    config, assumed = _config_of(path, kind, state, weights, args, overrides or {})
    missing = _missing_parts(kind, weights, config)
    _check_weights(path, weights, config, with_target=not missing)
    ignored = [name for name in state if not has_counterpart(kind, name)]
    return ImportedCheckpoint(
        kind=kind,
        config=config,
        weights=_exact(weights, config if isinstance(config, Encoder) else config.encoder),
        matched=[name for name in state if has_counterpart(kind, name)],
        ignored={name: reason_ignored(name) for name in ignored},
        missing=missing,
        assumed=assumed,
        source=_source_of(path, content.get("epoch"), args),
    )


# Keys under which training frameworks store a model, the preferred one first
STATE_KEYS = (
    *("model", "state_dict", "model_state_dict", "model_state", "net", "network", "module"),
    *("model_ema", "ema", "student", "teacher"),
)
WRAPPERS = re.compile(r"^((_orig_mod|module)\.)+")  # of torch.compile and of distributed models


def _state_dict(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dict of a file; prefixes of wrapped models are removed from its names."""
    state = _find_state(content)
    if not state:
        raise UserError(
            f"{path}: holds no state dict under 'model'; a checkpoint of LMIM or MAERec is needed"
        )
    return {WRAPPERS.sub("", name): tensor for name, tensor in state.items()}


def _find_state(content: Any) -> dict[str, Tensor]:
    """The state dict in nested dictionaries, by STATE_KEYS; {} if there is none."""
    if not isinstance(content, dict):
        return {}
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return content
    found = (_find_state(content[key]) for key in STATE_KEYS if key in content)
    return next((state for state in found if state), {})


def _exact(weights: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """The weights in fp32. Position tables of half precision become the exact tables."""
    exact = {}
    for name, tensor in weights.items():
        exact[name] = tensor.float() if tensor.is_floating_point() else tensor
        if name.endswith("positions") and tensor.dtype in (torch.float16, torch.bfloat16):
            kind = position_kind(encoder, tensor)
            if kind is not None:
                sizes = encoder.model_copy(update={"positions": kind})
                columns = table_columns(sizes)
                exact[name] = position_table(encoder.width, encoder.patches, columns)
    return exact


def _config_of(
    path: Path,
    kind: ReleasedKind,
    state: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    args: Any,
    overrides: Mapping[str, Any],
) -> tuple[ModelConfig, dict[str, Any]]:
    """The config of a released file, and what it does not state. Raises UserError.

    path, kind: of the file.
    state, weights: its tensors under released names and under ours.
    args: its Namespace, if it has one.
    overrides: dotted key -> value."""
    try:
        inferred = _infer(kind, state, weights, args, overrides)
        return inferred.validate(), inferred.assumed
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {key}: {message}") from error
    except (IndexError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: its weights have shapes that no such model has ({error})"
        ) from error
    except KeyError as error:
        raise UserError(f"{path}: incomplete: {error.args[0]} is missing") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _infer(
    kind: ReleasedKind,
    state: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    args: Any,
    overrides: Mapping[str, Any],
) -> InferredConfig:
    """The inferred config with the user's overrides; the arguments are those of `_config_of`."""
    kernels = [tensor for name, tensor in state.items() if name.endswith("patch_embed.proj.weight")]
    if not kernels:
        raise KeyError("patch_embed.proj.weight")
    inferred = infer_config(
        kind,
        weights,
        kernel=kernels[0],
        max_length=getattr(args, "max_len", None),
        charset_given="charset" in overrides,
    )
    for key, value in overrides.items():
        inferred.override(key, value)
    return inferred


def _check_weights(
    path: Path, weights: Mapping[str, Tensor], config: ModelConfig, *, with_target: bool
) -> None:
    """Raise UserError unless the weights are those of a model of this config.

    path: the file, for messages.
    weights: under our names.
    config: of the model.
    with_target: whether the file holds LMIM's frozen teacher."""
    prefix = "encoder." if isinstance(config, Encoder) else ""
    module = _model_without_values(config)
    if isinstance(module, LMIM) and not with_target:
        del module.target
    safetensors_io.check_fits(module, weights, prefix, path)
    _check_tables(weights, config if isinstance(config, Encoder) else config.encoder, path)


def _model_without_values(config: ModelConfig) -> nn.Module:
    """The model on device `meta`: names and shapes only."""
    with torch.device("meta"):
        if isinstance(config, Encoder):
            return VisionTransformer(config)
        if isinstance(config, RecognizerModel):
            return Recognizer(config)
        return LMIM(config)


def _check_tables(weights: Mapping[str, Tensor], encoder: Encoder, path: Path) -> None:
    """Raise UserError unless every position table is the config's.

    The teacher's table may be of the other kind."""
    for name, table in weights.items():
        if not name.endswith("positions") or is_table_of(encoder, table):
            continue
        kind = position_kind(encoder, table)
        if kind is None:
            raise UserError(
                f"{path}: {name} is neither the released table nor the grid's;"
                " a learned table cannot be used"
            )
        if not name.startswith("target."):
            raise UserError(f"{path}: {name} is the {kind} table; set encoder.positions={kind}")


def _missing_parts(
    kind: ReleasedKind, weights: Mapping[str, Tensor], config: ModelConfig
) -> list[str]:
    """Parts that a file of this kind may hold and this file does not."""
    if kind == "MAERec pre-trained":
        return ["decoder (a MAERec file holds only an encoder: a teacher, or one to fine-tune)"]
    has_teacher = any(name.startswith("target.") for name in weights)
    needs_teacher = isinstance(config, PretrainModel) and config.target.kind != "pixel"
    return ["target.encoder (the frozen teacher)"] if needs_teacher and not has_teacher else []


def _source_of(path: Path, epoch: object, args: object) -> ReleasedFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    values = vars(args) if isinstance(args, argparse.Namespace) else {}
    plain = {
        name: value
        for name, value in values.items()
        if isinstance(value, str | int | float | bool | None)
    }
    return ReleasedFile(path.name, digest, epoch if isinstance(epoch, int) else None, plain)


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
    safetensors_io.save_pickle(out, {"model": state, "args": arguments})
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
