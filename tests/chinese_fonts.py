"""Fonts and settings of synthetic Chinese words, for tests."""

import shutil
from pathlib import Path

import matplotlib
import pytest

from core.runtime.errors import UserError
from core.synthetic import cjk_fonts
from core.synthetic.config import Synthetic

WORDS = Synthetic(language="zh", train=24, validation=4, test=3, vocabulary=60, letters=(1, 3))


def system_font() -> Path:
    """A font with Chinese characters; skips the test if the system has none."""
    try:
        return cjk_fonts.cjk_faces("的")[0]
    except UserError as error:
        pytest.skip(str(error))


def forget_fonts() -> None:
    """Clear what was cached about the system's fonts."""
    cjk_fonts.cjk_faces.cache_clear()
    cjk_fonts.cjk_contents.cache_clear()


def copy_latin_font(folder: Path) -> Path:
    """Copy a font without Chinese characters to the file name of a font that has them."""
    latin = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return Path(shutil.copy(latin, folder / "NotoSansSC.ttf"))
