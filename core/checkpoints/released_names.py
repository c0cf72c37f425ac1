"""Names of weights in released checkpoints (LMIM, MAERec) and in this project, both ways."""

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from core.config import Encoder, PretrainModel, RecognizerModel
from core.model.recognizer import text_positions
from core.model.vit import position_table, table_columns
from core.runtime.errors import UserError

ReleasedKind = Literal["LMIM pre-trained", "LMIM fine-tuned", "MAERec pre-trained"]
NamePairs = tuple[tuple[str, str], ...]  # (released, ours)

RELEASED_TEXT_POSITIONS = 200  # rows of the released recognizer's table of text positions
VIT_NAMES: NamePairs = (("patch_embed.proj.", "patch_embed."), ("pos_embed", "positions"))
NORM_NAMES: NamePairs = tuple((f"norm{number + 1}.", f"norms.{number}.") for number in range(3))
DECODER_BLOCK_NAMES: NamePairs = (
    ("self_attn.", "self_attention."),
    ("multihead_attn.", "cross_attention."),
    ("linear1.", "feedforward.0."),
    ("linear2.", "feedforward.3."),
    *NORM_NAMES,
)
TEXT_LAYER_NAMES: NamePairs = (
    ("self_attn.", "self_attention."),
    ("enc_attn.", "cross_attention."),
    ("linear_q.", "query."),
    ("linear_k.", "key."),
    ("linear_v.", "value."),
    ("fc.", "out."),
    ("mlp.w_1.", "feedforward.0."),
    ("mlp.w_2.", "feedforward.2."),
    *NORM_NAMES,
)

# kind -> (released prefix, our prefix, names to replace after the prefix)
PREFIXES: dict[ReleasedKind, tuple[tuple[str, str, NamePairs], ...]] = {
    "LMIM pre-trained": (
        ("model_maeenc.", "encoder.", VIT_NAMES),
        ("model_maeenc_momentum.", "target.encoder.", VIT_NAMES),
        ("mask_token", "decoder.mask_token", ()),
        ("decoder_embed.", "decoder.embed_visible.", ()),
        ("decoder_embed2.", "decoder.embed_guidance.", ()),
        ("decoder_blocks.", "decoder.blocks.", DECODER_BLOCK_NAMES),
        ("decoder_norm.", "decoder.norm.", ()),
        ("decoder_pred.", "decoder.predict.", ()),
    ),
    "LMIM fine-tuned": (
        ("encoder.", "encoder.", VIT_NAMES),
        ("linear_norm.", "bridge.", ()),
        ("decoder.trg_word_emb.", "embedding.", ()),
        ("decoder.layer_stack.", "layers.", TEXT_LAYER_NAMES),
        ("decoder.layer_norm.", "norm.", ()),
        ("decoder.classifier.", "classify.", ()),
    ),
    "MAERec pre-trained": (
        ("cls_token", "encoder.cls_token", ()),
        ("blocks.", "encoder.blocks.", ()),
        ("norm.", "encoder.norm.", ()),
        ("patch_embed.proj.", "encoder.patch_embed.", ()),
        ("pos_embed", "encoder.positions", ()),
    ),
}
IGNORED = (  # (prefix of a released name, why the weight is ignored)
    ("decoder_pos_embed", "a table that we compute"),
    ("decoder.position_enc.", "a table that we compute"),
    ("pos_embed", "an alias of the encoder's"),
    ("patch_embed.", "an alias of the encoder's"),
    ("mask_token", "MAE's decoder, not needed"),
    ("decoder_", "MAE's decoder, not needed"),
)


def released_kind(names: Iterable[str]) -> ReleasedKind | None:
    """Which released code wrote a state dict with these names; None if it is none of them."""
    names = list(names)
    if any(name.startswith("model_maeenc.") for name in names):
        return "LMIM pre-trained"
    if any(name.startswith(("linear_norm.", "decoder.trg_word_emb.")) for name in names):
        return "LMIM fine-tuned"
    if any(name.startswith("blocks.") for name in names):
        return "MAERec pre-trained"
    return None


def has_counterpart(kind: ReleasedKind, name: str) -> bool:
    """Whether a released weight has a name in this project."""
    return any(name.startswith(prefix) for prefix, _, _ in PREFIXES[kind])


def reason_ignored(name: str) -> str:
    """Why a released weight without counterpart is ignored."""
    return next((reason for prefix, reason in IGNORED if name.startswith(prefix)), "unknown")


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state dict under our names. Weights without counterpart are left out.

    Raises ValueError if no released code wrote it."""
    kind = released_kind(state)
    if kind is None:
        raise ValueError("no weight has a name of LMIM's or MAERec's")
    weights: dict[str, Tensor] = {}
    for released, tensor in state.items():
        for prefix, our_prefix, pairs in PREFIXES[kind]:
            if released.startswith(prefix):
                name = our_prefix + _replace_names(released.removeprefix(prefix), pairs)
                # (D, 3, patch height, patch width) -> (D, patch values)
                is_kernel = name.endswith("patch_embed.weight")
                # A copy, because two released names may share one tensor.
                weights[name] = (tensor.flatten(1) if is_kernel else tensor).clone()
    return weights


def to_released(
    weights: Mapping[str, Tensor], config: PretrainModel | RecognizerModel
) -> dict[str, Tensor]:
    """The inverse of `from_released` for LMIM's models, with the released tables and aliases."""
    encoder = config.encoder
    is_recognizer = isinstance(config, RecognizerModel)
    if config.decoder is None:
        raise UserError("the released code has no recognizer without a decoder (CTC)")
    kind: ReleasedKind = "LMIM fine-tuned" if is_recognizer else "LMIM pre-trained"
    encoder_table = position_table(encoder.width, encoder.patches, table_columns(encoder))
    state: dict[str, Tensor] = {}
    for name, tensor in {**weights, "encoder.positions": encoder_table}.items():
        released = _released_name(kind, name)
        if released is not None:
            state[released] = _released_layout(released, tensor, encoder)
    width = config.decoder.width
    if is_recognizer:
        positions = text_positions(RELEASED_TEXT_POSITIONS, width)
        state["decoder.position_enc.position_table"] = positions
        aliased = [name for name in state if name.startswith(("encoder.pos", "encoder.patch"))]
        return state | {name.removeprefix("encoder."): state[name] for name in aliased}
    decoder_table = position_table(width, encoder.patches, table_columns(encoder))
    return state | {"decoder_pos_embed": decoder_table}


def _released_name(kind: ReleasedKind, name: str) -> str | None:
    """The released name of one of our weights; None if it has no counterpart."""
    for released_prefix, prefix, pairs in PREFIXES[kind]:
        if name.startswith(prefix):
            inverse = tuple((ours, released) for released, ours in pairs)
            return released_prefix + _replace_names(name.removeprefix(prefix), inverse)
    return None


def _released_layout(released: str, tensor: Tensor, encoder: Encoder) -> Tensor:
    """The tensor on the CPU in the released shape: the patch embedding is a convolution there."""
    shape = tensor.shape
    if released.endswith("patch_embed.proj.weight"):
        return tensor.detach().cpu().reshape(-1, 3, *encoder.patch).contiguous()
    return tensor.detach().cpu().reshape(shape).contiguous()


def _replace_names(name: str, pairs: NamePairs) -> str:
    """Replace each pair's first name, where a part of `name` begins with it, by the second."""
    for old, new in pairs:
        if name.startswith(old) or f".{old}" in name:
            name = name.replace(old, new, 1)
    return name
