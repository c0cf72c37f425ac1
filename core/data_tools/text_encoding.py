"""Annotation files as text: UTF-8 or UTF-16, with or without a byte order mark."""

import codecs
from pathlib import Path

from core.runtime.errors import UserError
from core.runtime.foreign_files import foreign_content

SAMPLE = 4096  # bytes from which the encoding is detected
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(start: bytes) -> str:
    """The encoding of a text, from its first bytes.

    Without a mark it is UTF-8, or UTF-16 if about every second byte is zero.
    """
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = start[offset::2].count(0)
        others = start[1 - offset :: 2].count(0)
        if zeros > len(start) // 4 and not others:
            return encoding
    return "utf-8"


def file_encoding(file: Path) -> str:
    """The encoding of a file. Raises UserError if it is no text file, or cannot be read."""
    try:
        with file.open("rb") as stream:
            start = stream.read(SAMPLE)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    if content := foreign_content(start):
        raise UserError(f"{file}: {content}")
    return detect_encoding(start)


def undecodable_text(file: Path, encoding: str) -> UserError:
    """The error for a file that is not text in `encoding`. It names the first bad line."""
    if encoding not in ("utf-8", "utf-8-sig"):
        return UserError(f"{file}: not valid {encoding.upper()}; save the file as UTF-8")
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return UserError(
                    f"{file}: line {number} is not UTF-8 (byte 0x{byte:02x} at position "
                    f"{error.start + 1}); save the file as UTF-8"
                )
    return UserError(f"{file}: not UTF-8; save the file as UTF-8")
