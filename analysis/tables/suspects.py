"""Test labels that a confident recognizer disagrees with: likely label errors, to look at."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from analysis.tables.prediction_files import Subsets
from core.data.word_images import WordImages
from core.runtime.errors import UserError
from core.runtime.files import write_csv, write_text
from core.text.edit_distance import compare
from core.text.protocols import Prediction, Protocol, is_correct
from results.provenance import REPOSITORY

IGNORED = 0  # exit code of `git check-ignore`


@dataclass(frozen=True)
class Suspect:
    """A label that a confident prediction disagrees with.

    index: of the image in its root, from 0.
    confidence: of the prediction, in [0, 1].
    edits: Levenshtein distance of both texts after the protocol's normalization.
    """

    index: int
    label: str
    prediction: str
    confidence: float
    edits: int

    def line(self) -> str:
        """The suspect as a line of text."""
        return (
            f"{self.index}: label {self.label!r}, predicted {self.prediction!r} "
            f"({self.confidence:.3f}, {self.edits} edits)"
        )


@dataclass(frozen=True)
class Suspects:
    """The suspects of one root, the most confident first.

    protocol: decides what a disagreement is.
    confidence: the least confidence.
    images: number of images with a prediction.
    wrong: predictions that disagree, at any confidence.
    """

    subset: str
    protocol: Protocol
    confidence: float
    images: int
    wrong: int
    suspects: tuple[Suspect, ...]

    def summary(self) -> str:
        """The counts in one line."""
        name = f"{self.subset}: " if self.subset else ""
        return (
            f"{name}{len(self.suspects):,} suspects of {self.wrong:,} disagreements in "
            f"{self.images:,} images (protocol {self.protocol.name}, "
            f"confidence at least {self.confidence:g})"
        )

    def as_json(self) -> dict[str, Any]:
        """The suspects as JSON values."""
        return {
            "subset": self.subset,
            "protocol": self.protocol.name,
            "statement": self.protocol.statement,
            "confidence": self.confidence,
            "images": self.images,
            "wrong": self.wrong,
            "suspects": [asdict(suspect) for suspect in self.suspects],
        }


def find_suspects(
    subset: str, predictions: Sequence[Prediction], protocol: Protocol, confidence: float
) -> Suspects:
    """The suspects among predictions. Images that are not scorable are left out.

    subset: its name.
    predictions: of its images.
    protocol: decides what a disagreement is.
    confidence: the least confidence, in [0, 1].
    """
    wrong = [row for row in predictions if row.scorable and not is_correct(row, protocol)]
    suspects = [
        Suspect(
            index=row.index,
            label=row.label,
            prediction=row.prediction,
            confidence=row.confidence,
            edits=compare(row.label, row.prediction, protocol.normalize).edits,
        )
        for row in wrong
        if row.confidence >= confidence
    ]
    suspects.sort(key=lambda suspect: (-suspect.confidence, suspect.index))
    return Suspects(subset, protocol, confidence, len(predictions), len(wrong), tuple(suspects))


def predictions_of_root(
    file: Path, subsets: Subsets, names: Sequence[str], images: WordImages
) -> tuple[str, list[Prediction]]:
    """The subset of a file that belongs to a root, and its predictions.

    file: the file, for errors.
    subsets: its content.
    names: of the root; if no subset has one of them, the only subset is taken.
    images: of the root. Their labels must be those of the file.

    Raises UserError if no subset belongs to the root.
    """
    named = [name for name in names if name in subsets]
    if not named and len(subsets) > 1:
        raise UserError(
            f"{file}: no subset {' or '.join(names)}; it has {', '.join(sorted(subsets))}; name "
            "the root of one of these"
        )
    subset = named[0] if named else next(iter(subsets))
    predictions = subsets[subset]
    for row in predictions:
        label = images.label(row.index) if 0 <= row.index < len(images) else None
        if (label or "") != row.label:
            raise UserError(
                f"{file}: image {row.index} has the label {row.label!r}, and {label!r} in "
                f"{', '.join(images.roots)}; name the root that was read (numbers are from 0)"
            )
    return subset, predictions


def check_folder(folder: Path) -> None:
    """Raise UserError for a folder that git would track: images of data sets stay out of it."""
    resolved = folder.resolve()
    if not resolved.is_relative_to(REPOSITORY):
        return
    if _is_ignored(resolved / "suspects.png"):
        return
    raise UserError(
        f"--out {folder}: inside the repository, where pictures of data sets could be committed; "
        "choose a folder outside of it"
    )


def _is_ignored(path: Path) -> bool:
    """Whether git ignores a path of the repository. False if git cannot tell."""
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--quiet", str(path)],
            cwd=REPOSITORY,
            capture_output=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == IGNORED


def write_lists(found: Suspects, folder: Path) -> Iterator[Path]:
    """Write suspects.csv and suspects.json; yields the files."""
    table = folder / "suspects.csv"
    header = [field.name for field in fields(Suspect)]
    write_csv(table, header, (astuple(suspect) for suspect in found.suspects))
    yield table
    content = folder / "suspects.json"
    write_text(content, json.dumps(found.as_json(), indent=1, ensure_ascii=False) + "\n")
    yield content
