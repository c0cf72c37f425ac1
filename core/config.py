"""Configs of the three stages. Immutable; unknown keys and out-of-range values are errors.

Defaults are the paper's ablation recipe (`experiments/base/lmim.yaml`). Scales override sizes only.
Derived values come from the functions at the end and are never written back.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Annotated, Any, ClassVar, Literal, assert_never, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from core.runtime.errors import UserError
from core.runtime.former_keys import (
    FORMER_KEYS,
    current_root,
    refuse_both_spellings,
    with_former_keys,
)
from core.runtime.number_types import Integer, NonNegativeFloat, Number, PositiveFloat, PositiveInt
from core.text.charset import resolve_charset

# Types of values

Share = Annotated[Number, Field(gt=0, lt=1)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Size = tuple[PositiveInt, PositiveInt]  # (height, width) in pixels


class FrozenModel(BaseModel):
    """Base of all configs. Immutable; unknown keys and out-of-range values are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _accept_former_keys(cls, settings: Any) -> Any:
        former = {FORMER_KEYS[name]: name for name in FORMER_KEYS.keys() & cls.model_fields.keys()}
        if not isinstance(settings, dict) or not former.keys() & settings.keys():
            return settings
        refuse_both_spellings(map(str, settings), lambda key: former.get(key, key))
        return {former.get(key, key): value for key, value in settings.items()}


# Parts of models


class Encoder(FrozenModel):
    """The ViT encoder. Defaults: ViT-S."""

    image: Size = (32, 128)
    patch: Size = (4, 4)
    width: PositiveInt = 384
    depth: PositiveInt = 12
    heads: PositiveInt = 6
    # Position table. released: of a square grid of patches, as in the released code (16 x 16
    # instead of 8 x 32). grid: of the image's own grid.
    positions: Literal["released", "grid"] = "released"

    @model_validator(mode="after")
    def _check_sizes(self) -> "Encoder":
        if any(pixels % step for pixels, step in zip(self.image, self.patch, strict=True)):
            raise ValueError(
                f"image {list(self.image)} is not a whole number of patches {list(self.patch)}"
            )
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width {self.width} must be divisible by heads ({self.heads}) and by 4"
            )
        if self.positions == "released" and isqrt(self.patches) ** 2 != self.patches:
            rows, columns = self.grid
            raise ValueError(
                "positions: released needs a square number of patches, "
                f"not {rows} x {columns}; use grid"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def patch_values(self) -> int:
        """Numbers in one patch: 3 colors x height x width."""
        return 3 * self.patch[0] * self.patch[1]


class ReconstructionDecoder(FrozenModel):
    """The decoder of pre-training (Table 3)."""

    # Order of self-attention, cross-attention to the guidance branch, and feed-forward in a block.
    # SA-FFN: a single branch without guidance (Table 1, first row).
    order: Literal["SA-CA-FFN", "CA-SA-FFN", "SA-FFN"] = "SA-CA-FFN"
    width: PositiveInt = 512
    depth: PositiveInt = 2
    heads: PositiveInt = 16
    feedforward: PositiveInt = 2048
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _check_sizes(self) -> "ReconstructionDecoder":
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width {self.width} must be divisible by heads ({self.heads}) and by 4"
            )
        return self


class Mask(FrozenModel):
    """Which patches are hidden (Table 5). `core/model/masking.py` describes each kind."""

    kind: Literal["random", "block", "density", "span", "column_pairs", "seeded_blocks"] = "random"
    ratio: Share = 0.8  # of all patches; visible_count rounds
    # density, seeded_blocks: exponent of the stroke density; 0 ignores it.
    focus: NonNegativeFloat = 1.0
    # span, seeded_blocks: a letter's width as a share of the image's; the least width of a span,
    # and about that of a block. The default is a letter of a word of five.
    width: Annotated[Number, Field(gt=0, le=1)] = 0.2
    # seeded_blocks: share of all patches that blocks hide. The rest of `ratio` is hidden at random.
    block_share: Share = 0.5

    @model_validator(mode="after")
    def _check_options(self) -> "Mask":
        for option, kinds in MASK_OPTIONS.items():
            default = type(self).model_fields[option].default
            if self.kind not in kinds and getattr(self, option) != default:
                raise ValueError(f"{option} belongs to kind: {' or '.join(kinds)}, not {self.kind}")
        if self.kind == "seeded_blocks" and self.block_share > self.ratio:
            raise ValueError(
                f"block_share {self.block_share:g} is more than ratio {self.ratio:g}, the share of "
                "all hidden patches; lower block_share"
            )
        return self


MASK_OPTIONS = {  # option -> kinds of masks that have it
    "focus": ("density", "seeded_blocks"),
    "width": ("span", "seeded_blocks"),
    "block_share": ("seeded_blocks",),
}


NUMBERED_STRENGTHS = {1.0: "medium", 1.5: "strong"}


class Guidance(FrozenModel):
    """The linguistic guidance branch and its view of the word (Table 2)."""

    # A level of Table 2, or a number above 0 and at most 2 that multiplies medium's ranges.
    strength: str | Number = "medium"

    @field_validator("strength", mode="before")
    @classmethod
    def _check_strength(cls, strength: object) -> object:
        """A number that equals a level becomes the level, so that both give the same run id."""
        if isinstance(strength, str) and strength in ("weak", "medium", "strong"):
            return strength
        if isinstance(strength, bool):
            pass  # Python counts True as 1
        elif isinstance(strength, int | float) and 0 < strength <= 2:
            return NUMBERED_STRENGTHS.get(strength, strength)
        raise ValueError(
            "must be weak, medium, strong, or a number above 0 and at most 2 "
            "(1 is medium, 1.5 strong)"
        )


class RepairSettings(FrozenModel):
    """Base of the repairs of Eq. 3. The losses are in core/model/alignment_losses.py."""

    # Whether the loss compares the images of a batch with each other.
    compares_images: ClassVar[bool] = True
    # Whether the loss itself stops the gradient of a branch.
    stops_gradient: ClassVar[bool] = False


class NormalizedRepair(RepairSettings):
    """[cls] of both branches through a LayerNorm without affine parameters, then Eq. 3."""

    kind: Literal["normalized"]
    compares_images: ClassVar[bool] = False


class PredictorRepair(RepairSettings):
    """SimSiam (arXiv 2011.10566): each branch predicts the other's [cls], which is detached."""

    kind: Literal["predictor"]
    stops_gradient: ClassVar[bool] = True


class MovingAverage(FrozenModel):
    """Momentum of a teacher that is a moving average of the trained encoder."""

    # It rises from the first to the last step by a half cosine.
    momentum: Probability = 0.996
    final_momentum: Probability

    @model_validator(mode="after")
    def _check_momenta(self) -> "MovingAverage":
        if self.momentum > self.final_momentum:
            raise ValueError(
                f"momentum {self.momentum:g} must not be above final_momentum "
                f"{self.final_momentum:g}"
            )
        return self


class EmaRepair(MovingAverage, RepairSettings):
    """[cls] of the guidance view comes from a teacher: a moving average of the encoder.

    BYOL (arXiv 2006.07733) and DSHM (AAAI 2026)."""

    kind: Literal["ema"]
    final_momentum: Probability = 0.9999
    compares_images: ClassVar[bool] = False
    stops_gradient: ClassVar[bool] = True


class VicregRepair(RepairSettings):
    """VICReg (arXiv 2105.04906) on a projector; the weights of its three terms."""

    kind: Literal["vicreg"]
    invariance: NonNegativeFloat = 25.0
    variance: NonNegativeFloat = 25.0
    covariance: NonNegativeFloat = 1.0


class SigregRepair(RepairSettings):
    """LeJEPA (arXiv 2511.08544): Eq. 3, and SIGReg towards a standard normal distribution."""

    kind: Literal["sigreg"]
    share: Share = 0.02  # weight of SIGReg; Eq. 3 has the rest
    directions: PositiveInt = 256  # random ones that [cls] is projected on, drawn at every step
    knots: Annotated[Integer, Field(ge=2)] = 17  # of the integral, from 0 to `bound`
    bound: PositiveFloat = 3.0


class UniformityRepair(RepairSettings):
    """Eq. 3, and the mean squared cosine between the [cls] of different images."""

    kind: Literal["uniformity"]
    factor: PositiveFloat = 0.01  # of the mean squared cosine


class InfonceRepair(RepairSettings):
    """InfoNCE (arXiv 1807.03748): other images of the batch are negatives."""

    kind: Literal["infonce"]
    temperature: PositiveFloat = 0.2


Repair = Annotated[
    NormalizedRepair
    | PredictorRepair
    | EmaRepair
    | VicregRepair
    | SigregRepair
    | UniformityRepair
    | InfonceRepair,
    Field(discriminator="kind"),
]


class Alignment(FrozenModel):
    """The alignment loss between the [cls] features of both branches (Eq. 3, Table 1)."""

    weight: NonNegativeFloat = 1.0  # in the total loss; the paper: 1
    # The branch whose [cls] receives no gradient from this loss; the paper: none.
    stop_gradient: Literal["none", "guidance", "masked"] = "none"
    repair: Repair | None = None  # a loss in place of Eq. 3; null: Eq. 3, as in the paper

    @model_validator(mode="after")
    def _check_stop_gradient(self) -> "Alignment":
        if self.repair and self.repair.stops_gradient and self.stop_gradient != "none":
            raise ValueError(
                f"repair {self.repair.kind} has a stop-gradient of its own; leave stop_gradient out"
            )
        return self


class PixelTarget(FrozenModel):
    """Reconstruct pixels (Table 4)."""

    kind: Literal["pixel"]
    normalized: bool = True  # each patch to zero mean and unit variance, as in MAE


class RandomFeatureTarget(FrozenModel):
    """Reconstruct features of a random encoder (Table 4)."""

    kind: Literal["random_feature"]


class MaeFeatureTarget(FrozenModel):
    """Reconstruct features of an MAE teacher (Table 4; the paper's default)."""

    kind: Literal["mae_feature"]


class EmaFeatureTarget(MovingAverage):
    """Reconstruct features of a moving average of the encoder, which sees the whole image.

    No other encoder is trained first, as in data2vec (arXiv 2202.03555) and DSHM (AAAI 2026)."""

    kind: Literal["ema_feature"]
    final_momentum: Probability = 1.0


Target = Annotated[
    PixelTarget | RandomFeatureTarget | MaeFeatureTarget | EmaFeatureTarget,
    Field(discriminator="kind"),
]


class PretrainModel(FrozenModel):
    """The model of pre-training: LMIM, or MIM.

    With `guidance: null`, a pixel target and SA-FFN it is plain masked image modeling.
    """

    encoder: Encoder
    decoder: ReconstructionDecoder
    guidance: Guidance | None
    alignment: Alignment | None
    target: Target

    @property
    def has_frozen_target(self) -> bool:
        """Whether the target is features of an encoder that stays as it is."""
        return isinstance(self.target, RandomFeatureTarget | MaeFeatureTarget)

    @property
    def target_values(self) -> int:
        """Numbers that the decoder predicts for each patch."""
        match self.target:
            case PixelTarget():
                return self.encoder.patch_values
            case RandomFeatureTarget() | MaeFeatureTarget() | EmaFeatureTarget():
                return self.encoder.width
        assert_never(self.target)

    @model_validator(mode="after")
    def _check_branches(self) -> "PretrainModel":
        if self.alignment and not self.guidance:
            raise ValueError(
                "alignment compares the two branches' [cls]: it needs guidance, or alignment: null"
            )
        if (self.decoder.order == "SA-FFN") != (self.guidance is None):
            raise ValueError(
                "decoder.order: SA-FFN goes with guidance: null, the other orders with guidance"
            )
        return self


class Contrast(FrozenModel):
    """SeqCLR's contrastive loss (arXiv 2012.10873)."""

    windows: PositiveInt = 5  # parts of an image's width; each is an instance of the loss
    projection: PositiveInt = 256  # width of the projection head
    temperature: PositiveFloat = 0.1  # of NT-Xent


class TextDecoder(FrozenModel):
    """The recognizer's autoregressive decoder."""

    width: PositiveInt = 512
    layers: PositiveInt = 6
    heads: PositiveInt = 8
    feedforward: PositiveInt = 256
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _check_sizes(self) -> "TextDecoder":
        if self.width % self.heads or self.width % 2:
            raise ValueError(
                f"width {self.width} must be even and divisible by heads ({self.heads})"
            )
        return self


class RecognizerModel(FrozenModel):
    """The recognizer: encoder, text decoder, characters."""

    encoder: Encoder
    # null: no decoder; a CTC head on the encoder's columns recognizes (core/model/ctc.py).
    decoder: TextDecoder | None
    # ascii94, file:PATH (a UTF-8 text; white space is ignored), or the characters. If the set has
    # lower-case letters only, labels are lower-cased.
    charset: str = "ascii94"
    # With EOS: a word has at most max_length - 1 characters.
    max_length: Annotated[Integer, Field(ge=2, le=200)] = 25

    @field_validator("charset")
    @classmethod
    def _resolve_charset(cls, charset: str) -> str:
        """The characters, so that run id and weights do not depend on a file that may change."""
        return resolve_charset(charset)


# Optimization and data


class Optimizer(FrozenModel):
    """AdamW. The learning rate rises linearly from 0, then falls to `final_lr` by a half cosine."""

    base_lr: PositiveFloat  # per 256 images of a batch (linear scaling rule)
    batch: PositiveInt = 512
    epochs: PositiveFloat = 5
    warmup_epochs: NonNegativeFloat = 1
    final_lr: NonNegativeFloat = 0
    weight_decay: NonNegativeFloat = 0.05
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0  # learning rate: factor per layer
    clip: PositiveFloat | None = None  # maximal gradient norm

    @model_validator(mode="after")
    def _check_warmup(self) -> "Optimizer":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} must be less than epochs {self.epochs:g}"
            )
        return self


# A folder (an LMDB or one that contains several), a name in `experiments/settings/data.yaml`, or
# `synthetic:NAME`, a split of the synthetic words.
Root = Annotated[str, AfterValidator(current_root)]
Roots = Annotated[tuple[Root, ...], Field(min_length=1)]


class Mix(FrozenModel):
    """Further roots that fill a share of every training batch.

    An epoch ends when all images of both groups were shown; the smaller group is repeated.
    """

    roots: Roots
    share: Share


class Data(FrozenModel):
    """Images of training or of a test subset."""

    roots: Roots  # concatenated
    mix: Mix | None = None
    filters: tuple[str, ...] = ()  # files that list images to leave out

    def group_sizes(self, batch: int) -> list[int]:
        """Images of a batch from `roots`, and from `mix` if it is set."""
        if self.mix is None:
            return [batch]
        mixed = min(max(round(self.mix.share * batch), 1), batch - 1)
        return [batch - mixed, mixed]

    def epoch_size(self, counts: Sequence[int], batch: int) -> int:
        """Images of one epoch: enough batches to show every image.

        Args:
            counts: Number of images in `roots`, and in `mix` if it is set.
            batch: Images of a batch.
        """
        sizes = self.group_sizes(batch)
        return max(count * batch // size for count, size in zip(counts, sizes, strict=True))


class UnmixedData(FrozenModel):
    """Images of validation; each is used once, so they are neither mixed nor filtered."""

    roots: Roots


# Stages

Precision = Literal["fp32", "bf16"]
LabelPolicy = Literal["strict", "released"]  # see core/text/protocols.py
ProtocolName = Literal["waics", "case_sensitive", "alnum_case_sensitive", "chinese", "openocr"]


class LabelSubset(FrozenModel):
    """A part of the labeled words: `count` words, or a `share` of them.

    The words are drawn with the run's seed and stratified by the length of their labels. A smaller
    subset is contained in a larger one of the same seed (core/training/label_subset.py). The label
    policy is `strict`.
    """

    count: PositiveInt | None = None
    share: Annotated[Number, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _check_size(self) -> "LabelSubset":
        if (self.count is None) == (self.share is None):
            raise ValueError("give count (words) or share (of the words), and not both")
        return self

    def size(self, images: int) -> int:
        """The number of words out of `images` labeled ones."""
        if self.count is not None:
            return min(self.count, images)
        assert self.share is not None
        return max(1, round(self.share * images))


def _label_rule(labels: object) -> str | None:
    """The tag of a value of `Finetune.labels`: a mapping chooses a subset. None: not valid."""
    if isinstance(labels, dict | LabelSubset):
        return "subset"
    return "policy" if labels in get_args(LabelPolicy) else None


Labels = Annotated[
    Annotated[LabelPolicy, Tag("policy")] | Annotated[LabelSubset, Tag("subset")],
    Discriminator(
        _label_rule,
        custom_error_type="labels",
        custom_error_message="choose from strict, released, {count: WORDS} or {share: FRACTION}",
    ),
]


class TrainingRun(FrozenModel):
    """Settings of every training stage."""

    encoder: Encoder
    optimizer: Optimizer
    data: Data
    precision: Precision
    seed: Annotated[Integer, Field(ge=0)]


class Pretrain(TrainingRun, PretrainModel):
    """Stage pretrain, by masked image modeling (LMIM or MIM)."""

    mask: Mask
    start: Literal["random", "teacher"] = "random"  # initial weights

    @property
    def needs_teacher(self) -> bool:
        """Whether the target or the initial weights come from a teacher."""
        return self.target.kind == "mae_feature" or self.start == "teacher"

    @model_validator(mode="after")
    def _check_visible_patches(self) -> "Pretrain":
        if visible_count(self.encoder.patches, self.mask.ratio) < 1:
            raise ValueError(
                f"mask.ratio {self.mask.ratio:g} leaves none of {self.encoder.patches} patches "
                "visible"
            )
        return self

    @model_validator(mode="after")
    def _check_mask_fits_grid(self) -> "Pretrain":
        kind, columns = self.mask.kind, self.encoder.grid[1]
        if kind == "column_pairs" and columns % 2:
            raise ValueError(
                f"mask.kind: column_pairs needs an even number of columns of patches, not {columns}"
                "; choose another mask.kind or encoder.patch"
            )
        if kind in ("column_pairs", "span"):
            least = 2 if kind == "column_pairs" else letter_columns(self.mask.width, columns)
            hidden = hidden_count(self.encoder.patches, self.mask.ratio) // self.encoder.grid[0]
            if hidden < least:
                raise ValueError(
                    f"mask.ratio {self.mask.ratio:g} hides {hidden} of {columns} columns of "
                    f"patches whole, but kind: {kind} needs at least {least}; raise mask.ratio"
                    + (" or lower mask.width" if kind == "span" else "")
                )
        return self

    @model_validator(mode="after")
    def _check_compared_images(self) -> "Pretrain":
        repair = None if self.alignment is None else self.alignment.repair
        if repair is not None and repair.compares_images and self.optimizer.batch < 2:
            raise ValueError(
                f"alignment.repair {repair.kind} compares images: optimizer.batch must be 2 or more"
            )
        return self


class ContrastivePretrain(TrainingRun):
    """Stage pretrain, by sequence contrastive learning (SeqCLR)."""

    contrast: Contrast
    needs_teacher: ClassVar[bool] = False
    # Parts of masked image modeling, which SeqCLR does not have.
    decoder: None = None
    guidance: None = None
    alignment: None = None
    target: None = None
    mask: None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_mim_parts(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        names = ("decoder", "guidance", "alignment", "target", "mask")
        if present := [name for name in names if settings.get(name) is not None]:
            raise ValueError(
                f"contrast is of SeqCLR, which has no {', '.join(present)}; "
                "let the row name method: SeqCLR, or set these to null"
            )
        return settings

    @model_validator(mode="after")
    def _check_windows(self) -> "ContrastivePretrain":
        columns = self.encoder.grid[1]
        if self.contrast.windows > columns:
            raise ValueError(
                f"contrast.windows {self.contrast.windows} is more than the {columns} columns "
                "of patches"
            )
        return self


class Finetune(TrainingRun, RecognizerModel):
    """Stage finetune: trains the recognizer."""

    # strict or released: which labels can be trained on. A mapping ({count: 3000}, {share: 0.01})
    # trains on a part of the words.
    labels: Labels = "strict"
    # The encoder's patch embedding, [cls] and first blocks that stay as they are; with all blocks
    # its final norm too. 0: everything is trained.
    frozen_blocks: Annotated[Integer, Field(ge=0)] = 0
    # Weight of an auxiliary CTC loss on the encoder's columns (joint CTC and attention, as in
    # arXiv 1609.06773). The head is used in training only. The paper: 0.
    ctc_weight: NonNegativeFloat = 0
    # Weights that are written in the last steps of training (core/training/last_checkpoints.py).
    # `evaluate.last` sets it.
    last_checkpoints: Annotated[Integer, Field(ge=1, le=50)] = 1
    augmentation: Literal["abinet", "none"] = "abinet"
    # Number of times that kind and strength of the augmentation are drawn in the whole run; the
    # released code draws once in each of its processes. null: for each image.
    augmentation_draws: PositiveInt | None = None
    validation: UnmixedData | None = None
    # Steps between validations, besides those at the ends of epochs, so that the log shows when a
    # recognizer starts to read. No effect without `validation`. null: the ends of epochs only.
    validate_every: PositiveInt | None = None

    @property
    def label_policy(self) -> LabelPolicy:
        """Which labels can be trained on (core/text/protocols.py)."""
        return "strict" if isinstance(self.labels, LabelSubset) else self.labels

    @property
    def label_subset(self) -> LabelSubset | None:
        """The part of the words to train on; None: all."""
        return self.labels if isinstance(self.labels, LabelSubset) else None

    @model_validator(mode="after")
    def _check_parts(self) -> "Finetune":
        if self.frozen_blocks > self.encoder.depth:
            raise ValueError(
                f"frozen_blocks {self.frozen_blocks} is more than the encoder's depth "
                f"{self.encoder.depth}"
            )
        if self.decoder is None and self.ctc_weight:
            raise ValueError(
                "ctc_weight adds CTC to a decoder; with decoder: null leave ctc_weight out"
            )
        if self.label_subset is not None and self.data.mix is not None:
            raise ValueError("labels: count or share cannot be used with data.mix; leave out one")
        return self

    @model_validator(mode="after")
    def _check_augmentation(self) -> "Finetune":
        if self.augmentation == "none" and self.augmentation_draws is not None:
            raise ValueError(
                "augmentation_draws says how augmentation: abinet is drawn; "
                "with augmentation: none leave it out"
            )
        return self


class Evaluate(FrozenModel):
    """Stage evaluate: recognizes every image of every subset and counts correct predictions."""

    subsets: Annotated[dict[str, Data], Field(min_length=1)]
    protocol: ProtocolName = "waics"
    labels: LabelPolicy = "strict"
    batch: PositiveInt = 256
    beams: Annotated[Integer, Field(ge=1, le=64)] = 1  # 1: greedy decoding
    # Checkpoints of the end of fine-tuning that are evaluated; endpoints are means over them.
    last: Annotated[Integer, Field(ge=1, le=50)] = 1
    precision: Precision

    @field_validator("subsets")
    @classmethod
    def _refuse_mixed_subsets(cls, subsets: dict[str, Data]) -> dict[str, Data]:
        if mixed := [name for name, data in subsets.items() if data.mix is not None]:
            raise ValueError(
                f"{mixed[0]}.mix: only training data can be mixed; "
                "make these images another subset instead"
            )
        return subsets


Ridges = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
RIDGES: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class CharacterHead(FrozenModel):
    """Closed-form ridge classifier of characters at their true positions (core/probes/ridge.py)."""

    kind: Literal["characters"]
    # Strengths of the penalty, as multiples of the features' mean variance. The best on a held-out
    # tenth of the training words is used.
    ridges: Ridges = RIDGES
    # Columns of patches on each side of a character's own column that it is classified from.
    neighbors: Annotated[Integer, Field(ge=0, le=8)] = 1


class HiddenLetterHead(FrozenModel):
    """The ridge classifier, of one letter of each word that is hidden from the encoder.

    core/data/hidden_letter.py hides it."""

    kind: Literal["hidden_letter"]
    ridges: Ridges = RIDGES
    # 0: only the patches of the hidden letter's own column, which show nothing of the word.
    neighbors: Annotated[Integer, Field(ge=0, le=8)] = 0
    margin: Annotated[Integer, Field(ge=0, le=32)] = 2  # pixels hidden on each side of the box


class CTCTraining(FrozenModel):
    """Training of a CTC head on the columns of a frozen encoder; Adam without weight decay.

    Defaults: the protocol of frozen encoders in handwriting recognition."""

    lr: PositiveFloat = 1e-3
    batch: PositiveInt = 64
    epochs: PositiveFloat = 100
    clip: PositiveFloat | None = 1.0  # maximal gradient norm
    # Frames for each column of patches: a character and a blank need two.
    outputs_per_column: Annotated[Integer, Field(ge=1, le=8)] = 2


class LinearCTCHead(CTCTraining):
    """A linear layer on each column."""

    kind: Literal["ctc_linear"]


class BiLSTMCTCHead(CTCTraining):
    """A bidirectional LSTM over the columns, then a linear layer."""

    kind: Literal["ctc_bilstm"]
    hidden: PositiveInt = 256  # units in each direction


class DecoderHead(FrozenModel):
    """The recognizer's decoder on a frozen encoder; Adam, one-cycle learning rate.

    Defaults: the decoder evaluation of RCLSTR."""

    kind: Literal["decoder"]
    decoder: TextDecoder = TextDecoder()
    lr: PositiveFloat = 5e-4  # the peak
    batch: PositiveInt = 256
    steps: PositiveInt = 200_000
    clip: PositiveFloat | None = 5.0  # maximal gradient norm


Head = Annotated[
    CharacterHead | HiddenLetterHead | LinearCTCHead | BiLSTMCTCHead | DecoderHead,
    Field(discriminator="kind"),
]


class Probe(FrozenModel):
    """Stage probe: trains a head on the features of a frozen encoder, and tests it."""

    encoder: Encoder
    head: Head
    # Patch features as they are; each with mean 0 and variance 1; or also uncorrelated. Mean and
    # covariance are those of all patches of the training words.
    features: Literal["plain", "standardized", "whitened"] = "standardized"
    data: Data  # words to train the head on
    # So many words of `data`, drawn with the seed and stratified by length; null: all of them.
    images: PositiveInt | None = None
    subsets: Annotated[dict[str, Data], Field(min_length=1)]  # words to test on
    charset: Annotated[str, AfterValidator(resolve_charset)] = "ascii94"  # as of the recognizer
    max_length: Annotated[Integer, Field(ge=2, le=200)] = 25  # as of the recognizer
    protocol: ProtocolName = "waics"
    precision: Precision = "fp32"
    seed: Annotated[Integer, Field(ge=0)] = 0

    @property
    def needs_boxes(self) -> bool:
        """Whether the head reads the boxes of the characters."""
        return isinstance(self.head, CharacterHead | HiddenLetterHead)

    @model_validator(mode="after")
    def _refuse_mixed_data(self) -> "Probe":
        for name, data in {"data": self.data, **self.subsets}.items():
            if data.mix is not None:
                raise ValueError(f"{name}.mix: words of a probe are not mixed; name more roots")
        return self


StageConfig = Pretrain | ContrastivePretrain | Finetune | Evaluate | Probe


# Derived values


def identity_fields(config: FrozenModel, exclude: Any = None) -> dict[str, Any]:
    """The values that determine a run's id: all that differ from the defaults.

    So a new option, with the old behavior as its default, does not change ids. Therefore a default
    never changes its value or its meaning.

    Args:
        config: The config of a stage or of the synthetic words.
        exclude: Fields to leave out, as in pydantic's `model_dump`.
    """
    values = config.model_dump(mode="json", exclude=exclude, exclude_defaults=True)
    fields: dict[str, Any] = with_former_keys(values)
    return fields


def visible_count(patches: int, ratio: float) -> int:
    """Visible patches at a mask ratio, as the released code rounds (51 of 256 at 0.8)."""
    return int(patches * (1 - ratio))


def hidden_count(patches: int, ratio: float) -> int:
    """Hidden patches at a mask ratio: all that are not visible (205 of 256 at 0.8)."""
    return patches - visible_count(patches, ratio)


def letter_columns(width: float, columns: int) -> int:
    """A letter's width in columns of patches, at least 1, from its share of the image's width."""
    return max(1, round(width * columns))


def peak_lr(base_lr: float, global_batch: int) -> float:
    """Linear scaling rule: `base_lr` is per 256 images of a batch."""
    return base_lr * global_batch / 256


def steps(images: int, batch: int, epochs: float) -> tuple[int, int]:
    """Steps of one epoch, and of all epochs.

    The last, smaller batch of an epoch is left out unless it is the only one.

    Args:
        images: Images of one epoch.
        batch: Images of a batch.
        epochs: Number of epochs, possibly fractional.

    Raises:
        UserError: There is less than one step.
    """
    per_epoch = max(images // batch, 1)
    total = round(per_epoch * epochs)
    if total < 1:
        raise UserError(
            f"{images} images and {epochs:g} epochs are less than one training step; "
            "increase epochs or lower the batch size"
        )
    return per_epoch, total
