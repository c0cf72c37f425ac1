"""Import of released checkpoints (LMIM pre-trained and fine-tuned, MAERec).

A released file is a pickle `{"model": state dict, "args": Namespace, ...}`.
"""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
)
from core.checkpoints.state_dicts import find_state_dict
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
from core.runtime.pickle_io import load_pickle
from core.runtime.validation import first_problem


@dataclass(frozen=True)
class ReleasedFile:
    """Where imported weights come from."""

    file: str  # its name
    sha256: str
    epoch: int | None
    args: dict[str, Any]  # the Namespace's plain values
    state: str  # key of the state dict in the file


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
    alternatives: list[str]  # keys of the other state dicts in the file

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


def read_released(
    path: Path, overrides: Mapping[str, Any] | None = None, state_key: str | None = None
) -> ImportedCheckpoint:
    """A released checkpoint, checked against a model of its sizes.

    overrides: dotted key of the config -> value, in place of the inferred one. state_key: which of
    the file's state dicts to take; None takes the first of STATE_KEYS. Raises UserError if no name
    matches, a weight is missing, of another shape or type, or the file is damaged."""
    content = load_pickle(path)
    found = find_state_dict(content, path, state_key)
    state = found.tensors
    kind = released_kind(state)
    assert kind is not None  # by `find_state_dict`
    _check_values(state, kind, path)
    weights = from_released(state)
    args = content.get("args")
    config, assumed = _config_of(path, kind, state, weights, args, overrides or {})
    missing = _missing_parts(kind, weights, config)
    _check_weights(path, weights, config, with_target=not missing)
    ignored = {
        name: reason_ignored(name) for name in state if not has_counterpart(kind, name)
    } | dict.fromkeys(found.other_values, "not a tensor")
    return ImportedCheckpoint(
        kind=kind,
        config=config,
        weights=_exact(weights, config if isinstance(config, Encoder) else config.encoder),
        matched=[name for name in state if has_counterpart(kind, name)],
        ignored=ignored,
        missing=missing,
        assumed=assumed,
        source=_source_of(path, content.get("epoch"), args, found.key),
        alternatives=found.alternatives,
    )


def _check_values(state: Mapping[str, Tensor], kind: ReleasedKind, path: Path) -> None:
    """Raise UserError for a weight that is no floating-point tensor, or not finite."""
    for name, tensor in state.items():
        if has_counterpart(kind, name) and not tensor.is_floating_point():
            stored = str(tensor.dtype).removeprefix("torch.")
            raise UserError(
                f"{path}: {name} is stored as {stored}; import needs weights of a floating-point "
                "type, not quantized ones"
            )
    safetensors_io.check_finite_weights(state, path)


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
        raise UserError(f"{path}: {first_problem(error)}") from error
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
    max_length = getattr(args, "max_len", None)
    inferred = infer_config(
        kind,
        weights,
        kernel=kernels[0],
        max_length=max_length if isinstance(max_length, int) else None,
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
                f"{path}: {name} is neither the released table nor the grid's; a learned table "
                "cannot be used: train the encoder with the fixed table of `position_table` in "
                "core/model/vit.py"
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
    needs_teacher = isinstance(config, PretrainModel) and config.has_frozen_target
    return ["target.encoder (the frozen teacher)"] if needs_teacher and not has_teacher else []


def _source_of(path: Path, epoch: object, args: object, state: str) -> ReleasedFile:
    """Where the weights come from. state: key of the state dict in the file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    values = vars(args) if isinstance(args, argparse.Namespace) else {}
    plain = {
        name: value
        for name, value in values.items()
        if isinstance(value, str | int | float | bool | None)
    }
    epochs = epoch if isinstance(epoch, int) else None
    return ReleasedFile(path.name, digest, epochs, plain, state)
