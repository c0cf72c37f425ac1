"""The config of a released checkpoint, inferred from the shapes of its weights.

A released file does not state numbers of heads, the order of the decoder's sub-layers, or the
image size. They are assumed to be those of the paper's recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from core.checkpoints.released_names import ReleasedKind
from core.config import Encoder, PretrainModel, RecognizerModel
from core.model.vit import position_table
from core.runtime.safetensors_io import rounding_of

ModelConfig = Encoder | PretrainModel | RecognizerModel
# Width -> heads, for the widths of the paper's models.
ENCODER_HEADS = {192: 3, 384: 6, 768: 12}
RECONSTRUCTION_HEADS = {512: 16}
TEXT_HEADS = {512: 8}
HEAD_WIDTH = 16  # assumed for all other widths
DEFAULT_PATCHES = 256  # of a file without position table
ASCII_CLASSES = 97  # classes of the released charset of 94 characters
SPECIAL_CLASSES = 3  # EOS, PADDING, UNKNOWN


@dataclass
class InferredConfig:
    """Settings of a model, and which of them the file does not state."""

    model: type[ModelConfig]
    settings: dict[str, Any]  # nested; of an Encoder below the key `encoder`
    assumed: dict[str, Any] = field(default_factory=dict)  # dotted key -> value

    def override(self, key: str, value: Any) -> None:
        """Set a dotted key. Raises ValueError if a part of it is not a section."""
        self.settings = with_setting(self.settings, key.split("."), value)
        self.assumed.pop(key, None)

    def validate(self) -> ModelConfig:
        """The config. Raises ValueError for a key that the model has not, or a bad value."""
        if self.model is not Encoder:
            return self.model.model_validate(self.settings)
        if unknown := self.settings.keys() - {"encoder"}:
            raise ValueError(f"--set {min(unknown)}: this file holds only an encoder")
        return Encoder.model_validate(self.settings["encoder"])


def infer_config(
    kind: ReleasedKind,
    weights: Mapping[str, Tensor],
    kernel: Tensor,
    max_length: int | None,
    charset_given: bool,
) -> InferredConfig:
    """Infer the config from weights under our names.

    kind: which code wrote the file.
    weights: those of the file, under our names.
    kernel: (D, 3, patch height, patch width), the released patch embedding.
    max_length: positions of the text decoder, if the file states it.
    charset_given: whether the user names the charset.

    Raises KeyError if a weight is missing; ValueError if the charset is needed or the position
    table does not fit; IndexError, TypeError or RuntimeError for unexpected shapes."""
    assumed: dict[str, Any] = {}
    encoder = _infer_encoder(weights, kernel, assumed)
    if kind == "MAERec pre-trained":
        return InferredConfig(Encoder, {"encoder": encoder}, assumed)
    if kind == "LMIM pre-trained":
        settings = _infer_pretraining(weights, encoder, assumed)
        return InferredConfig(PretrainModel, settings, assumed)
    classes = weights["classify.weight"].shape[0]
    decoder = _infer_text_decoder(weights, assumed)
    if max_length is None:
        max_length = 25 if classes == ASCII_CLASSES else 40
        assumed["max_length"] = max_length
    if classes != ASCII_CLASSES and not charset_given:
        raise ValueError(
            f"has {classes:,} classes; name its {classes - SPECIAL_CLASSES:,} characters"
            " with --set charset=file:PATH"
        )
    settings = {"encoder": encoder, "decoder": decoder, "max_length": max_length}
    return InferredConfig(RecognizerModel, settings, assumed)


def _infer_encoder(
    weights: Mapping[str, Tensor], kernel: Tensor, assumed: dict[str, Any]
) -> dict[str, Any]:
    """Settings of the encoder. The image is assumed to be four times as wide as high."""
    width = weights["encoder.cls_token"].shape[-1]
    patch_height = int(kernel.shape[2])
    patch_width = int(kernel.shape[3])
    table = weights.get("encoder.positions")
    if table is not None and (table.ndim != 3 or table.shape[-1] != width):
        raise ValueError(
            f"pos_embed has shape {list(table.shape)}, not [1, patches + 1, {width}],"
            " the width of cls_token"
        )
    patches = DEFAULT_PATCHES if table is None else table.shape[1] - 1
    height = isqrt(patches * patch_height * patch_width // 4)
    assumed["encoder.image"] = [height, 4 * height]
    heads = ENCODER_HEADS.get(width, _default_heads(width))
    assumed["encoder.heads"] = heads
    grid = position_table(width, patches, 4 * height // patch_width)
    grid_table = table is not None and torch.allclose(
        table.float(), grid, atol=max(1e-4, rounding_of(table.dtype))
    )
    return {
        "image": (height, 4 * height),
        "patch": (patch_height, patch_width),
        "width": width,
        "depth": _count_blocks(weights, "encoder.blocks."),
        "heads": heads,
        "positions": "grid" if grid_table else "released",
    }


def _infer_pretraining(
    weights: Mapping[str, Tensor], encoder: dict[str, Any], assumed: dict[str, Any]
) -> dict[str, Any]:
    """Settings of LMIM. The decoder's number of outputs tells the target."""
    width = weights["decoder.mask_token"].shape[-1]
    guided = "decoder.embed_guidance.weight" in weights
    heads = RECONSTRUCTION_HEADS.get(width, _default_heads(width))
    order = "SA-CA-FFN" if guided else "SA-FFN"
    assumed["decoder.heads"] = heads
    feedforward = weights["decoder.blocks.0.feedforward.0.weight"].shape[0]
    assumed["decoder.order"] = order
    outputs = weights["decoder.predict.weight"].shape[0]
    return {
        "encoder": encoder,
        "decoder": {
            "order": order,
            "width": width,
            "depth": _count_blocks(weights, "decoder.blocks."),
            "heads": heads,
            "feedforward": feedforward,
        },
        "guidance": {} if guided else None,
        "alignment": {} if guided else None,
        "target": {"kind": "mae_feature" if outputs == encoder["width"] else "pixel"},
    }


def _infer_text_decoder(weights: Mapping[str, Tensor], assumed: dict[str, Any]) -> dict[str, Any]:
    _, width = weights["classify.weight"].shape
    heads = TEXT_HEADS.get(width, _default_heads(width))
    assumed["decoder.heads"] = heads
    return {
        "width": width,
        "layers": _count_blocks(weights, "layers."),
        "heads": heads,
        "feedforward": weights["layers.0.feedforward.0.weight"].shape[0],
    }


def _default_heads(width: int) -> int:
    return max(width // HEAD_WIDTH, 1)


def _count_blocks(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Number of blocks: one more than the highest number after the prefix."""
    numbers = [
        name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)
    ]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def with_setting(settings: Any, keys: list[str], value: Any) -> Any:
    """Nested settings with another value at the path `keys`; missing sections are made.

    Raises ValueError if a value that is no section has a key below it."""
    if not isinstance(settings, dict):
        raise ValueError(f"--set: {keys[0]}: the key above it is a value and has no keys below it")
    first, *rest = keys
    below = with_setting(settings.get(first) or {}, rest, value) if rest else value
    return {**settings, first: below}
