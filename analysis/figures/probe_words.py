"""Word images to examine models with: drawn words, or images from files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.data.batches import normalize, to_unit
from core.data.word_images import WordImages, decode_image, resize_image
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.synthetic.config import Synthetic
from core.synthetic.drawing import crop_to_ink, draw_text, paint, place_on_canvas
from core.synthetic.fonts import faces, font
from core.synthetic.vocabulary import make_vocabulary
from core.training.predict import find_images
from core.views.guidance import apply_view, sample_view, strength_of

CPU = torch.device("cpu")
# Settings of the vocabulary from which words are chosen.
VOCABULARY = Synthetic(train=1, validation=1, vocabulary=3000, letters=(3, 6))


@dataclass(frozen=True)
class ProbeWords:
    """B word images of the model's size.

    `spans` has, for each word, the left and right ends (T, 2) of its T characters in pixels; None
    if unknown."""

    images: Tensor  # (B, 3, h, w) uint8
    labels: tuple[str, ...]
    spans: tuple[np.ndarray, ...] | None
    source: str  # for captions

    @property
    def inputs(self) -> Tensor:
        """The encoder's inputs: (B, 3, h, w) in [-1, 1]."""
        return normalize(to_unit(self.images, CPU))

    def __getitem__(self, numbers: Sequence[int]) -> "ProbeWords":
        labels = tuple(self.labels[number] for number in numbers)
        spans = None
        if self.spans is not None:
            spans = tuple(self.spans[number] for number in numbers)
        return ProbeWords(self.images[list(numbers)], labels, spans, self.source)

    def __len__(self) -> int:
        return len(self.labels)


def choose_words(
    count: int, training: Synthetic | None = None, excluding: Sequence[str] = ()
) -> tuple[str, ...]:
    """Frequent English words of 3 to 6 letters; the same at every call.

    They are evenly spaced in a list that is sorted by frequency.

    Args:
        count: how many words.
        training: settings of synthetic training data. Words that these data contain are left out.
        excluding: further words to leave out.

    Raises UserError if there are fewer than `count` such words."""
    shortest, longest = VOCABULARY.letters
    seen, _, unseen = make_vocabulary(training or VOCABULARY)
    frequent = [word for part in make_vocabulary(VOCABULARY)[::2] for word in part]
    left_out = {*seen, *excluding}
    words = [
        word
        for word in dict.fromkeys([*unseen, *frequent])
        if word not in left_out and shortest <= len(word) <= longest
    ]
    if count > len(words):
        raise UserError(
            f"{count} words are needed, but only {len(words)} are not in the training data"
        )
    return tuple(words[:: len(words) // count][:count])


def draw_words(texts: Sequence[str], size: tuple[int, int], *, variant: int = 0) -> ProbeWords:
    """Draw each text upright, in a plain font.

    Args:
        texts: the words.
        size: (height, width) of the images in pixels.
        variant: each variant has different colors, positions and noise. Variants above 0 use other
            fonts than 0.

    The positions of characters follow from the font's advance widths."""
    images = []
    spans = []
    for number, text in enumerate(texts):
        image, ends = _draw_word(text, size, variant, number)
        images.append(image)
        spans.append(ends)
    return ProbeWords(torch.stack(images), tuple(texts), tuple(spans), "drawn words")


def _draw_word(
    text: str, size: tuple[int, int], variant: int, number: int
) -> tuple[Tensor, np.ndarray]:
    """Image (3, h, w) uint8 of a word, and the ends (T, 2) of its characters.

    number: seeds the font and the noise."""
    random = np.random.default_rng([7, variant, number])
    table = faces("plain")
    face_number = int(np.random.default_rng([7, number]).integers(len(table)))
    if variant:
        face_number += 1 + int(random.integers(len(table) - 1))
    face = font(*table[face_number % len(table)], int(random.integers(19, 24)))
    canvas = place_on_canvas(crop_to_ink(draw_text(text, face)), size, random).mask
    left, _, right, _ = canvas.getbbox() or (0, 0, *canvas.size)
    advances = np.array([face.getlength(text[:count]) for count in range(len(text) + 1)])
    ink_begin, _, ink_end, _ = face.getbbox(text)
    edges = left + (advances - ink_begin) * (right - left) / max(ink_end - ink_begin, 1)
    edges[0] = left
    edges[-1] = right
    image = resize_image(paint(canvas, False, random), size)
    return image, np.stack([edges[:-1], edges[1:]], axis=1)


def guidance_views(words: ProbeWords, strength: str | float, seed: int = 0) -> ProbeWords:
    """Guidance views of the same words (core/views/guidance.py)."""
    height, width = words.images.shape[2:]
    view = sample_view(
        strength_of(strength),
        len(words),
        (height, width),
        generator=generator(seed, "analysis", "look"),
    )
    views = apply_view(to_unit(words.images, CPU), view)  # (B, 3, h, w) in [0, 1]
    images = (views * 255).round().to(torch.uint8)
    source = f"guidance views ({strength}) of {words.source}"
    return ProbeWords(images, words.labels, None, source)


def read_words(source: str | Sequence[str], size: tuple[int, int], count: int) -> ProbeWords:
    """Read word images from files. Images that cannot be decoded are left out.

    Args:
        source: an LMDB folder (images are evenly spaced in it), or image files and folders of them.
        size: (height, width) to which images are resized.
        count: the largest number of images.

    Raises UserError if no image can be decoded."""
    if isinstance(source, str) and (Path(source) / "data.mdb").is_file():
        samples = _lmdb_samples(source, size, count)
    else:
        samples = _file_samples([source] if isinstance(source, str) else source, size, count)
    decoded = [(image, label) for image, label in samples if image is not None]
    if not decoded:
        raise UserError(f"{source}: none of these images can be decoded")
    images, labels = zip(*decoded, strict=True)
    return ProbeWords(torch.stack(images), labels, None, f"images of {source}")


def _lmdb_samples(
    folder: str, size: tuple[int, int], count: int
) -> list[tuple[Tensor | None, str]]:
    images = WordImages([folder])
    numbers = np.linspace(0, len(images) - 1, min(len(images), count), dtype=int)
    return [
        (images.image(number, size), images.label(number) or "")
        for number in np.unique(numbers).tolist()
    ]


def _file_samples(
    sources: Sequence[str], size: tuple[int, int], count: int
) -> list[tuple[Tensor | None, str]]:
    samples: list[tuple[Tensor | None, str]] = []
    for path in find_images([Path(source) for source in sources])[:count]:
        image = decode_image(path.read_bytes())
        samples.append((None if image is None else resize_image(image, size), path.stem))
    return samples
