"""Character sets: characters to classes and back, and which labels a recognizer can express.

White space is not part of a label here: no charset has a class for it, and annotators write it
between the words of one image. Labels that do not fit are treated by a label policy
(`core/text/protocols.py`).
"""

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core.text.charset_files import describe_character, is_text_character, read_charset

if TYPE_CHECKING:  # scoring stored predictions needs charsets, but not PyTorch
    from torch import Tensor

# Digits, lower case, upper case, punctuation: classes 0 to 93 of the released code.
ASCII94 = string.printable[:-6]


@dataclass(frozen=True)
class Charset:
    """The classes of a recognizer: the characters, then EOS, PADDING, UNKNOWN.

    BOS is an input token of the decoder and no class.
    """

    characters: str = ASCII94

    @cached_property
    def lower_case_only(self) -> bool:
        """Whether the set has letters, all of them lower-case. Labels are then lower-cased."""
        return self.characters.lower() == self.characters != self.characters.upper()

    def fold_case(self, label: str) -> str:
        """`label` in lower case if the set has lower-case letters only, else unchanged."""
        return label.lower() if self.lower_case_only else label

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
    def bos(self) -> int:
        """The input token that starts decoding; its number follows the last class."""
        return len(self.characters) + 3

    def encode(self, labels: Sequence[str], max_length: int) -> tuple["Tensor", "Tensor"]:
        """Labels as token sequences. A character outside the set becomes UNKNOWN.

        Args:
            labels: B words of at most `max_length` - 1 characters.
            max_length: Length of the sequences, EOS included.

        Returns:
            Tokens (B, max_length), each row ending in EOS and PADDING, and the lengths (B,), EOS
            included.

        Raises:
            ValueError: A label is too long.
        """
        import torch

        tokens = torch.full((len(labels), max_length), self.padding)
        index = {character: number for number, character in enumerate(self.characters)}
        for row, label in enumerate(map(self.fold_case, labels)):
            if len(label) >= max_length:
                raise ValueError(
                    f"{label!r} has {len(label)} characters; at most {max_length - 1} fit"
                )
            numbers = [index.get(character, self.unknown) for character in label]
            tokens[row, : len(label) + 1] = torch.tensor([*numbers, self.eos])
        return tokens, torch.tensor([len(label) + 1 for label in labels])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens before the first EOS, without PADDING and UNKNOWN."""
        text = []
        for token in tokens:
            if token == self.eos:
                break
            if token < len(self.characters):
                text.append(self.characters[token])
        return "".join(text)

    def unknown_characters(self, label: str) -> set[str]:
        """The characters of `label` outside the set, white space included."""
        return set(self.fold_case(label)) - self._members

    def can_express(self, label: str, max_length: int) -> bool:
        """Whether a recognizer can predict `label`.

        It is not empty, shorter than `max_length`, and all its characters other than white space
        are in the set.
        """
        if not 0 < len(label) < max_length:
            return False
        return all(character.isspace() for character in self.unknown_characters(label))

    def remove_unknown(self, label: str) -> str:
        """`label` without characters outside the set, as the released code scores it."""
        return "".join(
            character for character in label if self.fold_case(character) in self._members
        )


def resolve_charset(charset: str) -> str:
    """The characters of a charset, or `ascii94`.

    Args:
        charset: `ascii94`, `file:PATH` (see `core/text/charset_files.py`), or the characters.

    Raises:
        ValueError: The file is missing or not valid, or a character occurs twice.
    """
    if charset == "ascii94":
        return charset
    if charset.startswith("file:"):
        return read_charset(Path(charset.removeprefix("file:")))
    if not charset:
        raise ValueError("has no characters; give ascii94, file:PATH, or the characters")
    for character, count in Counter(charset).items():
        if not is_text_character(character):
            raise ValueError(f"{describe_character(character)} is no character of a text")
        if count > 1:
            raise ValueError(
                f"the character {describe_character(character)} occurs {count} times; "
                "give characters without duplicates"
            )
    return charset


def count_characters(labels: Iterable[str]) -> Counter[str]:
    """Character -> number of labels that contain it. White space is not counted."""
    counts: Counter[str] = Counter()
    for label in labels:
        counts.update({character for character in label if not character.isspace()})
    return counts


def make_charset(name: str) -> Charset:
    """The charset that a config names: `ascii94`, or the characters themselves."""
    return Charset() if name == "ascii94" else Charset(name)
