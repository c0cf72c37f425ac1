"""Weights on disk: safetensors written atomically, pickles read without executing anything in them."""

import argparse
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.runtime.errors import UserError
from core.runtime.files import atomic_path


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata as safetensors, atomically."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(on_cpu, temporary, {"lmim": json.dumps(dict(metadata))})
        except SafetensorError as error:  # how safetensors tells of a full or failing disk
            raise UserError(
                f"{path}: cannot be written ({error}); make room, then the same command goes on"
            ) from error


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by `save`. Raises UserError if it is missing or not such a file."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, json.loads((file.metadata() or {}).get("lmim", "{}"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); delete it or name another"
        ) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a file written by `save`; {} where there is none, or none that can be read."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get("lmim", "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError):
        return {}


def load_pickle(path: Path) -> dict[str, Any]:
    """A dictionary written by `torch.save`; nothing in it is executed, an `argparse.Namespace` is let in. Raises UserError."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # what a file's pickle protocol may mean: an error below tells the user
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: a folder, not a checkpoint") from error
    except Exception as error:  # what the reader of a damaged pickle raises is not documented
        text = " ".join(str(error).split())
        named = re.search(r"GLOBAL (\S+)", text) or re.search(
            r"Unsupported (?:global|operand)[^.]*", text
        )
        plain = text.split(". ")[0][:160] if len(text) > 8 else type(error).__name__
        reason = f"it asks for {named[1]}" if named and named.lastindex else plain
        raise UserError(
            f"{path}: damaged, or not a checkpoint that can be read without executing code ({reason})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds a {type(content).__name__}, not a dictionary with a state dict under 'model'"
        )
    return content


def check_fits(
    module: nn.Module, weights: Mapping[str, Tensor], prefix: str, path: Path
) -> dict[str, Tensor]:
    """The weights below `prefix`, if they are those of `module`. Raises UserError unless every one is there in its shape.

    Tables that the module computes (`positions`) need not be there, but must be equal where they are."""
    found = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
    for name, table in module.named_buffers():
        given = found.pop(name, None)
        same = given is None or (
            given.shape == table.shape
            and (table.is_meta or torch.allclose(given.float(), table.cpu(), atol=1e-3))
        )
        if not same:
            raise UserError(
                f"{path}: {prefix}{name} is another table; set encoder.positions, image and patch as it was made"
            )
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in found]
    if missing:
        message = f"{path}: {len(wanted) - len(missing)} of {len(wanted)} weights matched (first missing: {prefix}{missing[0]})"
        raise UserError(f"{message}; was it made with another depth or kind of model?")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            shapes = f"{list(found[name].shape)}, not {list(tensor.shape)}"
            raise UserError(
                f"{path}: {prefix}{name} has shape {shapes}; was it made with another width or patch?"
            )
    extra = [name for name in found if name not in wanted]
    if extra:
        raise UserError(
            f"{path}: {prefix}{extra[0]} has no place in this model; was it made with another depth?"
        )
    return found


def load_into(module: nn.Module, weights: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Fill `module` with the weights below `prefix`. Raises UserError unless they fit."""
    module.load_state_dict(check_fits(module, weights, prefix, path))
