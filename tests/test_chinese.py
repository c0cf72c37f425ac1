"""Rendered Chinese words, their charset and their experiment."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from core.config import Finetune
from core.runtime.errors import UserError
from core.synthetic import fonts
from core.synthetic import words as synthetic
from core.synthetic.chinese import MANNERS, frequent_words
from core.synthetic.config import Rendered
from experiments.planning.plan import Plan
from experiments.planning.planner import make_plan
from experiments.planning.schema import HERE
from results.store import Store

WORDS = Rendered(language="zh", train=24, validation=4, test=3, vocabulary=60, letters=(1, 3))


@pytest.fixture
def font() -> Path:
    """A font with Chinese characters; skips where the system has none."""
    try:
        return fonts.cjk_faces("的")[0]
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The only folder where fonts are looked for, still empty."""
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    monkeypatch.delenv("LMIM_CJK_FONT", raising=False)
    for function in (fonts.cjk_faces, fonts.cjk_contents):
        function.cache_clear()
    yield tmp_path
    for function in (fonts.cjk_faces, fonts.cjk_contents):
        function.cache_clear()


def put_latin(folder: Path) -> Path:
    """A font without Chinese characters under the name of one that has them."""
    latin = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return Path(shutil.copy(latin, folder / "NotoSansSC.ttf"))


def plan(tmp_path: Path, scale: str, **overrides: Any) -> Plan:
    file = HERE / "chinese_benchmark.yaml"
    return make_plan(
        [file], scale, Store(tmp_path), precision=lambda: "fp32", overrides=overrides, seeds=None
    )


def test_words_are_chinese_frequent_and_as_long_as_asked() -> None:
    words = frequent_words(200, (2, 3))
    assert len(words) == 200
    assert all(
        len(word) in (2, 3) and all("\u4e00" <= mark <= "\u9fff" for mark in word) for word in words
    )
    frequencies = list(words.values())
    assert frequencies[0] > 10 * frequencies[-1] > 0


def test_the_charset_is_that_of_all_words_seen_and_unseen() -> None:
    seen, _, unseen = synthetic.vocabulary(WORDS)
    characters = synthetic.characters(WORDS)
    assert set(characters) == set("".join([*seen, *unseen]))
    assert list(characters) == sorted(set(characters))
    assert not set(seen) & set(unseen)


def test_every_manner_is_drawn_and_equal_again(font: Path) -> None:
    assert list(synthetic.splits(WORDS)) == ["train", "validation", *MANNERS]
    for split in synthetic.splits(WORDS):
        pictures = [synthetic.render(WORDS, split, 1) for _ in range(2)]
        assert pictures[0][0].tobytes() == pictures[1][0].tobytes()
        assert pictures[0][0].size == (128, 32)
        assert np.asarray(pictures[0][0]).std() > 5, "there is ink"
        assert pictures[0][1] in frequent_words(60, (1, 3))


def test_a_character_is_drawn_and_not_a_box(font: Path) -> None:
    """A font without a character draws the same box for every one."""
    face = fonts.cjk_font(font, 24)
    assert (
        len(
            {
                hashlib.sha256(bytes(face.getmask(mark))).hexdigest()
                for mark in synthetic.characters(WORDS)
            }
        )
        > 40
    )


def test_without_a_font_the_package_to_install_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"no font with Chinese .* apt-get install fonts-wqy-microhei\), or name"
    ):
        synthetic.fingerprint(WORDS)
    reasons = {
        text for run in plan(folder, "smoke").runs.values() for text in run.unmet_requirements()
    }
    assert len(reasons) == 1
    assert "fonts-wqy-microhei" in reasons.pop()
    monkeypatch.setenv("LMIM_CJK_FONT", "/nowhere/font")
    with pytest.raises(UserError, match="LMIM_CJK_FONT: /nowhere/font: no such file"):
        synthetic.fingerprint(WORDS)


def test_rendered_words_bring_their_own_charset(tmp_path: Path) -> None:
    found = plan(tmp_path, "smoke")
    configs = [run.config for run in found.runs.values() if isinstance(run.config, Finetune)]
    assert len(configs) == 4
    rendered = Rendered(
        language="zh", train=128, validation=16, test=16, vocabulary=100, letters=(1, 3)
    )
    assert {config.charset for config in configs} == {synthetic.characters(rendered)}
    assert {config.max_length for config in configs} == {40}
    mim, lmim = (found.cells[number].trainings[0] for number in (2, 3))
    assert found.runs[lmim].inputs == {"teacher": mim}, "LMIM's teacher is the MIM row's encoder"


def test_at_the_papers_scale_the_sizes_are_known_without_the_charset_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMIM_DATA", raising=False)
    found = plan(tmp_path, "paper")
    finetune = [run for run in found.runs.values() if isinstance(run.config, Finetune)]
    assert {len(run.config.charset) for run in finetune} == {7934}  # type: ignore[union-attr]
    assert {run.config.optimizer.epochs for run in finetune} == {60}  # type: ignore[union-attr]
    assert any(
        "characters.txt: no such file; `run.py data charset" in run.unmet for run in finetune
    )
    file = tmp_path / "characters.txt"
    file.write_text("一二三")
    given = plan(tmp_path, "paper", **{"finetune.charset": f"file:{file}"})
    assert {
        run.config.charset for run in given.runs.values() if isinstance(run.config, Finetune)
    } == {"一二三"}


def test_a_typed_charset_is_taken_at_its_word(tmp_path: Path) -> None:
    file = tmp_path / "characters.txt"
    file.write_text("一二三")
    for typed, characters in ((f"file:{file}", "一二三"), ("一", "一")):
        found = plan(tmp_path, "smoke", **{"finetune.charset": typed})
        runs = [run for run in found.runs.values() if isinstance(run.config, Finetune)]
        assert {run.config.charset for run in runs} == {characters}  # type: ignore[union-attr]
        assert not any(run.unmet for run in runs)


@pytest.mark.parametrize("wrong", [5, [[1]], [{"a": 1}]])
def test_wrong_roots_are_told_and_not_the_charset(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(UserError, match=r"--set: finetune\.data\.roots"):
        plan(tmp_path, "mini", **{"finetune.data.roots": wrong})


def test_a_font_that_lacks_characters_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latin = put_latin(folder)
    assert fonts.cjk_faces("ab") == (latin,)
    with pytest.raises(
        UserError,
        match=rf"{latin}: lacks 2 of 4 characters, e\.g\. 的; name another font in LMIM_CJK_FONT",
    ):
        fonts.cjk_faces("ab的一")
    assert any(
        "lacks" in text
        for run in plan(folder, "smoke").runs.values()
        for text in run.unmet_requirements()
    )
    monkeypatch.setenv("LMIM_CJK_FONT", str(latin))
    with pytest.raises(UserError, match=rf"{latin}: lacks (\d+) of \1 characters"):
        synthetic.fingerprint(WORDS)


def test_a_found_font_that_lacks_characters_gives_way_to_one_that_has_them(
    font: Path, folder: Path
) -> None:
    put_latin(folder)
    (folder / "PingFang.ttc").write_text("no font")
    (folder / "wqy-other.ttc").symlink_to(font)
    synthetic.fingerprint(WORDS)
    assert fonts.cjk_faces(synthetic.characters(WORDS)) == (folder / "wqy-other.ttc",)
