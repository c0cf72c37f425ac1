"""How a source of `run.py data build` is read: its format, its columns, its split and the crops."""

from dataclasses import dataclass, fields
from typing import Literal

from core.runtime.errors import UserError

# Format -> what it is, for messages.
FORMATS = {
    "text": "lines `image label`",
    "csv": "a CSV file",
    "tsv": "a TSV file",
    "jsonl": "JSON lines",
    "json": "a JSON list, or MMOCR's JSON",
    "mjsynth": "MJSynth's list of image names",
    "paddleocr": "PaddleOCR's label file",
    "textocr": "TextOCR's JSON",
    "cocotext": "COCO-Text's JSON",
    "synthtext": "SynthText's gt.mat",
    "parquet": "Parquet",
}
IMAGES = "images"  # the format of a folder of images
TABLES = ("csv", "tsv", "json", "jsonl", "parquet")
PHOTOS = ("paddleocr", "textocr", "cocotext", "synthtext")
SPLIT = ("textocr", "cocotext", "parquet")
APPLIES = {  # option -> the formats in which it has an effect
    "image_column": TABLES,
    "text_column": TABLES,
    "margin": PHOTOS,
    "split": SPLIT,
}


@dataclass(frozen=True)
class Margin:
    """What is added to a crop on each of its four sides.

    size: in the unit. unit: `height` is the height of the word, `px` are pixels of the photo.
    """

    size: float
    unit: Literal["height", "px"]


@dataclass(frozen=True)
class Reading:
    """Options for reading a source; None: what its content says.

    format: a name in FORMATS.
    image_column, text_column: names of columns, or of keys in JSON.
    split: which part of the source, such as `train`; None: it has one part only, or all of them.
    margin: of crops from photos; None: none.
    """

    format: str | None = None
    image_column: str | None = None
    text_column: str | None = None
    split: str | None = None
    margin: Margin | None = None

    def refuse_unused(self, source: str, name: str) -> None:
        """Raise UserError for an option without effect. source: its path. name: its format."""
        if self.format is not None and name == IMAGES:
            raise UserError(f"--format: {source} has no annotation file; leave the option out")
        for option in fields(self):
            formats = APPLIES.get(option.name, (name,))
            if getattr(self, option.name) is not None and name not in formats:
                flag = "--" + option.name.replace("_", "-")
                what = FORMATS.get(name, "a folder of images")
                raise UserError(
                    f"{flag}: {source} is read as {what}; the option is for "
                    f"{', '.join(formats)}; leave it out, or name the format with --format"
                )


AS_FOUND = Reading()  # everything as the content of the source says
