"""Typefaces. Those for English come with installed packages, so pixels are equal on every machine.

Those for Chinese are the system's, for no package carries them; what was found is part of the words' fingerprint."""

import hashlib
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from core.runtime.errors import UserError

Face = tuple[str, str]  # package, name of the file without its suffix
Table = dict[str, tuple[str, ...]]

PLAIN: Table = {
    "matplotlib": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif"),
    "font_roboto": ("Roboto-Regular", "Roboto-Medium", "Roboto-Bold", "Roboto-Italic"),
    "font_source_sans_pro": ("SourceSansPro-Regular", "SourceSansPro-Bold"),
    "font_source_serif_pro": ("SourceSerifPro-Regular", "SourceSerifPro-Bold"),
    "font_hanken_grotesk": ("HankenGrotesk-Regular", "HankenGrotesk-Bold"),
    "font_manrope": ("Manrope-Regular", "Manrope-Bold"),
    "font_caladea": ("Caladea-Regular", "Caladea-Bold"),
}
ARTISTIC: Table = {
    "font_amatic_sc": ("AmaticSC-Bold",),
    "font_fredoka_one": ("FredokaOne-Regular",),
    "matplotlib": ("DejaVuSerif-BoldItalic",),
    "font_roboto": ("Roboto-BlackItalic",),
    "font_caladea": ("Caladea-BoldItalic",),
}
SCENE: Table = {  # every family in several weights, light to black, as signs have them
    "matplotlib": (
        *(
            "DejaVuSans",
            "DejaVuSans-Bold",
            "DejaVuSans-BoldOblique",
            "DejaVuSerif",
            "DejaVuSerif-Bold",
            "DejaVuSerif-BoldItalic",
        ),
        *(
            "DejaVuSansMono",
            "DejaVuSansMono-Bold",
            "STIXGeneral",
            "STIXGeneralBol",
            "STIXGeneralItalic",
            "STIXGeneralBolIta",
        ),
    ),
    "font_roboto": (
        "Roboto-Light",
        "Roboto-Regular",
        "Roboto-Italic",
        "Roboto-Bold",
        "Roboto-Black",
        "Roboto-BlackItalic",
    ),
    "font_source_sans_pro": (
        "SourceSansPro-Light",
        "SourceSansPro-Regular",
        "SourceSansPro-Bold",
        "SourceSansPro-BlackIt",
    ),
    "font_source_serif_pro": (
        "SourceSerifPro-Regular",
        "SourceSerifPro-It",
        "SourceSerifPro-Bold",
        "SourceSerifPro-Black",
    ),
    "font_hanken_grotesk": (
        "HankenGrotesk-Regular",
        "HankenGrotesk-SemiBold",
        "HankenGrotesk-BoldItalic",
    ),
    "font_manrope": ("Manrope-Light", "Manrope-Medium", "Manrope-ExtraBold"),
    "font_caladea": ("Caladea-Regular", "Caladea-Bold", "Caladea-Italic", "Caladea-BoldItalic"),
    "font_amatic_sc": ("AmaticSC-Regular", "AmaticSC-Bold"),
    "font_fredoka_one": ("FredokaOne-Regular",),
    "font_lato": ("Lato-Regular", "Lato-Bold", "Lato-Black", "Lato-BlackItalic", "Lato-Light"),
    "font_intuitive": ("Intuitive",),
}
TABLES = {"plain": PLAIN, "artistic": ARTISTIC, "scene": SCENE}


def packages(*kinds: str) -> list[str]:
    """Names of the packages that hold the typefaces of some tables, as pip spells them."""
    return sorted({name.replace("_", "-") for kind in kinds for name in TABLES[kind]})


@cache
def faces(kind: str) -> list[Face]:
    """The typefaces of a table: plain, artistic or scene."""
    return [(package, name) for package, names in TABLES[kind].items() for name in names]


@cache
def font(package: str, name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font file of an installed package. Raises UserError if the package is missing."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"the font package {package.replace('_', '-')} is missing; pip install -r requirements.txt"
        )
    files = sorted(Path(spec.origin).parent.rglob(f"{name}.[to]tf"))
    if not files:
        raise UserError(
            f"the package {package.replace('_', '-')} holds no font {name}; pip install -r requirements.txt"
        )
    return ImageFont.truetype(str(files[0]), size, layout_engine=ImageFont.Layout.BASIC)


CJK = (
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


@cache
def cjk_faces(characters: str) -> tuple[Path, ...]:
    """Font files that have all of some characters: those that LMIM_CJK_FONT names, else those of a known name on this system.

    Raises UserError if there is none, or a named one lacks some."""
    if named := os.environ.get("LMIM_CJK_FONT"):
        found = [Path(name).expanduser() for name in named.split(os.pathsep)]
        if missing := [path for path in found if not path.is_file()]:
            raise UserError(
                f"LMIM_CJK_FONT: {missing[0]}: no such file; name font files that have Chinese characters"
            )
    else:
        folders = [Path(folder).expanduser() for folder in FOLDERS]
        everywhere = {
            path for folder in folders for pattern in CJK for path in folder.rglob(pattern)
        }
        found = sorted(everywhere, key=lambda path: (path.name, path))
    if not found:
        advice = "install one (Debian: apt-get install fonts-wqy-microhei), or name a font file in LMIM_CJK_FONT"
        raise UserError(f"no font with Chinese characters was found on this system: {advice}")
    unfit = {path: reason for path in found if (reason := _unfit(path, characters))}
    if unfit and (named or len(unfit) == len(found)):
        raise UserError(next(iter(unfit.values())))
    return tuple(path for path in found if path not in unfit)


def _unfit(path: Path, characters: str) -> str:
    """Why a font cannot draw some characters, or nothing. What it lacks it draws as U+FFFF, which no font has."""

    def drawn(character: str) -> tuple[object, bytes]:
        mask = face.getmask(character)
        return mask.size, bytes(mask)

    try:
        face = cjk_font(path, 24)
    except UserError as error:
        return str(error)
    box = drawn("\uffff")
    blocked_experiments = [character for character in characters if drawn(character) == box]
    if not blocked_experiments:
        return ""
    told = f"lacks {len(blocked_experiments)} of {len(characters)} characters, e.g. {blocked_experiments[0]}"
    return f"{path}: {told}; name another font in LMIM_CJK_FONT"


@cache
def cjk_contents(characters: str) -> list[str]:
    """SHA-256 of each of `cjk_faces`, in their order. Raises UserError."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in cjk_faces(characters)]


@cache
def cjk_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font file at a size. Raises UserError if it is none."""
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read as a font ({error}); name another in LMIM_CJK_FONT"
        ) from error
