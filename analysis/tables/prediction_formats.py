"""How a file of predictions is read: its lines, its columns, and what its content does not say."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

FORMATS = ("brackets", "csv", "tsv", "json", "paddleocr", "mmocr", "dtrb", "parseq")


Columns = Mapping[str, Any]  # our name of a column -> its value in one row


class Line(NamedTuple):
    """A line of a file and its number, counted from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class PredictionReading:
    """Options for reading predictions.

    format: a name in FORMATS; None: it is found by the content.
    truth: the file of the labels; None: the predictions have them.
    """

    format: str | None = None
    truth: Path | None = None


AS_FOUND = PredictionReading()
