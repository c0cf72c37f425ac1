"""Fonts of Chinese words: those of the system, because no package carries them.

Their contents are part of the data set's fingerprint.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

from PIL import ImageFont

from core.runtime.errors import UserError

PATTERNS = (
    "wqy-*.ttc",
    "NotoSansCJK*-Regular.*",
    "NotoSerifCJK*-Regular.*",
    "NotoSansSC*.[to]tf",
    "SourceHan*-Regular.*",
    "PingFang.ttc",
)
FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
)
VARIABLE = "LMIM_CJK_FONT"  # font files, separated as in PATH


@cache
def cjk_faces(characters: str) -> tuple[Path, ...]:
    """Font files that have all the given characters.

    These are the files that LMIM_CJK_FONT names, else files with a known name in the system's font
    folders. Raises UserError if there is none, or if a named file lacks characters."""
    named = os.environ.get(VARIABLE)
    paths = _named_fonts(named) if named else _system_fonts()
    problems = {path: problem for path in paths if (problem := _problem(path, characters))}
    if problems and (named or len(problems) == len(paths)):
        raise UserError(next(iter(problems.values())))
    return tuple(path for path in paths if path not in problems)


def _named_fonts(named: str) -> list[Path]:
    paths = [Path(name).expanduser() for name in named.split(os.pathsep)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{VARIABLE}: {path}: no such file; name font files with Chinese")
    return paths


def _system_fonts() -> list[Path]:
    folders = [Path(folder).expanduser() for folder in FOLDERS]
    paths = {path for folder in folders for pattern in PATTERNS for path in folder.rglob(pattern)}
    if not paths:
        raise UserError(
            "no font with Chinese characters was found on this system; install one "
            f"(Debian: apt-get install fonts-wqy-microhei), or name a font file in {VARIABLE}"
        )
    return sorted(paths, key=lambda path: (path.name, path))


def _problem(path: Path, characters: str) -> str:
    """Why a font cannot render the characters; empty if it can.

    A font renders a character that it lacks like U+FFFF, which no font has."""
    try:
        face = cjk_font(path, 24)
    except UserError as error:
        return str(error)

    def rendered(character: str) -> tuple[object, bytes]:
        mask = face.getmask(character)
        return mask.size, bytes(mask)

    missing_glyph = rendered("\uffff")
    missing = [character for character in characters if rendered(character) == missing_glyph]
    if not missing:
        return ""
    count = f"{len(missing)} of {len(characters)} characters"
    return f"{path}: lacks {count}, e.g. {missing[0]}; name another font in {VARIABLE}"


@cache
def cjk_contents(characters: str) -> list[str]:
    """SHA-256 of each file of `cjk_faces`, in their order. Raises UserError."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in cjk_faces(characters)]


@cache
def cjk_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font file at `size` pixels. Raises UserError if it is not a font."""
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read as a font ({error}); name another font in {VARIABLE}"
        ) from error
