"""PP-OCRv6-small, the recognition model in the wheel of rapidocr 3.10.0 (Apache-2.0).

Only the ONNX file of the wheel is read. None of rapidocr's code is imported, and an ONNX file holds
a graph and weights, no code. Reading follows PaddleOCR: BGR in [-1, 1], height 48, argmax of each
frame, repetitions collapsed, blank first.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.peer import PPOCRV6
from core.runtime.errors import UserError

RAPIDOCR = "3.10.0"
MODEL = "rapidocr/models/PP-OCRv6_rec_small.onnx"
SHA256 = "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"
INSTALL = "pip install --no-deps -r requirements-peer.txt"

HEIGHT = 48  # pixels
MIN_WIDTH = 320  # pixels; narrower images are padded to it
MAX_WIDTH = 4800  # pixels; wider images are squeezed to it, so that memory is bounded
BLANK = 0
Floats = NDArray[np.float32]


class Reading(NamedTuple):
    """A text and its confidence: the product of the probabilities of all frames."""

    text: str
    confidence: float


class Session(Protocol):
    """What is used of `onnxruntime.InferenceSession`."""

    def get_inputs(self) -> Sequence[Any]: ...

    def run(self, outputs: None, inputs: Mapping[str, Floats]) -> Sequence[Floats]: ...


@dataclass(frozen=True)
class PeerRecognizer:
    """A CTC model with its characters.

    session: takes (1, 3, HEIGHT, W) and returns probabilities (1, F, K).
    characters: of the classes after the blank; K - 1 of them, or K - 2 and the space is last.
    """

    session: Session
    characters: Sequence[str]

    def read(self, picture: Image.Image) -> Reading:
        """The word on an RGB picture. Raises UserError if classes and characters do not fit."""
        name = self.session.get_inputs()[0].name
        (batch, *_) = self.session.run(None, {name: preprocess(picture)[np.newaxis]})
        return decode(batch[0], self.characters)


def preprocess(picture: Image.Image) -> Floats:
    """(3, HEIGHT, W) float32 in [-1, 1], channels B, G, R, of an RGB picture.

    The aspect ratio is kept. The right side is padded with 0 (middle gray) to MIN_WIDTH.
    """
    width = math.ceil(HEIGHT * picture.width / picture.height)
    width = min(max(width, 1), MAX_WIDTH)
    resized = picture.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized, dtype=np.float32)[:, :, ::-1] / np.float32(127.5) - 1
    padded = np.zeros((3, HEIGHT, max(width, MIN_WIDTH)), dtype=np.float32)
    padded[:, :, :width] = pixels.transpose(2, 0, 1)
    return padded


def decode(probabilities: Floats, characters: Sequence[str]) -> Reading:
    """The likeliest class of each frame, without repetitions and blanks.

    probabilities: (F, K), class 0 is the blank.
    characters: of the other classes. If one is missing, the last class is the space.

    Raises UserError if the number of classes fits neither.
    """
    texts = ("", *characters)
    if len(texts) + 1 == probabilities.shape[1]:
        texts = (*texts, " ")
    if len(texts) != probabilities.shape[1]:
        raise UserError(
            f"{MODEL}: {probabilities.shape[1]:,} classes, but {len(characters):,} characters in "
            f"its metadata; install the model again with `{INSTALL}`"
        )
    path = probabilities.argmax(1)  # (F,)
    starts = np.diff(path, prepend=BLANK - 1) != 0
    text = "".join(texts[number] for number in path[starts & (path != BLANK)])
    confidence = float(probabilities.max(1).astype(np.float64).prod())
    return Reading(text, min(confidence, 1.0))


def find_model() -> Path:
    """The model's file in the installed wheel.

    Raises UserError if a package is missing, has another version, or the file is another one.
    """
    try:
        installed = distribution("rapidocr")
        version("onnxruntime")
    except PackageNotFoundError as error:
        raise UserError(
            f"peer {PPOCRV6}: the package {error.name} is not installed; install it with "
            f"`{INSTALL}`"
        ) from error
    path = Path(str(installed.locate_file(MODEL)))
    if not path.is_file():
        raise UserError(
            f"peer {PPOCRV6}: rapidocr {installed.version} has no file {MODEL}; install version "
            f"{RAPIDOCR} with `{INSTALL}`"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise UserError(
            f"{path}: not the model of rapidocr {RAPIDOCR} (its SHA-256 differs); remove rapidocr "
            f"and install it with `{INSTALL}`"
        )
    return path


def load_model(path: Path, threads: int) -> PeerRecognizer:
    """The recognizer of an ONNX file. No code is executed, and no library is loaded for it.

    path: the file; its metadata `character` has a character in each line.
    threads: of one image.

    Raises UserError if the file is no such model, or onnxruntime cannot be loaded.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"peer {PPOCRV6}: onnxruntime cannot be loaded ({error}); install it with `{INSTALL}`"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # shares the cores
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has no common class of errors
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: no model that onnxruntime can load ({reason})") from error
    metadata = session.get_modelmeta().custom_metadata_map
    return PeerRecognizer(session, characters_of(metadata, path))


def characters_of(metadata: Mapping[str, str], path: Path) -> list[str]:
    """The characters in a model's metadata, one a line. path: of the model, for the error."""
    text = metadata.get("character", "")
    if not text:
        raise UserError(
            f"{path}: no characters in its metadata (key character); install the model again with "
            f"`{INSTALL}`"
        )
    return text.removesuffix("\n").split("\n")


def package_versions() -> dict[str, str]:
    """The versions that readings depend on."""
    return {name: version(name) for name in ("rapidocr", "onnxruntime", "numpy", "pillow")}
