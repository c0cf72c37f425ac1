"""Fonts of English words, from installed packages, so that pixels are equal on every machine."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from core.runtime.errors import UserError

Face = tuple[str, str]  # package, name of the font file without its suffix
Table = dict[str, tuple[str, ...]]  # package -> names of font files
INSTALL = "pip install -r requirements.txt"

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
SCENE: Table = {  # every family in several weights, light to black, as on signs
    "matplotlib": (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSans-BoldOblique",
        "DejaVuSerif",
        "DejaVuSerif-Bold",
        "DejaVuSerif-BoldItalic",
        "DejaVuSansMono",
        "DejaVuSansMono-Bold",
        "STIXGeneral",
        "STIXGeneralBol",
        "STIXGeneralItalic",
        "STIXGeneralBolIta",
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
    """Packages that hold the fonts of some tables, as pip spells them."""
    return sorted({_pip_name(name) for kind in kinds for name in TABLES[kind]})


@cache
def package_version(name: str) -> str:
    """Version of an installed package. Raises UserError if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError as error:
        raise UserError(f"the package {name} is not installed; {INSTALL}") from error


@cache
def faces(kind: str) -> list[Face]:
    """The fonts of a table: plain, artistic or scene."""
    return [(package, name) for package, names in TABLES[kind].items() for name in names]


@cache
def font(package: str, name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of an installed package at `size` pixels.

    Raises UserError if the package is not installed or has no such font."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"the font package {_pip_name(package)} is not installed; {INSTALL}")
    files = sorted(Path(spec.origin).parent.rglob(f"{name}.[to]tf"))
    if not files:
        raise UserError(f"the package {_pip_name(package)} has no font {name}; {INSTALL}")
    return ImageFont.truetype(str(files[0]), size, layout_engine=ImageFont.Layout.BASIC)


def _pip_name(package: str) -> str:
    return package.replace("_", "-")
