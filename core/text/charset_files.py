"""Charset files: text in UTF-8 with the characters of a recognizer.

A file has either one line with all characters, as `data charset` writes it, or one character in
each line, as PaddleOCR's and OpenOCR's dictionaries. Blank lines are left out, and white space
between the characters of the only line. A character is one Unicode code point.
"""

import unicodedata
from pathlib import Path
from typing import NamedTuple

from core.runtime.foreign_files import LENGTH, foreign_content

SHOWN = 20  # characters of a wrong line that an error shows


class Position(NamedTuple):
    """A character of a file and its line, counted from 1."""

    character: str
    line: int


def describe_character(character: str) -> str:
    """A character with its code point, for messages: '\u00e9' (U+00E9)."""
    return f"{character!r} (U+{ord(character):04X})"


def is_text_character(character: str) -> bool:
    """Whether a label can contain a character: no control character, and no half of a pair."""
    return unicodedata.category(character) not in ("Cc", "Cs")


def read_charset(path: Path) -> str:
    """The characters of a file, in its order.

    Raises ValueError with path, line and character if the file is not a charset.
    """
    lines = _read_lines(path)
    if not lines:
        raise ValueError(f"{path}: has no characters; write one character in each line")
    positions = _single_line(lines) if len(lines) == 1 else _character_lines(path, lines)
    first_line: dict[str, int] = {}
    for character, line in positions:
        if not is_text_character(character):
            raise ValueError(
                f"{path}, line {line}: {describe_character(character)} is a control character and "
                "no character of a text; remove it"
            )
        if character in first_line:
            where = f"also in line {first_line[character]}" if len(lines) > 1 else "twice"
            raise ValueError(
                f"{path}, line {line}: the character {describe_character(character)} occurs "
                f"{where}; write each character once"
            )
        first_line[character] = line
    return "".join(first_line)


def _read_lines(path: Path) -> dict[int, str]:
    """Number of the line -> its text, without blank lines. Raises ValueError."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder; name a file of characters")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if foreign := foreign_content(content[:LENGTH]):
        raise ValueError(f"{path}: {foreign}")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: UTF-16 and not UTF-8; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return {number: line for number, line in enumerate(lines, 1) if line.strip()}


def _single_line(lines: dict[int, str]) -> list[Position]:
    """All characters of the only line but white space."""
    ((number, line),) = lines.items()
    return [Position(character, number) for character in line if not character.isspace()]


def _character_lines(path: Path, lines: dict[int, str]) -> list[Position]:
    """The character of each line. Raises ValueError for a line with more than one."""
    positions = []
    for number, line in lines.items():
        text = line.strip()
        if len(text) > 1:
            raise ValueError(
                f"{path}, line {number}: {text[:SHOWN]!r} is not one character{_reason(text)}; "
                "write one character in each line, or all characters in one line"
            )
        positions.append(Position(text, number))
    return positions


def _reason(text: str) -> str:
    """Why a line that looks like one character has several; "" if it does not look so."""
    composed = unicodedata.normalize("NFC", text)
    code_points = " ".join(f"U+{ord(character):04X}" for character in text[:SHOWN])
    if len(composed) == 1:
        return f" but {code_points}, which NFC writes as {describe_character(composed)}"
    if any(unicodedata.category(character) in ("Mn", "Mc", "Cf", "Cc") for character in text):
        return f" but {code_points}"
    return ""
