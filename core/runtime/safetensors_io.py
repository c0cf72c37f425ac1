"""Weights as safetensors files: atomic writing, reading, and the check against a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.runtime.errors import DiskError, UserError
from core.runtime.files import atomic_path
from core.runtime.foreign_weights import foreign_weights

METADATA_KEY = "lmim"  # safetensors stores texts only; ours is one JSON text under this key


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file, atomically.

    Raises DiskError if the disk is full or fails.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(on_cpu, temporary, {METADATA_KEY: json.dumps(dict(metadata))})
        except SafetensorError as error:  # safetensors raises it for a full or failing disk
            raise DiskError(
                f"{path}: cannot be written ({error}); "
                "free disk space and run the same command again"
            ) from error


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by `save`. Raises UserError if that is impossible."""
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, _metadata(file)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        try:
            what = foreign_weights(path)
        except OSError as failure:  # such as a file without the right to read it
            raise UserError(f"{path}: cannot be read ({failure.strerror})") from error
        reason = what or f"not a readable safetensors file ({error}); move it aside or name another"
        raise UserError(f"{path}: {reason}") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a file written by `save`; {} if there is none or it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return _metadata(file)
    except (SafetensorError, OSError, json.JSONDecodeError):
        return {}


def _metadata(file: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    return metadata


def rounding_of(dtype: torch.dtype) -> float:
    """How far a number below 1 of this type can be from the number that was stored in it."""
    return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0


def check_finite_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise UserError for a tensor with NaN or infinity: a model with it predicts nothing.

    tensors: by name. path: the file that the message names."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        values = tensor if tensor.element_size() > 1 else tensor.float()  # no isfinite of 8 bits
        count = int((~torch.isfinite(values)).sum())
        if count:
            raise UserError(
                f"{path}: {name} has {count:,} of {tensor.numel():,} values that are NaN or "
                "infinite, as after a training that diverged or overflowed; name a file of an "
                "earlier step"
            )


def check_fits(
    module: nn.Module, weights: Mapping[str, Tensor], prefix: str, path: Path
) -> dict[str, Tensor]:
    """The weights for a module, with the prefix removed from their names.

    Buffers that the module computes itself (`positions`) may be missing. If present, they must be
    equal to the module's.

    Args:
        module: The module that the weights are for.
        weights: Tensors by name.
        prefix: Only names with this prefix are considered.
        path: The file that error messages name.

    Raises:
        UserError: A weight is missing, unknown, or of another shape; or a buffer differs.
    """
    selected = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
    for name, buffer in module.named_buffers():
        stored = selected.pop(name, None)
        if stored is not None and not _equal_buffers(stored, buffer):
            raise UserError(
                f"{path}: {prefix}{name} differs from this model's; "
                "set encoder.positions, image and patch to the values of the stored model"
            )
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in selected]
    if missing:
        matched = len(wanted) - len(missing)
        raise UserError(
            f"{path}: {matched} of {len(wanted)} weights matched "
            f"(first missing: {prefix}{missing[0]}); does the model have another depth or kind?"
        )
    for name, tensor in wanted.items():
        if selected[name].shape != tensor.shape:
            shapes = f"{list(selected[name].shape)}, not {list(tensor.shape)}"
            raise UserError(
                f"{path}: {prefix}{name} has shape {shapes}; "
                "does the model have another width or patch size?"
            )
    unknown = [name for name in selected if name not in wanted]
    if unknown:
        raise UserError(
            f"{path}: {prefix}{unknown[0]} is not a weight of this model; "
            "does the stored model have another depth?"
        )
    return selected


def _equal_buffers(stored: Tensor, buffer: Tensor) -> bool:
    """Whether a stored buffer equals the module's. A module on device `meta` has no values."""
    if stored.shape != buffer.shape:
        return False
    tolerance = max(1e-3, rounding_of(stored.dtype)) if stored.is_floating_point() else 0.0
    return buffer.is_meta or torch.allclose(stored.float(), buffer.cpu(), atol=tolerance)


def load_into(module: nn.Module, weights: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Load the weights with a prefix into `module`. Raises UserError as `check_fits` does."""
    module.load_state_dict(check_fits(module, weights, prefix, path))
