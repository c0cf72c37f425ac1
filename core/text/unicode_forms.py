"""Texts that people read as equal although their code points differ.

Protocols compare code points (`core/text/protocols.py`). This module finds the comparisons that
Unicode normalization would change, so that a command can print them.
"""

import unicodedata
from collections.abc import Callable

VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))


def unified_form(text: str) -> str:
    """A text in NFKC, without invisible characters, and with `ss` for the German sharp s.

    NFKC joins letters and their accents, divides ligatures, and converts full-width forms. Upper
    and lower case stay.
    """
    if text.isascii():
        return text
    visible = "".join(character for character in text if not _is_invisible(character))
    unified = unicodedata.normalize("NFKC", visible)
    return unified.replace("\u00df", "ss").replace("\u1e9e", "SS")


def depends_on_form(first: str, second: str, normalize: Callable[[str], str]) -> bool:
    """Whether two texts are equal under a protocol in one form only: as given, or unified.

    normalize: the protocol's.
    """
    if first.isascii() and second.isascii():
        return False
    as_given = normalize(first) == normalize(second)
    unified = normalize(unified_form(first)) == normalize(unified_form(second))
    return as_given != unified


def _is_invisible(character: str) -> bool:
    """Whether a character is a format character (zero-width, direction) or selects a variant."""
    return unicodedata.category(character) == "Cf" or character in VARIATION_SELECTORS
