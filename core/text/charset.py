"""Characters, tokens, and what becomes of labels that do not fit.

Label policy `strict` (default): a test image whose label is too long for the decoder, or has a character that it has no class
for, counts as wrong. `released`: as the authors' code has it, over-long labels and broken images give way to a later sample, in
tests too, and unknown characters vanish from the label. White space is no character of a label for either: no charset here has
a class for it, and annotators put it between the words of one image.
"""

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # scoring stored predictions needs charsets, but no torch
    from torch import Tensor

ASCII94 = string.printable[
    :-6
]  # digits, lower case, upper case, punctuation: classes 0-93 of the released code


@dataclass(frozen=True)
class Charset:
    """Classes: the characters, then EOS, PADDING, UNKNOWN. BEGIN is an input token only."""

    characters: str = ASCII94

    @cached_property
    def folds(self) -> bool:
        """Whether upper-case letters are read as lower-case ones: the set has letters, but only lower-case ones of them."""
        return self.characters.lower() == self.characters != self.characters.upper()

    def fold(self, label: str) -> str:
        """`label` in the case that the set knows."""
        return label.lower() if self.folds else label

    @cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self.characters)

    @property
    def eos(self) -> int:
        return len(self.characters)

    @property
    def padding(self) -> int:
        return len(self.characters) + 1

    @property
    def unknown(self) -> int:
        return len(self.characters) + 2

    @property
    def classes(self) -> int:
        """Number of output classes (97 for ASCII)."""
        return len(self.characters) + 3

    @property
    def begin(self) -> int:
        return len(self.characters) + 3

    def encode(self, labels: Sequence[str], max_length: int) -> tuple["Tensor", "Tensor"]:
        """Words -> (tokens (B, max_length) ending in EOS and PADDING, lengths (B,) EOS included).

        A character outside the set becomes UNKNOWN; a set of lower-case letters takes upper-case ones for them.
        Raises ValueError for a word over max_length - 1 characters."""
        import torch

        tokens = torch.full((len(labels), max_length), self.padding)
        index = {character: number for number, character in enumerate(self.characters)}
        for row, label in enumerate(map(self.fold, labels)):
            if len(label) >= max_length:
                raise ValueError(
                    f"{label!r} has {len(label)} characters; at most {max_length - 1} fit"
                )
            numbers = [index.get(character, self.unknown) for character in label]
            tokens[row, : len(label) + 1] = torch.tensor([*numbers, self.eos])
        return tokens, torch.tensor([len(label) + 1 for label in labels])

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens up to the first EOS -> text; PADDING and UNKNOWN print nothing."""
        text = []
        for token in tokens:
            if token == self.eos:
                break
            if token < len(self.characters):
                text.append(self.characters[token])
        return "".join(text)

    def unknown_in(self, label: str) -> set[str]:
        """The characters of `label` outside the set."""
        return set(self.fold(label)) - self._members

    def can_read(self, label: str, max_length: int) -> bool:
        """Whether a reading could be right: not empty, short enough, no character outside the set but white space."""
        return 0 < len(label) < max_length and not any(
            not mark.isspace() for mark in self.unknown_in(label)
        )

    def without_unknown(self, label: str) -> str:
        """`label` as the released code scores it: characters outside the set are gone."""
        return "".join(mark for mark in label if self.fold(mark) in self._members)


def read_charset(charset: str) -> str:
    """What `ascii94`, `file:PATH` or the characters themselves stand for: `ascii94`, or the characters.

    Raises ValueError if the file is missing or a character stands twice."""
    if charset.startswith("file:"):
        path = Path(charset.removeprefix("file:"))
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        charset = "".join(path.read_text(encoding="utf-8-sig").split())
    if charset != "ascii94" and (len(set(charset)) < len(charset) or not charset):
        raise ValueError("ascii94, file:PATH, or characters of which none may stand twice")
    return charset


def count_characters(labels: Iterable[str]) -> Counter[str]:
    """Character -> labels that have it; white space is none."""
    found: Counter[str] = Counter()
    for label in labels:
        found.update({mark for mark in label if not mark.isspace()})
    return found


def make_charset(name: str) -> Charset:
    """The charset that a config names: `ascii94`, or the characters themselves."""
    return Charset() if name == "ascii94" else Charset(name)
