"""The command that makes the pictures of the README."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from published import published_with_weights

from analysis.report.readme_pictures import FOLDER, main


def test_command_writes_a_strip_and_a_sketch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pictures"
    options = ["--out", str(out), "--dpi", "30"]
    assert main(["--results", str(published_with_weights()), *options]) == 0
    strip = out / "strip.png"
    branches = out / "branches.svg"
    assert capsys.readouterr().out.split() == [str(strip), str(branches)]
    with Image.open(strip) as image:
        assert image.width == 300
    assert ElementTree.parse(branches).getroot().tag.endswith("svg")
    assert "dc:date" not in branches.read_text()


def test_missing_weights_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pictures"
    assert main(["--results", str(tmp_path), "--out", str(out)]) == 2
    assert "guidance + alignment (LMIM)" in capsys.readouterr().err
    assert not out.exists()


def test_pictures_of_the_readme_are_small_files() -> None:
    for name in ("strip.png", "branches.svg"):
        assert 0 < (FOLDER / name).stat().st_size < 300_000
