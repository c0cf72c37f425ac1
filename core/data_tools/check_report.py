"""The report on a checked LMDB root, and the sentences that follow from its counts."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from core.data.key_layout import HARMLESS_KEYS, count_problem, parse_count

SHOWN_KEYS = 20  # in a sentence; the report has more


@dataclass(frozen=True)
class KeyList:
    """A number of keys, and the first of them."""

    count: int
    first: list[str]


@dataclass(frozen=True)
class SizeHistogram:
    """Images by width, height, or width / height. Bins are named by their lower end.

    quantiles: percentage of the images (`0`, `5`, ... `100`) -> the value that they do not exceed.
    """

    median: float
    histogram: dict[str, int]
    quantiles: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ProtocolEffect:
    """What a protocol's normalization does to labels."""

    empty: int  # labels of which nothing remains
    altered: int  # labels that change other than in case


@dataclass(frozen=True)
class LabelReport:
    """Counts of labels. An empty label counts as unlabeled."""

    unlabeled: int
    over_long: int
    unknown_characters: int
    wrong_under_strict: int
    replaced_under_released: int
    lengths: dict[str, int]  # length -> labels
    characters_outside: dict[str, int]  # character outside the charset -> labels that contain it
    protocols: dict[str, ProtocolEffect]


@dataclass(frozen=True)
class Duplicates:
    """Images whose files are equal, byte by byte."""

    groups: int
    images: int
    first: list[list[str]]  # the keys of the first groups


@dataclass(frozen=True)
class RootReport:
    """The content of one root."""

    root: str
    images: int
    num_samples: str | None  # as it is stored
    fingerprint: str
    labeled: bool
    missing_images: KeyList
    missing_labels: KeyList
    beyond_count: KeyList
    other_keys: KeyList
    last_image: int
    undecodable: KeyList
    sizes: dict[str, SizeHistogram]  # width, height, ratio; empty if no image can be decoded
    labels: LabelReport
    duplicates: Duplicates
    undecodable_labels: KeyList
    layout: str = ""  # how the keys are numbered, if not in the standard way
    harmless_keys: dict[str, int] = field(default_factory=dict)  # kind of keys -> number of keys

    @property
    def problems(self) -> list[str]:
        """What is wrong with the root, one sentence each."""
        return list(_problems(self))

    @property
    def notes(self) -> list[str]:
        """What a user should know about the root, one sentence each."""
        return list(_notes(self))

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"problems": self.problems, "notes": self.notes}


def _problems(report: RootReport) -> Iterator[str]:
    declared = report.num_samples
    raw = None if declared is None else declared.encode()
    beyond = report.beyond_count
    is_used = parse_count(raw) == report.images
    problem = count_problem(raw, report.last_image)
    if problem and not (is_used and beyond.count):
        yield problem
    for keys, kind in (
        (report.missing_images, "images missing"),
        (report.missing_labels, "labels missing"),
        (report.undecodable, "images cannot be decoded"),
        (report.undecodable_labels, "labels are not UTF-8"),
        (report.other_keys, "unknown keys"),
    ):
        if keys.count:
            yield f"{keys.count} {kind}: {_key_text(keys)}"
    if beyond.count:
        limit = f"num-samples is {report.images:,}" if is_used else f"{report.images:,} samples"
        yield f"{limit}, but {beyond.count} keys are beyond it: {_key_text(beyond)}"


def _notes(report: RootReport) -> Iterator[str]:
    labels = report.labels
    if report.layout:
        yield f"{report.layout}; the standard layout counts from 1 with 9 digits"
    for kind, number in report.harmless_keys.items():
        yield f"{number:,} keys {kind}-...: {HARMLESS_KEYS[kind]}"
    if report.labeled:
        for count, note in (
            (labels.unlabeled, "images have no label, or an empty one"),
            (labels.over_long, "labels are too long for the decoder"),
            (labels.unknown_characters, "labels have a character outside the charset"),
            (labels.wrong_under_strict, "labels always count as wrong under policy strict"),
            (
                labels.replaced_under_released,
                "labels are replaced by a later sample under policy released",
            ),
        ):
            if count:
                yield f"{count} {note}"
    else:
        yield "no labels: for pre-training only"
    duplicates = report.duplicates
    if duplicates.groups:
        yield (
            f"{duplicates.images} images are copies of each other: "
            f"{duplicates.groups} different files"
        )


def _key_text(keys: KeyList) -> str:
    rest = f" and {keys.count - SHOWN_KEYS} more" if keys.count > SHOWN_KEYS else ""
    return ", ".join(keys.first[:SHOWN_KEYS]) + rest
