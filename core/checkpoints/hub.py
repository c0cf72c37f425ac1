"""A folder for model hubs: weights as safetensors, `config.json` and a card. Nothing is pickled.

`write_hub_folder` makes it from a run's weights, and `load_model` gives the model back.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor

from core.checkpoints.load import load_weights
from core.config import Encoder, FrozenModel, RecognizerModel
from core.model.ctc import AnyRecognizer, make_recognizer
from core.model.vit import VisionTransformer
from core.runtime import safetensors_io
from core.runtime.artifacts import MODEL
from core.runtime.errors import UserError
from core.runtime.files import write_text
from core.runtime.former_keys import with_current_keys
from core.runtime.number_types import NonNegativeInt, Number, PositiveInt
from core.text.charset import make_charset

CONFIG = "config.json"
CARD = "README.md"
ATTRIBUTES = ".gitattributes"  # hubs store large files with Git LFS
FORMAT = 1
DATA_KEYS = ("data", "validation")  # of a stage's config; folders of a user's machine

HubModel = AnyRecognizer | VisionTransformer


class ImageSettings(FrozenModel):
    """How an image becomes the model's input.

    It is decoded as RGB, resized to `height` x `width` without keeping its aspect ratio, divided by
    255, and normalized: (value - mean) / std."""

    height: PositiveInt
    width: PositiveInt
    mode: Literal["RGB"] = "RGB"
    resample: Literal["bicubic"] = "bicubic"
    keep_aspect_ratio: Literal[False] = False
    rescale: Literal["1/255"] = "1/255"
    mean: tuple[Number, Number, Number] = (0.5, 0.5, 0.5)
    std: tuple[Number, Number, Number] = (0.5, 0.5, 0.5)


class TextSettings(FrozenModel):
    """The classes of a recognizer: its characters in order, then special classes.

    blank: of CTC; None for an attention decoder."""

    characters: str
    eos: NonNegativeInt
    padding: NonNegativeInt
    unknown: NonNegativeInt
    blank: NonNegativeInt | None


class HubConfig(FrozenModel):
    """The content of `config.json`.

    model_type: a recognizer, or an encoder.
    architectures: the class of the model.
    format: version of this layout.
    run, stage: what computed the weights.
    image: the preprocessing.
    recognizer: its sizes; None for an encoder.
    encoder: its sizes; None for a recognizer, which contains them.
    text: the classes of a recognizer.
    """

    model_type: Literal["lmim_recognizer", "lmim_encoder"]
    architectures: tuple[str, ...]
    format: Literal[1]
    run: str
    stage: Literal["pretrain", "finetune"]
    image: ImageSettings
    recognizer: RecognizerModel | None = None
    encoder: Encoder | None = None
    text: TextSettings | None = None

    @property
    def sizes(self) -> RecognizerModel | Encoder:
        """The sizes of the model."""
        if self.recognizer is not None:
            return self.recognizer
        assert self.encoder is not None
        return self.encoder


# Writing


def check_hub_folder(out: Path) -> None:
    """Raise UserError unless `out` is absent or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is not empty; name a new or an empty folder")


def write_hub_folder(weights: Path, run: str, card: str, out: Path) -> list[Path]:
    """Write weights, `config.json` and the card of a run into a folder; returns the files.

    The folders of training data, which `weights` names in its metadata, are left out. If a file
    cannot be written, those before it are removed.

    weights: a run's `model.safetensors`.
    run: its id.
    card: text of `README.md`.
    out: the folder; it is absent or empty.

    Raises UserError if the folder has content, or the weights are no model of this suite.
    """
    check_hub_folder(out)
    tensors, metadata = load_weights(weights)
    config = hub_config(metadata, run, weights)
    kept = {key: value for key, value in metadata["config"].items() if key not in DATA_KEYS}
    out.mkdir(parents=True, exist_ok=True)
    written = [out / name for name in (MODEL, CONFIG, ATTRIBUTES, CARD)]
    try:
        safetensors_io.save(out / MODEL, tensors, {"stage": config.stage, "config": kept})
        write_text(out / CONFIG, config.model_dump_json(indent=2) + "\n")
        write_text(out / ATTRIBUTES, "*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        write_text(out / CARD, card)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return written


def hub_config(metadata: Mapping[str, Any], run: str, path: Path) -> HubConfig:
    """The content of `config.json` for the weights of a run.

    metadata: of the file. run: its id. path: the file, for messages.
    Raises UserError if it is no file of a run."""
    stage = metadata.get("stage")
    if stage not in ("pretrain", "finetune"):
        raise UserError(f"{path}: no weights of a pre-training or fine-tuning run of this suite")
    settings = with_current_keys(metadata["config"])
    if stage == "pretrain":
        encoder = Encoder.model_validate(settings["encoder"])
        return HubConfig(
            model_type="lmim_encoder",
            architectures=(VisionTransformer.__name__,),
            format=FORMAT,
            run=run,
            stage=stage,
            image=_image_settings(encoder),
            encoder=encoder,
        )
    fields = {name: settings[name] for name in RecognizerModel.model_fields}
    recognizer = RecognizerModel.model_validate(fields)
    charset = make_charset(recognizer.charset)
    return HubConfig(
        model_type="lmim_recognizer",
        architectures=("CTCRecognizer" if recognizer.decoder is None else "Recognizer",),
        format=FORMAT,
        run=run,
        stage=stage,
        image=_image_settings(recognizer.encoder),
        recognizer=recognizer,
        text=TextSettings(
            characters=charset.characters,
            eos=charset.eos,
            padding=charset.padding,
            unknown=charset.unknown,
            blank=charset.classes if recognizer.decoder is None else None,
        ),
    )


def _image_settings(encoder: Encoder) -> ImageSettings:
    height, width = encoder.image
    return ImageSettings(height=height, width=width)


# Loading


def load_model(path: Path | str) -> HubModel:
    """The model of a folder that `run.py export --hub` made, or of a run's `model.safetensors`.

    A fine-tuning gives its recognizer, a pre-training its encoder, on the CPU and in evaluation
    mode. Outputs equal those of the run's model, bit by bit on the same machine.

    Raises UserError if the folder or the file is not such a model."""
    path = Path(path)
    if not path.is_dir():
        weights, metadata = load_weights(path)
        return _build(hub_config(metadata, path.parent.name, path).sizes, weights, path)
    file = path / MODEL
    weights, _ = safetensors_io.load(file)
    safetensors_io.check_finite_weights(weights, file)
    return _build(read_hub_config(path).sizes, weights, file)


def read_hub_config(folder: Path) -> HubConfig:
    """The config of a folder for hubs. Raises UserError if there is none or it is not valid."""
    path = folder / CONFIG
    try:
        return HubConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its content is another one"
        raise UserError(
            f"{path}: no config of `run.py export --hub` ({reason}); name a folder that it made"
        ) from error


def _build(sizes: RecognizerModel | Encoder, weights: Mapping[str, Tensor], path: Path) -> HubModel:
    """The model with its weights, in evaluation mode. path: the file, for messages."""
    if isinstance(sizes, Encoder):
        encoder = VisionTransformer(sizes)
        safetensors_io.load_into(encoder, weights, "encoder.", path)
        return encoder.eval()
    recognizer = make_recognizer(sizes)
    safetensors_io.load_into(recognizer, weights, "", path)
    return recognizer.eval()
