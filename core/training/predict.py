"""Predictions for image files, without labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL.Image import Image

from core.data.batches import normalize, to_unit
from core.data.word_images import decode_image, resize_image
from core.data_tools.annotations import IMAGE_SUFFIXES
from core.data_tools.sources import image_files
from core.runtime.errors import UserError
from core.training.evaluate import load_recognizer, recognize_batch

BATCH = 64


class FilePrediction(NamedTuple):
    """The prediction for a file. `text` is None if the image cannot be read or decoded."""

    path: Path
    text: str | None
    confidence: float


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths`, and the image files in and below the folders among them.

    Raises UserError if a path does not exist or a folder holds no image."""
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [path / name for name in image_files(path)]
            if not inside:
                raise UserError(f"{path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return images


def predict(
    recognizer: Path, images: Sequence[Path], device: torch.device
) -> Iterator[FilePrediction]:
    """A prediction for each image file, in order. recognizer: its file."""
    model = load_recognizer(recognizer, device).eval()
    size = model.config.encoder.image
    for start in range(0, len(images), BATCH):
        paths = images[start : start + BATCH]
        decoded = [_open(path) for path in paths]
        tensors = [resize_image(picture, size) for picture in decoded if picture is not None]
        texts = iter(
            recognize_batch(model, normalize(to_unit(torch.stack(tensors), device)))
            if tensors
            else ()
        )
        for path, picture in zip(paths, decoded, strict=True):
            if picture is None:
                yield FilePrediction(path, None, 0.0)
            else:
                yield FilePrediction(path, *next(texts))


def _open(path: Path) -> Image | None:
    try:
        return decode_image(path.read_bytes())
    except OSError:
        return None
