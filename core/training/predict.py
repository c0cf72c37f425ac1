"""Read image files with a recognizer."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL.Image import Image

from core.data.batches import normalize, to_unit
from core.data.word_images import decode, resize
from core.data_tools.annotations import IMAGE_SUFFIXES, image_files
from core.runtime.errors import UserError
from core.training.evaluate import load_recognizer, read_batch

BATCH = 64


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files named, and those below the folders named. Raises UserError where there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = [path / name for name in image_files(path)]
            if not below:
                raise UserError(f"{path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
            found += below
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return found


def predict(
    recognizer: Path, images: Sequence[Path], device: torch.device
) -> Iterator[tuple[Path, str | None, float]]:
    """(image, text, confidence) for each, in order; text is None where the image cannot be read or decoded."""
    model = load_recognizer(recognizer, device).eval()
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        pictures = [_open(path) for path in part]
        whole = [
            resize(picture, model.config.encoder.image)
            for picture in pictures
            if picture is not None
        ]
        texts = iter(
            read_batch(model, normalize(to_unit(torch.stack(whole), device))) if whole else ()
        )
        for path, picture in zip(part, pictures, strict=True):
            yield (path, *(next(texts) if picture is not None else (None, 0.0)))


def _open(path: Path) -> Image | None:
    try:
        return decode(path.read_bytes())
    except OSError:
        return None
