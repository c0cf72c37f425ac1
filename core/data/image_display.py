"""Pixels of an image file as an image viewer shows them: upright, on white, in 8 bits.

Plain images, which are opaque, upright and have 8 bits, are returned as they are.
"""

import warnings
from typing import Any

import numpy as np
from PIL import Image

EXIF_ORIENTATION = 0x0112
# The stored pixels become upright by this operation (EXIF 2.3, table "Orientation").
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # orientations that exchange width and height
# Keys of Pillow's `info` under which files state an orientation.
METADATA = (
    "exif",
    "Raw profile type exif",
    "xmp",
    "XML:com.adobe.xmp",
    "Raw profile type xmp",
)
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
WIDE_FORMATS = ("PNG", "PPM")  # their mode "I" has 16 bits, of which the upper 8 are shown


def as_displayed(image: Image.Image) -> Image.Image:
    """The first frame of an opened image, upright, without transparency, with 8 bits a channel.

    A transparent pixel is composed on white. Raises what Pillow raises for a broken file.
    """
    image.load()
    orientation = exif_orientation(image)
    visible = _without_alpha(_in_8_bits(image))
    operation = UPRIGHT.get(orientation)
    return visible if operation is None else visible.transpose(operation)


def exif_orientation(image: Image.Image) -> int:
    """The orientation that EXIF or XMP data state; 1 (upright) if they are absent or broken.

    Pillow turns TIFF images when it loads them, so theirs is 1 then.
    """
    if not any(key in image.info for key in METADATA):
        return 1
    try:
        with warnings.catch_warnings(action="ignore"):  # of broken EXIF data
            value: Any = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # Pillow raises many types for broken EXIF data; the pixels are intact
        return 1
    return value if isinstance(value, int) and value in UPRIGHT else 1


def _in_8_bits(image: Image.Image) -> Image.Image:
    """16-bit gray as 8-bit gray; a transparent gray value becomes an alpha channel."""
    is_wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format in WIDE_FORMATS)
    if not is_wide:
        return image
    values = np.asarray(image).astype(np.int64)
    gray = Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return gray


def _without_alpha(image: Image.Image) -> Image.Image:
    """The image itself if it is opaque, else RGB on white."""
    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return image
    pixels = image
    if image.mode == "La":
        pixels = pixels.convert("LA")
    pixels = pixels.convert("RGBA")
    if pixels.getchannel("A").getextrema()[0] == 255:
        return image
    white = Image.new("RGBA", pixels.size, "white")
    return Image.alpha_composite(white, pixels).convert("RGB")
