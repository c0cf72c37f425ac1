"""The peer's preprocessing and decoding, its model's file, and the model itself where it is."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import REPOSITORY
from conftest import call, jpeg, write_lmdb
from PIL import Image, ImageDraw, ImageFont

from core.peer import ppocrv6
from core.peer.ppocrv6 import (
    HEIGHT,
    INSTALL,
    MAX_WIDTH,
    MIN_WIDTH,
    MODEL,
    RAPIDOCR,
    Floats,
    PeerRecognizer,
    characters_of,
    decode,
    find_model,
    load_model,
    preprocess,
)
from core.runtime.errors import UserError

BLANK, A, B, SPACE = range(4)


def frames(path: list[int], classes: int = 3, probability: float = 1.0) -> Floats:
    """(F, classes) probabilities whose likeliest classes are `path`."""
    rest = (1 - probability) / (classes - 1)
    values = np.full((len(path), classes), rest, dtype=np.float32)
    values[np.arange(len(path)), path] = probability
    return values


class FakeSession:
    """Returns the same probabilities for every image, and keeps its input."""

    def __init__(self, probabilities: Floats) -> None:
        self.probabilities = probabilities
        self.inputs: dict[str, Floats] = {}

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x")]

    def run(self, outputs: None, inputs: Any) -> list[Floats]:
        self.inputs = dict(inputs)
        return [self.probabilities[np.newaxis]]


@pytest.fixture(scope="module")
def real_model() -> Path:
    for package in ("rapidocr", "onnxruntime"):
        try:
            version(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed (optional): {INSTALL}")
    return find_model()


# Decoding


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([], ""),
        ([BLANK, BLANK], ""),
        ([A], "a"),
        ([A, A, A], "a"),
        ([A, BLANK, A], "aa"),
        ([BLANK, A, A, B, B, BLANK, B, A], "abba"),
    ],
)
def test_repetitions_collapse_and_blanks_separate(path: list[int], text: str) -> None:
    assert decode(frames(path), ["a", "b"]).text == text


def test_a_class_without_a_character_is_the_space_at_the_end() -> None:
    assert decode(frames([A, SPACE, SPACE, B], classes=4), ["a", "b"]).text == "a b"


@pytest.mark.parametrize("characters", [["a"] * 1, ["a"] * 4])
def test_characters_that_do_not_fit_the_classes_are_an_error(characters: list[str]) -> None:
    with pytest.raises(UserError, match=r"4 classes, but \d characters"):
        decode(frames([A], classes=4), characters)


def test_the_confidence_is_the_product_over_all_frames() -> None:
    reading = decode(frames([A, BLANK, B], probability=0.5), ["a", "b"])
    assert reading.confidence == pytest.approx(0.125)


def test_a_character_of_the_metadata_is_a_line() -> None:
    assert characters_of({"character": "!\na\n\u2028\n"}, Path("m")) == ["!", "a", "\u2028"]
    with pytest.raises(UserError, match="key character"):
        characters_of({}, Path("m"))


# Preprocessing


def test_pixels_are_bgr_in_minus_one_to_one_and_padded_with_zero() -> None:
    """51 / 127.5 - 1 is -0.6."""
    pixels = preprocess(Image.new("RGB", (4, HEIGHT), (255, 0, 51)))
    assert pixels.shape == (3, HEIGHT, MIN_WIDTH)
    assert pixels.dtype == np.float32
    assert pixels[:, 7, 3] == pytest.approx([-0.6, -1.0, 1.0])
    assert not pixels[:, :, 4:].any()


@pytest.mark.parametrize(
    ("size", "columns"),
    [((101, 100), 49), ((96, 24), 192), ((200, 24), 400), ((100_000, 1), MAX_WIDTH), ((1, 99), 1)],
)
def test_the_aspect_ratio_is_kept_up_to_a_largest_width(
    size: tuple[int, int], columns: int
) -> None:
    pixels = preprocess(Image.new("RGB", size, (255, 255, 255)))
    assert pixels.shape == (3, HEIGHT, max(columns, MIN_WIDTH))
    assert int(pixels[0, 0].sum()) == columns


def test_a_word_is_read_from_a_batch_of_one() -> None:
    session = FakeSession(frames([B, BLANK, A]))
    reading = PeerRecognizer(session, ["a", "b"]).read(Image.new("RGB", (8, 8)))
    assert reading == ("ba", 1.0)
    assert session.inputs["x"].shape == (1, 3, HEIGHT, MIN_WIDTH)


# The model's file


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime"])
def test_a_missing_package_is_one_sentence_with_the_command_that_installs_it(
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def find(name: str) -> Any:
        if name == package:
            raise PackageNotFoundError(name)
        return SimpleNamespace(version="1")

    monkeypatch.setattr(ppocrv6, "distribution", find)
    monkeypatch.setattr(ppocrv6, "version", find)
    root = write_lmdb(tmp_path / "lmdb", [(jpeg(1), "a")])
    code, out, err = call(capsys, "peer", "ppocrv6", root, "--out", tmp_path / "out")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert package in err
    assert INSTALL in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("content", "part"), [(None, RAPIDOCR), (b"other", "SHA-256")])
def test_another_or_no_model_in_the_wheel_is_an_error(
    content: bytes | None, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / MODEL).parent.mkdir(parents=True)
        (tmp_path / MODEL).write_bytes(content)
    installed = SimpleNamespace(version="9.9", locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(ppocrv6, "distribution", lambda name: installed)
    monkeypatch.setattr(ppocrv6, "version", lambda name: "1")
    with pytest.raises(UserError, match=part) as caught:
        find_model()
    assert INSTALL in str(caught.value)


def test_the_install_command_names_a_file_with_the_pinned_version() -> None:
    lines = (REPOSITORY / INSTALL.split()[-1]).read_text().splitlines()
    assert f"rapidocr=={RAPIDOCR}" in lines
    assert all("==" in line for line in lines if not line.startswith("#"))
    assert any(INSTALL in line for line in lines)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (optional)")
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"m\.onnx: no model"):
        load_model(path, threads=1)


# The model itself


@pytest.mark.parametrize("word", ["HELLO", "Street 42"])
def test_the_model_reads_a_drawn_word(word: str, real_model: Path) -> None:
    recognizer = load_model(real_model, threads=1)
    font = ImageFont.load_default(40)
    width = int(font.getlength(word)) + 20
    picture = Image.new("RGB", (width, 60), (250, 240, 230))
    ImageDraw.Draw(picture).text((10, 5), word, font=font, fill=(20, 20, 60))
    reading = recognizer.read(picture)
    assert reading.text == word
    assert reading.confidence > 0.5
