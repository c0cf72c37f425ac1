"""The ink of a word as masks: one of the whole word and, if wanted, one of each character.

A mask is a gray image (mode L), 255 where ink covers a pixel fully. The masks of the characters
undergo the same geometric operations as the word's mask. So they give each character's box without
any random number, and the word's pixels do not depend on them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from core.data.character_boxes import Box

VISIBLE_SHARE = 4  # a pixel belongs to a character if it has a fourth of its darkest pixel's ink


@dataclass(frozen=True)
class WordInk:
    """A word's mask, and the masks of its characters; all have the same size.

    characters: one mask for each character of the text, spaces included; () if none is wanted.
    """

    mask: Image.Image
    characters: tuple[Image.Image, ...] = ()

    def transform(self, operation: Callable[[Image.Image], Image.Image]) -> "WordInk":
        """The ink after a geometric operation on every mask."""
        return WordInk(operation(self.mask), tuple(map(operation, self.characters)))

    def boxes(self) -> tuple[Box | None, ...]:
        """The box of each character's ink; None for a character without ink, as a space."""
        return tuple(map(ink_box, self.characters))


def ink_box(mask: Image.Image) -> Box | None:
    """(left, top, right, bottom) of the pixels with ink; right and bottom are exclusive.

    Faint pixels at the edge of a stroke do not count. None if there is no ink."""
    _, peak = mask.getextrema()
    assert isinstance(peak, int)
    threshold = max(1, peak // VISIBLE_SHARE)
    return mask.point(lambda value: 255 * (value >= threshold)).getbbox()
