"""Evaluation protocols and label policies.

A protocol says how a prediction is compared with its label, on which images, and how subsets are
averaged.

Protocols compare code points. None applies Unicode normalization (NFC, NFKC), because the
published numbers were computed without it:

- `waics`, `openocr`: lower case first, then characters other than 0-9 and a-z are removed. An
  accented letter in one code point (NFC) is removed; in two (NFD) its base letter stays. Full-width
  digits, ligatures and the German sharp s are removed. The Turkish dotted capital I becomes i, and
  the Kelvin sign k.
- `alnum_case_sensitive`: the same without lower case, so these two are removed as well.
- `case_sensitive`: all code points but white space count, zero-width characters included.
- `chinese`: full-width ASCII characters become half-width ones. The Turkish dotted capital I
  becomes i with a combining dot (U+0307). All other forms differ.

`core/text/unicode_forms.py` finds comparisons that depend on the form.

A label policy says what happens to labels that the recognizer cannot express:

- `strict` (default): such an image counts as wrong.
- `released`: as in the authors' code, a later sample replaces over-long labels and broken images,
  in tests too, and unknown characters are removed from the label.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from types import MappingProxyType

from core.text.charset import Charset

# Images of each subset.
COMMON = {"iiit5k": 3000, "ic13": 1015, "svt": 647, "ic15": 2077, "svtp": 645, "cute": 288}
UNION14M = {
    "curve": 2426,
    "multi_oriented": 1369,
    "artistic": 900,
    "contextless": 779,
    "salient": 1585,
    "multi_words": 829,
}
# ArT and Uber are known under several sizes, so they have none here.
EXTENDED = {"host": 2416, "wost": 2416, "coco": 9825}
ENGLISH = COMMON | UNION14M | {"general": 400000} | EXTENDED
CHINESE = {"scene": 63646, "web": 14059, "document": 50000, "handwriting": 23389}
AVERAGING = "Avg: arithmetic mean over subsets; W-Avg: over all images"


@dataclass(frozen=True)
class Protocol:
    """A named way to compare predictions with labels."""

    name: str
    statement: str  # one sentence; printed with every result
    normalize: Callable[[str], str]  # applied to both; equal results count as correct
    labels: str  # the version of the labels
    sizes: Mapping[str, int] = field(default_factory=dict)  # subset -> number of its images
    averaging: str = AVERAGING


def alphanumeric(text: str) -> str:
    """Keep 0-9, A-Z, a-z."""
    return text if text.isascii() and text.isalnum() else re.sub("[^0-9A-Za-z]", "", text)


def alphanumeric_lower(text: str) -> str:
    """Keep 0-9, A-Z, a-z, in lower case."""
    return alphanumeric(text.lower())


def remove_white_space(text: str) -> str:
    """Remove white space. Case and symbols stay."""
    return "".join(text.split())


@cache
def _to_simplified() -> tuple[Callable[[str, str], str], frozenset[str]]:
    """zhconv's converter, and the first characters of all phrases that it changes."""
    from zhconv.zhconv import convert, getdict

    return convert, frozenset(
        phrase[0] for phrase, simple in getdict("zh-cn").items() if phrase != simple
    )


_HALF_WIDTH = {0x3000: " "} | {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}


@lru_cache(1 << 18)  # accuracy and NED normalize the same texts, and labels recur
def chinese(text: str) -> str:
    """Full-width forms to half-width, lower case, traditional characters to simplified (zhconv)."""
    text = text.translate(_HALF_WIDTH).lower()
    if text.isascii():
        return text
    convert, changed = _to_simplified()
    return text if changed.isdisjoint(text) else convert(text, "zh-cn")


_PROTOCOLS = (
    Protocol(
        "waics",
        "word accuracy ignoring case and symbols: "
        "both sides reduced to 0-9 and a-z, then compared (the paper's)",
        alphanumeric_lower,
        labels="as each set was published; corrected ones in rows that say so",
        sizes=MappingProxyType(ENGLISH),
    ),
    Protocol(
        "case_sensitive",
        "both sides without white space, then compared: case and symbols count",
        remove_white_space,
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
        "sentence accuracy of the Chinese benchmark: both sides converted from full width to half "
        "width, to lower case and from traditional to simplified characters, then compared",
        chinese,
        labels="as published with the benchmark (arXiv 2112.15093)",
        sizes=MappingProxyType(CHINESE),
    ),
    Protocol(
        "openocr",
        "OpenOCR's: compared as waics, on IC13-857 and IC15-1811; "
        "OpenOCR trains on filtered Union14M-L",
        alphanumeric_lower,
        labels="as OpenOCR distributes them",
        sizes=MappingProxyType(ENGLISH | {"ic13": 857, "ic15": 1811}),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _PROTOCOLS}
LABEL_POLICIES = {
    "strict": "labels too long for the decoder, or with a character other than white space that it "
    "has no class for, are wrong",
    "released": "over-long labels and broken images replaced by a later sample, unknown characters "
    "taken out of the label",
}


@dataclass(frozen=True)
class Prediction:
    """The prediction for one test image."""

    index: int  # number of the image in its subset
    label: str
    prediction: str
    confidence: float
    scorable: bool = True  # false: the label cannot be expressed, or the image not decoded
    # Negative log-likelihood of the label in nats, EOS included; None if it was not computed.
    nll: float | None = None


@dataclass(frozen=True)
class Counts:
    """Correct predictions and images. Counts of several processes or subsets can be added."""

    correct: int
    images: int


def is_correct(prediction: Prediction, protocol: Protocol) -> bool:
    """Whether a prediction counts as correct under a protocol."""
    if not prediction.scorable:
        return False
    return protocol.normalize(prediction.prediction) == protocol.normalize(prediction.label)


def count_correct(predictions: Iterable[Prediction], protocol: Protocol) -> Counts:
    """Correct predictions and images. Images that are not scorable count, too."""
    verdicts = [is_correct(prediction, protocol) for prediction in predictions]
    return Counts(sum(verdicts), len(verdicts))


def edit_similarity(predictions: Iterable[Prediction], protocol: Protocol) -> float:
    """NED: 1 - Levenshtein distance / length of the longer text, averaged over images; in [0, 1].

    Both texts are normalized by the protocol. Two empty texts are equal (1). Images that are not
    scorable count, too.
    """
    from rapidfuzz.distance import Levenshtein

    values = [
        Levenshtein.normalized_similarity(
            protocol.normalize(prediction.prediction), protocol.normalize(prediction.label)
        )
        for prediction in predictions
    ]
    return sum(values) / len(values)


def apply_strict_policy(
    predictions: Iterable[Prediction], charset: Charset, max_length: int
) -> list[Prediction]:
    """Predictions under label policy `strict`, for files that do not store `scorable`."""
    return [
        replace(
            prediction,
            scorable=prediction.scorable and charset.can_express(prediction.label, max_length),
        )
        for prediction in predictions
    ]


def apply_released_policy(
    predictions: Sequence[Prediction], charset: Charset, max_length: int
) -> tuple[list[Prediction], int]:
    """The predictions of a whole subset under label policy `released`.

    The released code has no room for a label of max_length - 1 characters. It replaces such a
    sample, and one whose image is broken, by the next sample that fits; after the last sample it
    continues with the first. An image is broken if it is not scorable although its label can be
    expressed.

    Returns:
        The predictions, and the number of replaced samples.
    """

    def fits(prediction: Prediction) -> bool:
        broken = not prediction.scorable and charset.can_express(prediction.label, max_length)
        return 0 < len(prediction.label) < max_length - 1 and not broken

    substitute = next((prediction for prediction in predictions if fits(prediction)), None)
    scored: list[Prediction] = []
    replaced = 0
    for prediction in reversed(predictions):
        if fits(prediction):
            substitute = prediction
        else:
            replaced += 1
        if substitute is None:  # no sample fits
            return list(predictions), 0
        label = charset.remove_unknown(substitute.label)
        scored.append(replace(substitute, index=prediction.index, label=label, scorable=True))
    return scored[::-1], replaced
