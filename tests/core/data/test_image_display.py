"""Decoded images look as in a viewer: upright, transparent pixels on white, 8 bits."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_lmdb
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core.data.image_display import EXIF_ORIENTATION, UPRIGHT
from core.data.word_images import WordImages, decode_image
from core.data_tools.annotations import Annotation
from core.data_tools.build import read_sample
from core.data_tools.overlap import find_matches, hash_images
from core.training.predict import _open

Pixels = NDArray[np.uint8]
NOISE = np.random.default_rng(0).integers(0, 256, (20, 50, 4), np.uint8)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pixels(raw: bytes) -> Pixels:
    image = decode_image(raw)
    assert image is not None
    assert image.mode == "RGB"
    return np.asarray(image)


def converted(raw: bytes) -> Pixels:
    """The pixels by Pillow's conversion alone."""
    with Image.open(io.BytesIO(raw)) as image:
        return np.asarray(image.convert("RGB"))


def word(text: str) -> Image.Image:
    """Black text on a transparent ground whose hidden color is black."""
    mask = Image.new("L", (160, 40), 0)
    ImageDraw.Draw(mask).text((8, 6), text, fill=255, font_size=26)
    image = Image.new("RGBA", mask.size, (0, 0, 0, 0))
    image.putalpha(mask)
    return image


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("L", "PNG"),
        ("P", "PNG"), ("1", "PNG"), ("RGB", "BMP"), ("P", "GIF"), ("RGB", "WEBP"),
        ("CMYK", "TIFF"), ("L", "TIFF"), ("L", "PPM"), ("RGBA", "PNG"), ("LA", "PNG"),
        ("RGBA", "WEBP"),
    ],
)  # fmt: skip
def test_opaque_upright_images_are_decoded_bit_for_bit_as_before(mode: str, form: str) -> None:
    opaque = NOISE.copy()
    opaque[..., 3] = 255
    raw = encoded(Image.fromarray(opaque).convert("RGB").convert(mode), form)
    assert np.array_equal(pixels(raw), converted(raw))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(
    ("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_transparent_pixels_are_composed_on_white(
    mode: str, form: str, options: dict[str, Any]
) -> None:
    shown = pixels(encoded(word("HOUSE").convert(mode), form, **options))
    assert (int(shown.min()), int(shown.max())) == (0, 255)
    assert tuple(shown[0, 0]) == (255, 255, 255)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_transparent_palette_colors_are_composed_on_white(
    form: str, transparency: int | bytes
) -> None:
    if form == "GIF" and isinstance(transparency, bytes):
        return  # GIF has one transparent color
    ink = np.asarray(word("HOUSE"))[..., 3] > 127
    image = Image.fromarray(np.where(ink, 0, 1).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    shown = pixels(encoded(image, form, transparency=transparency))
    assert np.array_equal(shown[..., 0] == 0, ink)
    assert (shown[~ink] == 255).all()


def test_two_transparent_words_are_two_pictures() -> None:
    first, second = (pixels(encoded(word(text), "PNG")) for text in ("HOUSE", "STREET"))
    assert not np.array_equal(first, second)


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 100, 200, 51))  # alpha 0.2
    assert tuple(pixels(encoded(image, "PNG"))[0, 0]) == (204, 224, 244)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "I;16"])
def test_a_transparent_color_of_png_is_white(mode: str) -> None:
    image = Image.new("RGB", (8, 8), "white")
    image.paste((0, 0, 0), (0, 0, 4, 8))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    assert pixels(encoded(image, "PNG"))[0, 0].tolist() == [0, 0, 0]
    transparent: object = (0, 0, 0) if mode == "RGB" else 0
    assert (pixels(encoded(image, "PNG", transparency=transparent)) == 255).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_to_8_bits(form: str) -> None:
    gray = NOISE[..., 0]
    raw = encoded(Image.fromarray(gray.astype(np.uint16) * 257), form)
    assert np.array_equal(pixels(raw)[..., 1], gray)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_shows_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("black", "white")]
    raw = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert (pixels(raw) < 5).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(form: str, orientation: int) -> None:
    upright = Image.new("RGB", (48, 16), "white")
    upright.paste((0, 0, 0), (0, 0, 24, 8))  # the corner at the top left
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    operation = undo.get(orientation) or UPRIGHT.get(orientation)
    stored = upright if operation is None else upright.transpose(operation)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    shown = pixels(encoded(stored, form, exif=exif, **({"quality": 95} if form == "JPEG" else {})))
    assert shown.shape == (16, 48, 3)
    assert np.abs(shown.astype(int) - np.asarray(upright).astype(int)).mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    raw = encoded(Image.new("RGB", (48, 16)), "JPEG", exif=exif)
    assert pixels(raw).shape == (16, 48, 3)


def test_broken_exif_data_lose_no_image() -> None:
    raw = encoded(Image.new("RGB", (48, 16)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert pixels(raw).shape == (16, 48, 3)


def test_every_way_to_open_an_image_turns_it_upright(tmp_path: Path) -> None:
    upright = Image.new("RGB", (160, 40), (200, 200, 200))
    ImageDraw.Draw(upright).text((8, 6), "HOUSE", fill=(40, 40, 40), font_size=26)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    lying = encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    (tmp_path / "x.jpg").write_bytes(lying)
    opened = _open(tmp_path / "x.jpg")
    assert opened is not None
    assert opened.size == (160, 40)
    assert read_sample(Annotation("x.jpg", "HOUSE"), str(tmp_path)) == (lying, "HOUSE")
    roots = [
        write_lmdb(tmp_path / "lying", [(lying, "HOUSE")]),
        write_lmdb(tmp_path / "upright", [(encoded(upright, "PNG"), "HOUSE")]),
    ]
    trained = [WordImages([root]).image(0, (32, 128)) for root in roots]
    assert trained[0] is not None
    assert trained[1] is not None
    assert (trained[0].float() - trained[1].float()).abs().mean() < 3
    hashes = [hash_images(root, 0, 1) for root in roots]
    assert len(find_matches(hashes[0], hashes[1], 16)) == 1
