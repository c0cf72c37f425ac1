"""Evaluation protocols: how a reading is compared with its label, and the counts that come of it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """A named comparison. `normalise` is applied to label and reading; equal results count as correct."""

    name: str
    statement: str
    normalise: Callable[[str], str]


def alphanumeric_lower(text: str) -> str:
    """Keep 0-9, A-Z, a-z, in lower case."""
    return re.sub("[^0-9a-z]", "", text.lower())


PROTOCOLS = {
    "waics": Protocol(
        "waics",
        "word accuracy ignoring case and symbols: both sides reduced to 0-9 and a-z, then compared; "
        "labels too long for the decoder, or with a letter or digit that it has no class for, count as wrong",
        alphanumeric_lower,
    )
}


@dataclass(frozen=True)
class Reading:
    """One test image: its number in the subset, its label, what was read, how surely; `readable` is false where the label
    cannot be expressed by the recogniser, or the image could not be decoded."""

    index: int
    label: str
    prediction: str
    confidence: float
    readable: bool = True


@dataclass(frozen=True)
class Counts:
    """Integers, so that shards add up."""

    correct: int
    images: int


def is_correct(reading: Reading, protocol: Protocol) -> bool:
    """Whether a reading counts as correct under a protocol."""
    return reading.readable and protocol.normalise(reading.prediction) == protocol.normalise(reading.label)


def count(readings: Iterable[Reading], protocol: Protocol) -> Counts:
    """Correct readings and images; every image counts, whatever became of it."""
    verdicts = [is_correct(reading, protocol) for reading in readings]
    return Counts(sum(verdicts), len(verdicts))
