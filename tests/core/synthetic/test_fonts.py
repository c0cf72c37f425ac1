"""Fonts of synthetic words: missing packages, missing and unsuitable system fonts."""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from chinese_fonts import WORDS, copy_latin_font, forget_fonts, system_font
from plans import plan_of

from core.runtime.errors import UserError
from core.synthetic import cjk_fonts, fonts
from core.synthetic.config import Synthetic
from core.synthetic.dataset import dataset_fingerprint
from core.synthetic.vocabulary import vocabulary_characters
from core.synthetic.words import render_word
from experiments.planning.schema import HERE

MISSING = "font_caladea"


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the font package MISSING were not installed."""

    def find_others(name: str) -> object:
        return None if name == MISSING else find_spec(name)

    def version_of_others(name: str) -> str:
        if name == MISSING.replace("_", "-"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(fonts, "find_spec", find_others)
    monkeypatch.setattr(fonts, "version", version_of_others)
    fonts.font.cache_clear()
    fonts.package_version.cache_clear()
    yield
    fonts.font.cache_clear()
    fonts.package_version.cache_clear()


@pytest.fixture
def font_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty folder, the only one where fonts are searched."""
    monkeypatch.setattr(cjk_fonts, "FOLDERS", (str(tmp_path),))
    monkeypatch.delenv("LMIM_CJK_FONT", raising=False)
    forget_fonts()
    yield tmp_path
    forget_fonts()


def unmet_requirements(results: Path) -> set[str]:
    """Unmet requirements of the runs of the Chinese benchmark."""
    plan = plan_of(results, HERE / "chinese_benchmark.yaml")
    return {text for run in plan.runs.values() for text in run.unmet_requirements()}


@pytest.mark.usefixtures("without_package")
def test_a_font_of_a_missing_package_is_one_sentence_with_its_name() -> None:
    with pytest.raises(UserError, match=r"font-caladea.*pip install") as error:
        fonts.font(MISSING, "Caladea-Regular", 20)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("without_package")
def test_the_fingerprint_names_a_missing_font_package() -> None:
    config = Synthetic(train=1, validation=1, vocabulary=300)
    with pytest.raises(UserError, match=r"font-caladea.*pip install"):
        dataset_fingerprint(config)


@pytest.mark.usefixtures("without_package")
def test_rendering_names_a_missing_font_package() -> None:
    config = Synthetic(train=100, validation=1, vocabulary=300)
    with pytest.raises(UserError, match="font-caladea"):
        list(map(partial(render_word, config, "train"), range(100)))


@pytest.mark.usefixtures("without_package")
def test_a_plan_names_a_missing_font_package(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    unmet = {text for run in plan.runs.values() for text in run.unmet_requirements()}
    assert any("font-caladea" in text for text in unmet)


def test_without_a_chinese_font_the_package_to_install_is_named(font_folder: Path) -> None:
    with pytest.raises(UserError, match=r"fonts-wqy-microhei.*LMIM_CJK_FONT"):
        dataset_fingerprint(WORDS)
    (unmet,) = unmet_requirements(font_folder)
    assert "fonts-wqy-microhei" in unmet


@pytest.mark.usefixtures("font_folder")
def test_a_named_font_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMIM_CJK_FONT", "/nowhere/font")
    with pytest.raises(UserError, match="LMIM_CJK_FONT: /nowhere/font"):
        dataset_fingerprint(WORDS)


def test_a_system_font_without_the_characters_is_refused(font_folder: Path) -> None:
    latin = copy_latin_font(font_folder)
    assert cjk_fonts.cjk_faces("ab") == (latin,)
    with pytest.raises(UserError, match=rf"{latin}: lacks 2 of 4 .*的.*LMIM_CJK_FONT"):
        cjk_fonts.cjk_faces("ab的一")
    assert any("lacks" in text for text in unmet_requirements(font_folder))


def test_a_named_font_without_the_characters_is_refused(
    font_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latin = copy_latin_font(font_folder)
    monkeypatch.setenv("LMIM_CJK_FONT", str(latin))
    with pytest.raises(UserError, match=rf"{latin}: lacks (\d+) of \1 characters"):
        dataset_fingerprint(WORDS)


def test_system_fonts_without_the_characters_are_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    font = system_font()
    monkeypatch.setattr(cjk_fonts, "FOLDERS", (str(tmp_path),))
    monkeypatch.delenv("LMIM_CJK_FONT", raising=False)
    forget_fonts()
    copy_latin_font(tmp_path)
    (tmp_path / "PingFang.ttc").write_text("no font")
    (tmp_path / "wqy-other.ttc").symlink_to(font)
    dataset_fingerprint(WORDS)
    assert cjk_fonts.cjk_faces(vocabulary_characters(WORDS)) == (tmp_path / "wqy-other.ttc",)
    forget_fonts()
