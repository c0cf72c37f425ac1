"""Evaluation protocols: how a reading is compared with its label, on which images, and how subsets are averaged."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from types import MappingProxyType

from core.text.charset import Charset

COMMON = {"iiit5k": 3000, "ic13": 1015, "svt": 647, "ic15": 2077, "svtp": 645, "cute": 288}
UNION14M = {
    "curve": 2426,
    "multi_oriented": 1369,
    "artistic": 900,
    "contextless": 779,
    "salient": 1585,
    "multi_words": 829,
}
ENGLISH = COMMON | UNION14M | {"general": 400000}
CHINESE = {"scene": 63646, "web": 14059, "document": 50000, "handwriting": 23389}
AVERAGES = "Avg: arithmetic mean over subsets; W-Avg: over all images"


@dataclass(frozen=True)
class Protocol:
    """A named comparison. `normalize` is applied to label and reading; equal results count as correct.

    `sizes`: images of each subset that a result under this protocol is about."""

    name: str
    statement: str
    normalize: Callable[[str], str]
    labels: str  # which version of the labels
    sizes: Mapping[str, int] = field(default_factory=dict)
    averaging: str = AVERAGES


def alphanumeric(text: str) -> str:
    """Keep 0-9, A-Z, a-z."""
    return text if text.isascii() and text.isalnum() else re.sub("[^0-9A-Za-z]", "", text)


def alphanumeric_lower(text: str) -> str:
    """Keep 0-9, A-Z, a-z, in lower case."""
    return alphanumeric(text.lower())


def without_space(text: str) -> str:
    """White space removed; case and symbols stay."""
    return "".join(text.split())


@cache
def _traditional() -> tuple[Callable[[str, str], str], frozenset[str]]:
    """zhconv's converter, and the characters with which a phrase that it changes may begin."""
    from zhconv.zhconv import convert, getdict

    return convert, frozenset(
        phrase[0] for phrase, simple in getdict("zh-cn").items() if phrase != simple
    )


_HALF_WIDTH = {0x3000: " "} | {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}


@lru_cache(1 << 18)  # both accuracy and NED ask for it, and labels recur
def chinese(text: str) -> str:
    """Full-width forms to half-width, lower case, traditional characters to simplified (zhconv, zh-cn)."""
    text = text.translate(_HALF_WIDTH).lower()
    if text.isascii():
        return text
    convert, changed = _traditional()
    return text if changed.isdisjoint(text) else convert(text, "zh-cn")


_EVERY = (
    Protocol(
        "waics",
        "word accuracy ignoring case and symbols: both sides reduced to 0-9 and a-z, then compared (the paper's)",
        alphanumeric_lower,
        labels="as each set was published; rows that say so, corrected ones",
        sizes=MappingProxyType(ENGLISH),
    ),
    Protocol(
        "case_sensitive",
        "both sides without white space, then compared as they are: case and symbols count",
        without_space,
        labels="as each set was published",
        sizes=MappingProxyType(ENGLISH),
    ),
    Protocol(
        "alnum_case_sensitive",
        "both sides reduced to 0-9, A-Z and a-z, then compared: case counts, symbols do not",
        alphanumeric,
        labels="as each set was published",
        sizes=MappingProxyType(ENGLISH),
    ),
    Protocol(
        "chinese",
        "sentence accuracy of the Chinese benchmark: full-width to half-width, lower case, traditional to simplified; compared",
        chinese,
        labels="as published with the benchmark (arXiv 2112.15093)",
        sizes=MappingProxyType(CHINESE),
    ),
    Protocol(
        "openocr",
        "as OpenOCR: the comparison of waics on IC13-857 and IC15-1811; training data there are filtered Union14M-L",
        alphanumeric_lower,
        labels="as OpenOCR distributes them",
        sizes=MappingProxyType(ENGLISH | {"ic13": 857, "ic15": 1811}),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _EVERY}
LABEL_POLICIES = {
    "strict": "labels too long for the decoder, or with a character other than white space that it has no class for, are wrong",
    "released": "over-long labels and broken images replaced by a later sample, unknown characters taken out of the label",
}


@dataclass(frozen=True)
class Reading:
    """One test image: its number in the subset, its label, what was read, how surely; `readable` is false where the label
    cannot be expressed by the recognizer, or the image could not be decoded."""

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
    return reading.readable and protocol.normalize(reading.prediction) == protocol.normalize(
        reading.label
    )


def count(readings: Iterable[Reading], protocol: Protocol) -> Counts:
    """Correct readings and images; every image counts, whatever became of it."""
    verdicts = [is_correct(reading, protocol) for reading in readings]
    return Counts(sum(verdicts), len(verdicts))


def edit_similarity(readings: Iterable[Reading], protocol: Protocol) -> float:
    """NED: 1 - Levenshtein distance / length of the longer side, both normalized, averaged over images; in [0, 1].

    Two empty sides are equal (1). Every image counts, a label that cannot be expressed included."""
    from rapidfuzz.distance import Levenshtein

    values = [
        Levenshtein.normalized_similarity(
            protocol.normalize(reading.prediction), protocol.normalize(reading.label)
        )
        for reading in readings
    ]
    return sum(values) / len(values)


def as_strict(readings: Iterable[Reading], charset: Charset, max_length: int) -> list[Reading]:
    """Readings under the label policy `strict`, for predictions that say nothing about their labels."""
    return [
        replace(one, readable=one.readable and charset.can_read(one.label, max_length))
        for one in readings
    ]


def as_released(
    readings: Sequence[Reading], charset: Charset, max_length: int
) -> tuple[list[Reading], int]:
    """Readings of a whole subset under the label policy `released`, and how many samples were replaced.

    The released code has no room for a label of max_length - 1 characters; such a sample, and one whose image is broken (not
    readable, though its label could be), gives way to the next that fits, after the last to the first."""

    def fits(reading: Reading) -> bool:
        broken = not reading.readable and charset.can_read(reading.label, max_length)
        return 0 < len(reading.label) < max_length - 1 and not broken

    scored: list[Reading] = []
    substitute = next((one for one in readings if fits(one)), None)
    replaced = 0
    for reading in reversed(readings):
        if fits(reading):
            substitute = reading
        else:
            replaced += 1
        if substitute is None:  # nothing fits
            return list(readings), 0
        label = charset.without_unknown(substitute.label)
        scored.append(replace(substitute, index=reading.index, label=label, readable=True))
    return scored[::-1], replaced
