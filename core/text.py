"""Characters, tokens, and what becomes of labels that do not fit."""

import string
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ASCII94 = string.printable[:-6]  # digits, lower case, upper case, punctuation: classes 0-93 of the released code


@dataclass(frozen=True)
class Charset:
    """Classes: the characters, then EOS, PADDING, UNKNOWN. BEGIN is an input token only."""

    characters: str = ASCII94

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

    def encode(self, labels: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Words -> (tokens (B, max_length) ending in EOS and PADDING, lengths (B,) EOS included).

        A character outside the set becomes UNKNOWN. Raises ValueError for a word over max_length - 1 characters."""
        tokens = torch.full((len(labels), max_length), self.padding)
        index = {character: number for number, character in enumerate(self.characters)}
        for row, label in enumerate(labels):
            if len(label) >= max_length:
                raise ValueError(f"{label!r} has {len(label)} characters; at most {max_length - 1} fit")
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
        return set(label) - set(self.characters)

    def can_read(self, label: str, max_length: int) -> bool:
        """Whether a reading could be right: not empty, short enough, no letter or digit outside the set.

        Symbols and spaces outside it do not matter: the protocols ignore them."""
        unknown = any(character.isalnum() for character in self.unknown_in(label))
        return 0 < len(label) < max_length and not unknown


def make_charset(name: str) -> Charset:
    """The charset that a config names: `ascii94`, or the characters themselves."""
    return Charset() if name == "ascii94" else Charset(name)
