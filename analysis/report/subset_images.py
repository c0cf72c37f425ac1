"""The images of a test subset: read from its LMDB folders, or drawn again if they are synthetic."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL.Image import Image

from core.data.word_images import WordImages, decode_image
from core.synthetic.words import render_word
from experiments.planning.data_roots import Root


@dataclass(frozen=True)
class SubsetImages:
    """The images of one subset by index.

    Synthetic words are drawn again if their LMDB folder does not exist."""

    roots: tuple[Root, ...]

    @cached_property
    def _stored(self) -> WordImages | None:
        paths = [root.images_path for root in self.roots]
        if all(path and (Path(path) / "data.mdb").is_file() for path in paths):
            return WordImages(paths)
        return None

    def __getitem__(self, number: int) -> Image | None:
        """The image; None if the data are not available, or the image cannot be decoded."""
        if self._stored is not None:
            raw = self._stored.raw(number)
            return None if raw is None else decode_image(raw)
        (root, *others) = self.roots
        if root.synthetic is None or others:
            return None
        return render_word(root.synthetic, root.name.partition(":")[2], number)[0]
