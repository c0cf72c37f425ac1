"""Checkpoints of the released codes (LMIM pre-trained and fine-tuned, MAERec) under our names, and ours under theirs.

A released file is a pickle `{"model": state dict, "args": Namespace, ...}`. It does not say everything: numbers of heads, and
the order of the decoder's sub-layers, are those of the paper's recipe unless the caller says otherwise.
"""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from core.config import Encoder, FrozenModel, PretrainModel, RecognizerModel
from core.lmim import LMIM
from core.model.recognizer import Recognizer, text_positions
from core.model.targets import teacher_encoder
from core.model.vit import (
    VisionTransformer,
    is_table_of,
    position_kind,
    position_table,
    table_columns,
)
from core.runtime import safetensors_io
from core.runtime.errors import UserError
from core.runtime.files import atomic_path

Pairs = tuple[tuple[str, str], ...]  # (released, ours)
Kind = Literal["LMIM pre-trained", "LMIM fine-tuned", "MAERec pre-trained"]
_VIT: Pairs = (("patch_embed.proj.", "patch_embed."), ("pos_embed", "positions"))
_BLOCK: Pairs = (
    ("self_attn.", "self_attention."),
    ("multihead_attn.", "cross_attention."),
    ("linear1.", "feedforward.0."),
    ("linear2.", "feedforward.3."),
    *((f"norm{number + 1}.", f"norms.{number}.") for number in range(3)),
)
_LAYER: Pairs = (
    ("self_attn.", "self_attention."),
    ("enc_attn.", "cross_attention."),
    *((f"linear_{name[0]}.", f"{name}.") for name in ("query", "key", "value")),
    ("fc.", "out."),
    ("mlp.w_1.", "feedforward.0."),
    ("mlp.w_2.", "feedforward.2."),
    *((f"norm{number + 1}.", f"norms.{number}.") for number in range(3)),
)
_PARTS: dict[
    Kind, tuple[tuple[str, str, Pairs], ...]
] = {  # (prefix there, prefix here, what is renamed below it)
    "LMIM pre-trained": (
        ("model_maeenc.", "encoder.", _VIT),
        ("model_maeenc_momentum.", "target.encoder.", _VIT),
        ("mask_token", "decoder.mask_token", ()),
        ("decoder_embed.", "decoder.embed_visible.", ()),
        ("decoder_embed2.", "decoder.embed_guidance.", ()),
        ("decoder_blocks.", "decoder.blocks.", _BLOCK),
        ("decoder_norm.", "decoder.norm.", ()),
        ("decoder_pred.", "decoder.predict.", ()),
    ),
    "LMIM fine-tuned": (
        ("encoder.", "encoder.", _VIT),
        ("linear_norm.", "bridge.", ()),
        ("decoder.trg_word_emb.", "embedding.", ()),
        ("decoder.layer_stack.", "layers.", _LAYER),
        ("decoder.layer_norm.", "norm.", ()),
        ("decoder.classifier.", "classify.", ()),
    ),
    "MAERec pre-trained": (
        *((name, f"encoder.{name}", ()) for name in ("cls_token", "blocks.", "norm.")),
        ("patch_embed.proj.", "encoder.patch_embed.", ()),
        ("pos_embed", "encoder.positions", ()),
    ),
}
_IGNORED = (  # (prefix of a released name, why it is not taken)
    ("decoder_pos_embed", "a table that we compute"),
    ("decoder.position_enc.", "a table that we compute"),
    ("pos_embed", "an alias of the encoder's"),
    ("patch_embed.", "an alias of the encoder's"),
    ("mask_token", "MAE's own decoder, not needed"),
    ("decoder_", "MAE's own decoder, not needed"),
)
_HEADS = {
    "encoder": {192: 3, 384: 6, 768: 12},
    "reconstruction": {512: 16},
    "text": {512: 8},
}  # of known widths


@dataclass(frozen=True)
class Imported:
    """A released checkpoint under our names, and what became of every weight in it."""

    kind: Kind
    config: FrozenModel  # Encoder, PretrainModel or RecognizerModel
    weights: dict[str, Tensor]
    matched: list[str]  # released names
    ignored: dict[str, str]  # released name -> why
    missing: list[str]  # what a checkpoint of this kind might hold besides
    assumed: dict[str, Any]  # what the file does not say
    source: dict[str, Any]

    def metadata(self) -> dict[str, Any]:
        """What is stored beside the weights: as a run of ours stores it, and where they came from."""
        stage = "finetune" if isinstance(self.config, RecognizerModel) else "pretrain"
        config = {"encoder": self.config} if isinstance(self.config, Encoder) else dict(self.config)
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, FrozenModel) else value
            for name, value in config.items()
        }
        return {
            "stage": stage,
            "config": plain,
            "imported": self.source | {"kind": self.kind, "assumed": self.assumed},
        }


def kind_of(names: Mapping[str, Any]) -> Kind | None:
    """Which released code wrote a state dict with these names; None if none of them did."""
    if any(name.startswith("model_maeenc.") for name in names):
        return "LMIM pre-trained"
    if any(name.startswith(("linear_norm.", "decoder.trg_word_emb.")) for name in names):
        return "LMIM fine-tuned"
    if any(name.startswith("blocks.") for name in names):
        return "MAERec pre-trained"
    return None


def _rename(name: str, prefix: str, new: str, pairs: Pairs) -> str:
    rest = name.removeprefix(prefix)
    for old, ours in pairs:
        if rest.startswith(old) or f".{old}" in rest:
            rest = rest.replace(old, ours, 1)
    return new + rest


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict under our names; what has no place in our models is left out. Raises ValueError for other files."""
    kind = kind_of(state)
    if kind is None:
        raise ValueError("no weight has a name of LMIM's or MAERec's")
    renamed = {}
    for name, tensor in state.items():
        for prefix, new, pairs in _PARTS[kind]:
            if name.startswith(prefix):
                ours = _rename(name, prefix, new, pairs)
                shaped = tensor.flatten(1) if ours.endswith("patch_embed.weight") else tensor
                renamed[ours] = shaped.clone()  # two names may share one tensor there
    return renamed


def to_released(
    weights: Mapping[str, Tensor], config: PretrainModel | RecognizerModel
) -> dict[str, Tensor]:
    """The inverse of `from_released`: LMIM's names, its tables and its aliases included."""
    kind: Kind = "LMIM fine-tuned" if isinstance(config, RecognizerModel) else "LMIM pre-trained"
    encoder, state = config.encoder, {}
    weights = {
        **weights,
        "encoder.positions": position_table(encoder.width, encoder.patches, table_columns(encoder)),
    }
    for name, tensor in weights.items():
        for prefix, ours, pairs in _PARTS[kind]:
            if name.startswith(ours):
                theirs = _rename(name, ours, prefix, tuple((new, old) for old, new in pairs))
                shape = (
                    (-1, 3, *encoder.patch)
                    if theirs.endswith("patch_embed.proj.weight")
                    else tensor.shape
                )
                state[theirs] = tensor.detach().cpu().reshape(shape).contiguous()
                break
    width = config.decoder.width
    if isinstance(config, RecognizerModel):
        state["decoder.position_enc.position_table"] = text_positions(200, width)
        aliases = {
            name: name.removeprefix("encoder.")
            for name in state
            if name.startswith(("encoder.pos", "encoder.patch"))
        }
        return state | {alias: state[name] for name, alias in aliases.items()}
    return state | {
        "decoder_pos_embed": position_table(width, encoder.patches, table_columns(encoder))
    }


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of blocks, told by the highest number below a prefix."""
    numbers = [name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def _heads(part: str, width: int, assumed: dict[str, Any], key: str) -> int:
    """Known widths have the paper's heads, others one for each 16 dimensions: no checkpoint tells."""
    assumed[key] = _HEADS[part].get(width, max(width // 16, 1))
    return assumed[key]


def _encoder_config(
    weights: Mapping[str, Tensor], kernel: Tensor, assumed: dict[str, Any]
) -> dict[str, Any]:
    """Sizes of the encoder in weights under our names; kernel: the released (D, 3, patch height, patch width) embedding."""
    width, patch = (
        weights["encoder.cls_token"].shape[-1],
        (int(kernel.shape[2]), int(kernel.shape[3])),
    )
    table = weights.get("encoder.positions")
    if table is not None and (table.ndim != 3 or table.shape[-1] != width):
        raise ValueError(
            f"pos_embed has shape {list(table.shape)}, not [1, patches + 1, {width}] as cls_token's width asks"
        )
    patches = 256 if table is None else table.shape[1] - 1
    height = isqrt(patches * patch[0] * patch[1] // 4)
    assumed["encoder.image"] = [height, 4 * height]  # four times as wide as high, as in the paper
    config = {
        "image": (height, 4 * height),
        "patch": patch,
        "width": width,
        "depth": _depth(weights, "encoder.blocks."),
    }
    config["heads"] = _heads("encoder", width, assumed, "encoder.heads")
    columns = 4 * height // patch[1]
    by_grid = table is not None and torch.allclose(
        table.float(), position_table(width, patches, columns), atol=1e-4
    )
    return config | {"positions": "grid" if by_grid else "released"}


def _config(
    kind: Kind,
    state: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    args: Any,
    said: Mapping[str, Any],
) -> Any:
    """(class of the config, its content, what is assumed)."""
    assumed: dict[str, Any] = {}
    kernel = next(
        tensor for name, tensor in state.items() if name.endswith("patch_embed.proj.weight")
    )
    encoder = _encoder_config(weights, kernel, assumed)
    if kind == "MAERec pre-trained":
        return Encoder, {"encoder": encoder}, assumed
    if kind == "LMIM pre-trained":
        width, guided = (
            weights["decoder.mask_token"].shape[-1],
            "decoder.embed_guidance.weight" in weights,
        )
        decoder = {
            "order": "SA-CA-FFN" if guided else "SA-FFN",
            "width": width,
            "depth": _depth(weights, "decoder.blocks."),
        }
        decoder["heads"] = _heads("reconstruction", width, assumed, "decoder.heads")
        decoder["feedforward"] = weights["decoder.blocks.0.feedforward.0.weight"].shape[0]
        assumed["decoder.order"] = decoder["order"]
        branches: dict[str, Any] = {
            "guidance": {} if guided else None,
            "alignment": {} if guided else None,
        }
        predicted = weights["decoder.predict.weight"].shape[0]
        target = "mae_feature" if predicted == encoder["width"] else "pixel"
        return (
            PretrainModel,
            {"encoder": encoder, "decoder": decoder, **branches, "target": {"kind": target}},
            assumed,
        )
    classes, width = weights["classify.weight"].shape
    decoder = {
        "width": width,
        "layers": _depth(weights, "layers."),
        "heads": _heads("text", width, assumed, "decoder.heads"),
    }
    decoder["feedforward"] = weights["layers.0.feedforward.0.weight"].shape[0]
    length = getattr(args, "max_len", None)
    if length is None:
        length = assumed["max_length"] = 25 if classes == 97 else 40
    if classes != 97 and "charset" not in said:
        raise ValueError(
            f"has {classes:,} classes; name its {classes - 3:,} characters with --set charset=file:PATH"
        )
    return RecognizerModel, {"encoder": encoder, "decoder": decoder, "max_length": length}, assumed


def _make(config: FrozenModel) -> tuple[nn.Module, str]:
    """A model of a config, and the prefix of its weights among those imported."""
    if isinstance(config, Encoder):
        return VisionTransformer(config), "encoder."
    return (Recognizer(config), "") if isinstance(config, RecognizerModel) else (LMIM(config), "")  # type: ignore[arg-type]


def read_released(path: Path, said: Mapping[str, Any] | None = None) -> Imported:
    """A released checkpoint, checked against a model of its sizes. said: dotted key of the config -> value, instead of what is
    inferred. Raises UserError if nothing matches, a weight is missing or of another shape, or the file is damaged."""
    content, said = safetensors_io.load_pickle(path), said or {}
    state = content.get("model", content)
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise UserError(
            f"{path}: holds no state dict under 'model'; a checkpoint of LMIM or MAERec is needed"
        )
    state = {
        name.removeprefix("module."): tensor for name, tensor in state.items()
    }  # of a model that was distributed
    kind = kind_of(state)
    if kind is None:
        raise UserError(
            f"{path}: 0 of {len(state)} weights matched (first: {next(iter(state))}); a checkpoint of LMIM or MAERec is needed"
        )
    weights, args = from_released(state), content.get("args")
    try:
        model, tree, assumed = _config(kind, state, weights, args, said)
        for key, value in said.items():
            tree = _with(tree, key.split("."), value)
            assumed.pop(key, None)
        if model is Encoder and (other := tree.keys() - {"encoder"}):
            raise ValueError(f"--set {min(other)}: this file holds an encoder alone")
        config = model.model_validate(tree["encoder"] if model is Encoder else tree)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{key}." for key in problem["loc"])[:-1]
        raise UserError(
            f"{path}: {place}: {problem['msg'].removeprefix('Value error, ')}"
        ) from error
    except (IndexError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: its weights have shapes that no such model has ({error})"
        ) from error
    except (StopIteration, KeyError) as error:
        blocked_experiments = error.args[0] if error.args else "patch_embed.proj.weight"
        raise UserError(f"{path}: not whole: {blocked_experiments} is missing") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    with torch.device("meta"):
        module, prefix = _make(config)
    lacks = _lacks(kind, weights, config)
    if isinstance(module, LMIM) and lacks:
        del module.target  # a file may come without the frozen teacher
    safetensors_io.check_fits(module, weights, prefix, path)
    _check_tables(weights, config if isinstance(config, Encoder) else config.encoder, path)
    matched = [name for name in state if any(name.startswith(part) for part, _, _ in _PARTS[kind])]
    rest = [name for name in state if name not in matched]
    ignored = {
        name: next((why for part, why in _IGNORED if name.startswith(part)), "unknown")
        for name in rest
    }
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    epoch = content.get("epoch")
    source = {
        "file": path.name,
        "sha256": digest,
        "epoch": epoch if isinstance(epoch, int) else None,
        "args": _plain(args),
    }
    return Imported(kind, config, weights, matched, ignored, lacks, assumed, source)


def _check_tables(weights: Mapping[str, Tensor], encoder: Encoder, path: Path) -> None:
    """Raise UserError unless every position table in a file is the one its config stands for; a teacher's may be the other."""
    for name, table in weights.items():
        teachers = name.startswith("target.") and position_kind(encoder, table) is not None
        if name.endswith("positions") and not teachers and not is_table_of(encoder, table):
            kind = position_kind(encoder, table)
            known = f"is the {kind} table; set encoder.positions={kind}"
            unknown = "is neither the released table nor the grid's; a learned one cannot be used"
            raise UserError(f"{path}: {name} {known if kind else unknown}")


def _with(tree: Any, keys: list[str], value: Any) -> Any:
    if not isinstance(tree, dict):
        raise ValueError(f"--set: {keys[0]}: there is nothing below a single value")
    return {
        **tree,
        keys[0]: value if len(keys) == 1 else _with(tree.get(keys[0]) or {}, keys[1:], value),
    }


def _plain(args: Any) -> dict[str, Any]:
    """What a Namespace says in plain values."""
    values = vars(args) if isinstance(args, argparse.Namespace) else {}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, str | int | float | bool | None)
    }


def _lacks(kind: Kind, weights: Mapping[str, Tensor], config: FrozenModel) -> list[str]:
    """Parts that a file of this kind may hold and this one does not."""
    if kind == "MAERec pre-trained":
        return ["decoder (an MAERec file gives an encoder: a teacher, or one to fine-tune)"]
    frozen = isinstance(config, PretrainModel) and config.target.kind != "pixel"
    if frozen and not any(name.startswith("target.") for name in weights):
        return ["target.encoder (the frozen teacher)"]
    return []


def export_released(path: Path, out: Path) -> tuple[int, str]:
    """Write our safetensors under the released names; returns the number of weights and what the file did not hold.

    Raises UserError if it holds no model of ours."""
    weights, metadata = safetensors_io.load(path)
    models: dict[str, type[PretrainModel] | type[RecognizerModel]] = {
        "pretrain": PretrainModel,
        "finetune": RecognizerModel,
    }
    model, content = models.get(metadata.get("stage", "")), metadata.get("config", {})
    whole = (
        model is not None
        and model.model_fields.keys() <= content.keys()
        and content["decoder"] is not None
    )
    if model is None or not whole:
        reason = "holds no whole LMIM or recognizer, and an encoder alone has no place there"
        raise UserError(f"{path}: {reason}; name a run's model.safetensors")
    config = model.model_validate({name: content[name] for name in model.model_fields})
    assert isinstance(config, PretrainModel | RecognizerModel)
    state = to_released(weights, config)
    arguments = argparse.Namespace(**metadata.get("imported", {}).get("args", {}))
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        torch.save({"model": state, "args": arguments}, file)
    teacher = any(name.startswith("model_maeenc_momentum.") for name in state)
    absent = (
        ""
        if teacher or isinstance(config, RecognizerModel)
        else "the frozen teacher, which our runs do not store"
    )
    return len(state), absent


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights under our names, and their metadata, from our own safetensors or from a released `.pth`."""
    if path.suffix == ".safetensors":
        return safetensors_io.load(path)
    imported = read_released(path)
    return imported.weights, imported.metadata()


@cache
def check_encoder(path: Path, config: Encoder, own_table: bool) -> None:
    """Raise UserError unless a file holds an encoder of these sizes; own_table: whose position table may be another."""
    weights = load_weights(path)[0]
    sizes = teacher_encoder(config, weights) if own_table else config
    with torch.device("meta"):
        module = VisionTransformer(sizes)
    safetensors_io.check_fits(module, weights, "encoder.", path)


def read_recognizer(path: Path) -> tuple[RecognizerModel, dict[str, Tensor]]:
    """Config and weights of a recognizer's file. Raises UserError if it holds none."""
    weights, metadata = load_weights(path)
    if metadata.get("stage") != "finetune":
        raise UserError(
            f"{path}: holds no recognizer; name the model.safetensors of a finetune run, or a fine-tuned checkpoint"
        )
    config = {name: metadata["config"][name] for name in RecognizerModel.model_fields}
    return RecognizerModel.model_validate(config), weights
