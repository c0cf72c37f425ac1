"""Word images that models are looked at with: drawn words, whose characters' places are known, or anybody's own pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.data.batches import normalize, to_unit
from core.data.word_images import WordImages, decode, resize
from core.runtime.errors import UserError
from core.runtime.seeds import generator
from core.synthetic import words as synthetic
from core.synthetic.config import Rendered
from core.synthetic.drawing import cut_to_ink, draw_text, paint, place
from core.synthetic.fonts import faces, font
from core.training.predict import find_images
from core.views.guidance import draw_view, guidance_view, strength_of

VOCABULARY = Rendered(
    train=1, validation=1, vocabulary=3000, letters=(3, 6)
)  # where words are taken from


@dataclass(frozen=True)
class Words:
    """B images of the model's size. `spans`, where known: for each word (T, 2), its characters' ends in pixels."""

    images: Tensor  # (B, 3, H, W) uint8
    labels: tuple[str, ...]
    spans: tuple[np.ndarray, ...] | None
    source: str  # for captions

    @property
    def inputs(self) -> Tensor:
        """(B, 3, H, W) in [-1, 1], as encoders take them."""
        return normalize(to_unit(self.images, torch.device("cpu")))

    def __getitem__(self, numbers: Sequence[int]) -> "Words":
        spans = None if self.spans is None else tuple(self.spans[number] for number in numbers)
        return Words(
            self.images[list(numbers)],
            tuple(self.labels[number] for number in numbers),
            spans,
            self.source,
        )

    def __len__(self) -> int:
        return len(self.labels)


def some_words(
    count: int, training: Rendered | None = None, without: Sequence[str] = ()
) -> tuple[str, ...]:
    """Frequent English words of 3 to 6 letters, evenly chosen and the same ones at every call; none of `without`, and none that
    the rendered `training` data draw, where these are known.

    Raises UserError if so many there are not."""
    low, high = VOCABULARY.letters
    seen, _, unseen = synthetic.vocabulary(training or VOCABULARY)
    frequent = [word for part in synthetic.vocabulary(VOCABULARY)[::2] for word in part]
    drawn = {*seen, *without}
    fitting = [
        word
        for word in dict.fromkeys([*unseen, *frequent])
        if word not in drawn and low <= len(word) <= high
    ]
    if count > len(fitting):
        raise UserError(
            f"{count} words were asked for that training does not draw; there are {len(fitting)}"
        )
    return tuple(fitting[:: len(fitting) // count][:count])


def draw_words(texts: Sequence[str], size: tuple[int, int], *, look: int = 0) -> Words:
    """Each text drawn upright in a plain font, on an image of (height, width) `size`. Where characters lie follows from the
    font's advances. Another `look` has other inks, places and noise, and another font than look 0."""
    images, spans = [], []
    table = faces("plain")
    for number, text in enumerate(texts):
        random = np.random.default_rng([7, look, number])
        first = int(np.random.default_rng([7, number]).integers(len(table)))
        other = first + (1 + int(random.integers(len(table) - 1)) if look else 0)
        face = font(*table[other % len(table)], int(random.integers(19, 24)))
        canvas = place(cut_to_ink(draw_text(text, face, trick=2)), size, random)
        left, _, right, _ = canvas.getbbox() or (0, 0, *canvas.size)
        ends = np.array([face.getlength(text[:count]) for count in range(len(text) + 1)])
        begin, _, end, _ = face.getbbox(text)  # where ink begins and ends among the advances
        edges = left + (ends - begin) * (right - left) / max(end - begin, 1)
        edges[[0, -1]] = left, right
        spans.append(np.stack([edges[:-1], edges[1:]], axis=1))
        images.append(resize(paint(canvas, False, random), size))
    return Words(torch.stack(images), tuple(texts), tuple(spans), "drawn words")


def guided(words: Words, strength: str | float, seed: int = 0) -> Words:
    """The same words as guidance views of a strength (core/views/guidance.py), drawn from `seed`."""
    height, width = words.images.shape[2:]
    view = draw_view(
        strength_of(strength),
        len(words),
        (height, width),
        generator=generator(seed, "analysis", "look"),
    )
    views = guidance_view(to_unit(words.images, torch.device("cpu")), view)
    return Words(
        (views * 255).round().to(torch.uint8),
        words.labels,
        None,
        f"guidance views ({strength}) of {words.source}",
    )


def read_words(source: str | Sequence[str], size: tuple[int, int], most: int) -> Words:
    """At most `most` images of an LMDB folder, evenly spaced through it, or of image files and folders of them.

    Raises UserError where there is nothing to read; an image that cannot be decoded is left out."""
    if isinstance(source, str) and (Path(source) / "data.mdb").is_file():
        roots = WordImages([source])
        numbers = np.unique(
            np.linspace(0, len(roots) - 1, min(len(roots), most), dtype=int)
        ).tolist()
        found = [(roots.image(number, size), roots.label(number) or "") for number in numbers]
    else:
        paths = find_images(
            [Path(name) for name in ([source] if isinstance(source, str) else source)]
        )[:most]
        pictures = [(decode(path.read_bytes()), path.stem) for path in paths]
        found = [
            (None if picture is None else resize(picture, size), name) for picture, name in pictures
        ]
    whole = [(image, label) for image, label in found if image is not None]
    if not whole:
        raise UserError(f"{source}: none of these images can be decoded")
    images, labels = zip(*whole, strict=True)
    return Words(torch.stack(images), labels, None, f"images of {source}")
