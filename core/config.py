"""What a stage may be told: frozen, closed, bounded. Derived values come from the named functions at the end.

Defaults are the paper's ablation recipe as `experiments/base/lmim.yaml` states it; a smaller scale overrides sizes only.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from core.runtime.errors import UserError
from core.text.charset import read_charset

Share = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Size = tuple[PositiveInt, PositiveInt]  # (height, width) in pixels


FORMER_KEYS = {
    "optimizer": "optimiser",
    "normalized": "normalised",
}  # in version 0.1; run ids use them


def current_key(key: str) -> str:
    """A key, or a dotted path of keys, in today's spelling."""
    current = {former: today for today, former in FORMER_KEYS.items()}
    return ".".join(current.get(part, part) for part in key.split("."))


def with_current_keys(tree: Any) -> Any:
    """The same settings with all keys of mappings in today's spelling."""
    if isinstance(tree, dict):
        return {current_key(key): with_current_keys(value) for key, value in tree.items()}
    return tree


def with_former_keys(tree: Any) -> Any:
    """The inverse of `with_current_keys`, for run ids."""
    if isinstance(tree, dict):
        return {FORMER_KEYS.get(key, key): with_former_keys(value) for key, value in tree.items()}
    return tree


class FrozenModel(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _accept_former_keys(cls, settings: Any) -> Any:
        former = {FORMER_KEYS[name]: name for name in FORMER_KEYS.keys() & cls.model_fields.keys()}
        if not isinstance(settings, dict) or not former.keys() & settings.keys():
            return settings
        return {former.get(key, key): value for key, value in settings.items()}


class Encoder(FrozenModel):
    """The ViT. `positions`: `released` numbers patches as if they formed a square grid, `grid` as they really lie."""

    image: Size = (32, 128)
    patch: Size = (4, 4)
    width: PositiveInt = 384
    depth: PositiveInt = 12
    heads: PositiveInt = 6
    positions: Literal["released", "grid"] = "released"

    @model_validator(mode="after")
    def _fits(self) -> "Encoder":
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
                f"positions: released needs a square number of patches, not {rows} x {columns}; use grid"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def patch_values(self) -> int:
        """Numbers in one patch: 3 colors x height x width."""
        return 3 * self.patch[0] * self.patch[1]


class ReconstructionDecoder(FrozenModel):
    """Blocks of the pre-training decoder. `order` SA-FFN is the single branch without guidance (Table 1, first row)."""

    order: Literal["SA-CA-FFN", "CA-SA-FFN", "SA-FFN"] = "SA-CA-FFN"
    width: PositiveInt = 512
    depth: PositiveInt = 2
    heads: PositiveInt = 16
    feedforward: PositiveInt = 2048
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _fits(self) -> "ReconstructionDecoder":
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width {self.width} must be divisible by heads ({self.heads}) and by 4"
            )
        return self


class Mask(FrozenModel):
    """`density` hides patches more often where strokes are, by the power `focus` of their density (0: as random)."""

    kind: Literal["random", "block", "density"] = "random"
    ratio: Share = 0.8
    focus: NonNegativeFloat = 1.0

    @model_validator(mode="after")
    def _focus_is_of_density(self) -> "Mask":
        if self.kind != "density" and self.focus != 1:
            raise ValueError(f"focus belongs to kind: density, not to {self.kind}")
        return self


NUMBERED_STRENGTHS = {1.0: "medium", 1.5: "strong"}


class Guidance(FrozenModel):
    """The linguistic guidance branch and its view of the word. `strength`: a level of Table 2, or any number above 0
    and at most 2, by which medium's ranges are multiplied: 1 is medium, 1.5 is strong."""

    strength: str | float = "medium"

    @field_validator("strength")
    @classmethod
    def _one_name_each(cls, strength: str | float) -> str | float:
        if isinstance(strength, str) and strength in ("weak", "medium", "strong"):
            return strength
        if isinstance(strength, float) and 0 < strength <= 2:
            return NUMBERED_STRENGTHS.get(strength, strength)
        raise ValueError(
            "must be weak, medium, strong, or a number above 0 and at most 2 (1 is medium, 1.5 strong)"
        )


class Alignment(FrozenModel):
    """Eq. 3's loss, with its weight in the total (the paper: 1).

    `stop_gradient`: the branch whose [cls] is held fixed while the other is drawn to it; the paper stops neither."""

    weight: NonNegativeFloat = 1.0
    stop_gradient: Literal["none", "guidance", "masked"] = "none"


class PixelTarget(FrozenModel):
    kind: Literal["pixel"]
    normalized: bool = True  # each patch to zero mean and unit variance, as MAE does


class RandomFeatureTarget(FrozenModel):
    kind: Literal["random_feature"]


class MaeFeatureTarget(FrozenModel):
    kind: Literal["mae_feature"]


Target = Annotated[
    PixelTarget | RandomFeatureTarget | MaeFeatureTarget, Field(discriminator="kind")
]


class Optimizer(FrozenModel):
    """AdamW with linear warm-up from 0 and a half cosine to `final_lr`. `base_lr` is per 256 images of batch."""

    base_lr: PositiveFloat
    batch: PositiveInt = 512
    epochs: PositiveFloat = 5
    warmup_epochs: NonNegativeFloat = 1
    final_lr: NonNegativeFloat = 0
    weight_decay: NonNegativeFloat = 0.05
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    clip: PositiveFloat | None = None  # largest gradient norm

    @model_validator(mode="after")
    def _warmup_ends(self) -> "Optimizer":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} must be less than epochs {self.epochs:g}"
            )
        return self


Roots = Annotated[tuple[str, ...], Field(min_length=1)]


class Mix(FrozenModel):
    """Further roots that fill a share of every training batch; where they or the others run out first, they begin again."""

    roots: Roots
    share: Share


class Data(FrozenModel):
    """LMDB roots, read one after another: a folder (or one that holds several), a name of `experiments/settings/data.yaml`, or
    `rendered:NAME`, a split of the embedded data set. `filters`: lists of images to leave out."""

    roots: Roots
    mix: Mix | None = None
    filters: tuple[str, ...] = ()

    def sizes(self, batch: int) -> list[int]:
        """Images of a batch from `roots`, and from `mix` where there is one."""
        if self.mix is None:
            return [batch]
        mixed = min(max(round(self.mix.share * batch), 1), batch - 1)
        return [batch - mixed, mixed]

    def epoch(self, counts: Sequence[int], batch: int) -> int:
        """Images of one epoch, given those of `roots` and of `mix`: enough batches to show every image of both."""
        return max(
            count * batch // size for count, size in zip(counts, self.sizes(batch), strict=True)
        )


Precision = Literal["fp32", "bf16"]
Labels = Literal[
    "strict", "released"
]  # what becomes of labels that do not fit: core/text/charset.py


class PretrainModel(FrozenModel):
    """What is pre-trained; with `guidance: null`, a pixel target and SA-FFN it is plain masked image modelling."""

    encoder: Encoder
    decoder: ReconstructionDecoder
    guidance: Guidance | None
    alignment: Alignment | None
    target: Target

    @model_validator(mode="after")
    def _branches(self) -> "PretrainModel":
        if self.alignment and not self.guidance:
            raise ValueError(
                "alignment compares the two branches' [cls]: it needs guidance, or alignment: null"
            )
        if (self.decoder.order == "SA-FFN") != (self.guidance is None):
            raise ValueError(
                "decoder.order: SA-FFN goes with guidance: null, the other orders with guidance"
            )
        return self


class TrainingRun(FrozenModel):
    """What every training stage is told."""

    encoder: Encoder
    optimizer: Optimizer
    data: Data
    precision: Precision
    seed: Annotated[int, Field(ge=0)]


class Pretrain(TrainingRun, PretrainModel):
    """One pre-training run by masked image modelling: LMIM, or MIM. `start`: teacher goes on from the teacher's weights."""

    mask: Mask
    start: Literal["random", "teacher"] = "random"

    @property
    def needs_teacher(self) -> bool:
        """Whether it takes its target, or its first weights, from a teacher."""
        return self.target.kind == "mae_feature" or self.start == "teacher"

    @model_validator(mode="after")
    def _leaves_some(self) -> "Pretrain":
        if visible_count(self.encoder.patches, self.mask.ratio) < 1:
            raise ValueError(
                f"mask.ratio {self.mask.ratio:g} leaves none of {self.encoder.patches} patches visible"
            )
        return self


class Contrast(FrozenModel):
    """SeqCLR (arXiv 2012.10873): windows along the width, the projection head's width, the temperature of NT-Xent."""

    windows: PositiveInt = 5
    projection: PositiveInt = 256
    temperature: PositiveFloat = 0.1


class ContrastivePretrain(TrainingRun):
    """One pre-training run by sequence contrastive learning; it has no part of masked image modelling."""

    contrast: Contrast
    needs_teacher: ClassVar[bool] = False
    decoder: None = None
    guidance: None = None
    alignment: None = None
    target: None = None
    mask: None = None

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_parts(cls, settings: Any) -> Any:
        parts = ("decoder", "guidance", "alignment", "target", "mask")
        if isinstance(settings, dict) and (
            given := [part for part in parts if settings.get(part) is not None]
        ):
            others = ", ".join(given)
            raise ValueError(
                f"contrast is of SeqCLR, which has no {others}; let the row name method: SeqCLR, or set these to null"
            )
        return settings

    @model_validator(mode="after")
    def _windows_fit(self) -> "ContrastivePretrain":
        if self.contrast.windows > self.encoder.grid[1]:
            raise ValueError(
                f"contrast.windows {self.contrast.windows} is more than the {self.encoder.grid[1]} columns of patches"
            )
        return self


class TextDecoder(FrozenModel):
    """The recognizer's autoregressive decoder."""

    width: PositiveInt = 512
    layers: PositiveInt = 6
    heads: PositiveInt = 8
    feedforward: PositiveInt = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _fits(self) -> "TextDecoder":
        if self.width % self.heads or self.width % 2:
            raise ValueError(
                f"width {self.width} must be even and divisible by heads ({self.heads})"
            )
        return self


class RecognizerModel(FrozenModel):
    """What a recognizer is. `max_length` counts the end mark, so a word has at most max_length - 1 characters.

    `charset`: ascii94, or file:PATH, which the characters in that file (UTF-8, white space ignored) then stand for, or the
    characters themselves; with lower-case letters only, upper-case ones are read as these."""

    encoder: Encoder
    decoder: TextDecoder
    charset: str = "ascii94"
    max_length: Annotated[int, Field(ge=2, le=200)] = 25

    @field_validator("charset")
    @classmethod
    def _read_charset(cls, charset: str) -> str:
        """The characters themselves: a run's identity and its weights must not depend on a file that may change."""
        return read_charset(charset)


class Whole(FrozenModel):
    """Roots of which every image is read once."""

    roots: Roots


class Finetune(TrainingRun, RecognizerModel):
    """One fine-tuning run. `labels`: strict leaves out broken images and over-long labels, released replaces them by a later
    sample. `augmentation_draws`: kind and strength are drawn so many times for the whole run, as the released code does once in
    each of its processes; null is for each image."""

    labels: Labels = "strict"
    augmentation: Literal["abinet", "none"] = "abinet"
    augmentation_draws: PositiveInt | None = None
    validation: Whole | None = None

    @model_validator(mode="after")
    def _draws_are_of_augmentation(self) -> "Finetune":
        if self.augmentation == "none" and self.augmentation_draws is not None:
            raise ValueError(
                "augmentation_draws says how augmentation: abinet is drawn; with augmentation: none leave it out"
            )
        return self


class Evaluate(FrozenModel):
    """One evaluation: every image of every subset is read, greedily or with so many `beams`, and scored under one protocol and
    label policy."""

    subsets: Annotated[dict[str, Data], Field(min_length=1)]
    protocol: Literal["waics", "case_sensitive", "alnum_case_sensitive", "chinese", "openocr"] = (
        "waics"
    )
    labels: Labels = "strict"
    batch: PositiveInt = 256
    beams: Annotated[int, Field(ge=1, le=64)] = 1
    precision: Precision

    @field_validator("subsets")
    @classmethod
    def _unmixed(cls, subsets: dict[str, Data]) -> dict[str, Data]:
        if mixed := [name for name, data in subsets.items() if data.mix is not None]:
            raise ValueError(
                f"{mixed[0]}.mix: only training data can be mixed; name a subset of its own instead"
            )
        return subsets


StageConfig = Pretrain | ContrastivePretrain | Finetune | Evaluate


def identity(config: FrozenModel, exclude: Any = None) -> dict[str, Any]:
    """What tells a config from others: the values that are not the defaults.

    So a new option, whose default is what was done before it came, leaves identities as they were; hence a default never
    changes its value or its meaning."""
    return with_former_keys(config.model_dump(mode="json", exclude=exclude, exclude_defaults=True))


def visible_count(patches: int, ratio: float) -> int:
    """Patches left visible at a mask ratio, as the released code counts them (51 of 256 at 0.8)."""
    return int(patches * (1 - ratio))


def peak_lr(base_lr: float, global_batch: int) -> float:
    """Linear scaling rule: `base_lr` is per 256 images of batch."""
    return base_lr * global_batch / 256


def steps(images: int, batch: int, epochs: float) -> tuple[int, int]:
    """(steps of one epoch, steps in all); the last, smaller batch of an epoch is left out unless it is the only one.

    Raises UserError if there is not one step."""
    per_epoch = max(images // batch, 1)
    total = round(per_epoch * epochs)
    if total < 1:
        raise UserError(
            f"{images} images and {epochs:g} epochs make not one step; train for longer"
        )
    return per_epoch, total
