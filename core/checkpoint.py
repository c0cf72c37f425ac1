"""Weights on disk: safetensors written atomically; the released formats read without executing anything in them."""

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.errors import UserError
from core.files import atomic_path

_ENCODER = [(r"patch_embed\.proj\.", "patch_embed."), (r"\.pos_embed$", ".positions")]
_LMIM = [
    (r"^model_maeenc\.", "encoder."),
    (r"^model_maeenc_momentum\.", "target.encoder."),
    (r"^mask_token$", "decoder.mask_token"),
    (r"^decoder_embed\.", "decoder.embed_visible."),
    (r"^decoder_embed2\.", "decoder.embed_guidance."),
    (r"^decoder_blocks\.", "decoder.blocks."),
    (r"^decoder_norm\.", "decoder.norm."),
    (r"^decoder_pred\.", "decoder.predict."),
    (r"\.multihead_attn\.", ".cross_attention."),
    (r"\.linear1\.", ".feedforward.0."),
    (r"\.linear2\.", ".feedforward.3."),
]
_RECOGNIZER = [
    (r"^linear_norm\.", "bridge."),
    (r"^decoder\.trg_word_emb\.", "embedding."),
    (r"^decoder\.layer_stack\.", "layers."),
    (r"^decoder\.layer_norm\.", "norm."),
    (r"^decoder\.classifier\.", "classify."),
    (r"\.enc_attn\.", ".cross_attention."),
    (r"\.linear_q\.", ".query."),
    (r"\.linear_k\.", ".key."),
    (r"\.linear_v\.", ".value."),
    (r"\.fc\.", ".out."),
    (r"\.mlp\.w_1\.", ".feedforward.0."),
    (r"\.mlp\.w_2\.", ".feedforward.2."),
]
_DECODER_BLOCK = [
    (r"\.self_attn\.", ".self_attention."),
    (r"^((?:decoder\.blocks|layers)\.\d+)\.norm([123])\.", r"\1.norms.\2."),
]
_COMPUTED = re.compile(r"(^|\.)(decoder_pos_embed|position_table)$")  # tables, not weights


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict under our names: LMIM pre-trained or fine-tuned, or MAERec (encoder only, named `encoder.*`)."""
    if any(name.startswith("model_maeenc.") for name in state):
        rules, wanted = _LMIM, ""
    elif any(name.startswith("linear_norm.") for name in state):
        rules, wanted = _RECOGNIZER, r"^(encoder|linear_norm|decoder)\."  # the rest are aliases of the encoder's
    else:
        rules, wanted = [(r"^", "encoder.")], r"^(cls_token|pos_embed|patch_embed|blocks|norm)"  # without MAERec's decoder
    renamed = {}
    for name, tensor in state.items():
        if _COMPUTED.search(name) or not re.search(wanted, name):
            continue
        for pattern, replacement in [*rules, *_ENCODER, *_DECODER_BLOCK]:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"\.norms\.([123])\.", lambda match: f".norms.{int(match[1]) - 1}.", name)
        renamed[name] = tensor.flatten(1) if name.endswith("patch_embed.weight") else tensor
    return renamed


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata as safetensors, atomically."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(on_cpu, temporary, {"lmim": json.dumps(dict(metadata))})
        except SafetensorError as error:  # how safetensors tells of a full or failing disk
            raise UserError(f"{path}: cannot be written ({error}); make room, then the same command goes on") from error


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by `save`. Raises UserError if it is missing or not such a file."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, json.loads((file.metadata() or {}).get("lmim", "{}"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); delete it or name another") from error


def load_weights(path: Path) -> dict[str, Tensor]:
    """Weights under our names from our own safetensors or from a released `.pth`; nothing in the file is executed."""
    if path.suffix == ".safetensors":
        return load(path)[0]
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise UserError(f"{path}: not a checkpoint that can be read without executing code ({reason})") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no state dict under 'model'; a released .pth or our .safetensors is needed")
    return from_released(state)


def load_into(module: nn.Module, weights: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Fill `module` with the weights below `prefix`. Raises UserError unless every one is there in its shape.

    Tables that the module computes (`positions`) need not be there, but must be equal where they are."""
    found = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    for name, table in module.named_buffers():
        given = found.pop(name, table)
        if given.shape != table.shape or not torch.allclose(given, table.cpu(), atol=1e-4):
            raise UserError(f"{path}: {prefix}{name} is another table; set encoder.positions, image and patch as it was made")
    wanted = dict(module.state_dict())
    missing = [name for name in wanted if name not in found]
    if missing:
        message = f"{path}: {len(wanted) - len(missing)} of {len(wanted)} weights matched (first missing: {prefix}{missing[0]})"
        raise UserError(f"{message}; was it made with another depth or kind of model?")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            shapes = f"{list(found[name].shape)}, not {list(tensor.shape)}"
            raise UserError(f"{path}: {prefix}{name} has shape {shapes}; was it made with another width or patch?")
    extra = [name for name in found if name not in wanted]
    if extra:
        raise UserError(f"{path}: {prefix}{extra[0]} has no place in this model; was it made with another depth?")
    module.load_state_dict(found)
